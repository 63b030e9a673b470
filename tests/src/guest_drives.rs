//! Enrolled drives in a guest without Bacula: what becomes of them when they are plugged and pulled.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::guest_site::GuestSite;
use crate::vm::{Drive, Output, Running, Size, Vm};

/// More than enough for whatever a person would wait for, also under emulation on a busy machine.
pub const SOON: Duration = Duration::from_mins(3);

/// Prepares in no time: nothing of the drive's past is worth hiding here.
pub const QUICK: &str = "--skip-wipe --volumes 2";

/// A drive's size in MiB that a LUKS header and an ext4 filesystem find room on.
pub const SMALL: u32 = 48;

/// Succeeds in the guest when no drive is open.
pub const NOTHING_OPEN: &str =
    "! dmsetup ls | grep offsite- && ! grep -e ' /srv/offsite/' -e /run/offsite/ /proc/mounts";

/// A site whose drives lie idle after three seconds.
#[derive(Debug)]
pub struct DriveSite<'vm> {
    /// The server.
    pub vm: &'vm Vm,
}

/// An enrolled drive.
#[derive(Debug)]
pub struct Magazine {
    /// What stands on its sticker.
    pub name: String,
    /// The drive.
    pub drive: Drive,
    /// The container's UUID.
    pub luks_uuid: String,
    /// The UUID of the filesystem inside.
    pub fs_uuid: String,
}

impl Magazine {
    /// Where its filesystem appears.
    pub fn path(&self) -> String {
        format!("/srv/offsite/{}", self.fs_uuid)
    }
}

impl<'vm> DriveSite<'vm> {
    /// Installs the programs and a site.toml with short patience.
    ///
    /// # Errors
    /// When they aren't built or the guest refuses.
    pub fn install(vm: &'vm Vm) -> Result<Self> {
        GuestSite::install(vm)?;
        vm.write("/etc/offsite/site.toml", "idle_seconds = 3\n", 0o644)?;
        Ok(Self { vm })
    }

    /// Plugs a blank drive in.
    ///
    /// # Errors
    /// When the drive doesn't appear.
    pub fn blank(&self, serial: &str, mib: u32) -> Result<Drive> {
        let drive = self.vm.blank_drive(serial, Size::mib(mib))?;
        self.plug(&drive)?;
        Ok(drive)
    }

    /// Plugs a drive and waits until udev has given it its name.
    ///
    /// # Errors
    /// When it doesn't appear.
    pub fn plug(&self, drive: &Drive) -> Result<()> {
        self.vm.plug(drive)?;
        self.vm.wait_for("the drive's name", SOON, &format!("test -b {}", drive.by_id()))?;
        Ok(())
    }

    /// Runs `offsite prepare` to its end, however that is.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn prepare(&self, drive: &Drive, name: &str, options: &str) -> Result<Output> {
        let command = prepare_command(drive, name, options);
        self.vm.run_within(&command, Duration::from_mins(5))
    }

    /// Prepares a blank drive, and leaves it plugged.
    ///
    /// # Errors
    /// When preparing fails.
    pub fn prepared(&self, name: &str, mib: u32, options: &str) -> Result<Magazine> {
        let drive = self.blank(&format!("DRIVE-{name}"), mib)?;
        let output = self.prepare(&drive, name, options)?;
        ensure!(output.success(), "not prepared: {output:?}");
        self.enrolled(drive, name)
    }

    /// Prepares a drive and takes it away, as into the safe.
    ///
    /// # Errors
    /// As [`DriveSite::prepared`].
    pub fn put_away(&self, name: &str, mib: u32, options: &str) -> Result<Magazine> {
        let magazine = self.prepared(name, mib, &format!("{QUICK} {options}"))?;
        self.vm.unplug(&magazine.drive)?;
        Ok(magazine)
    }

    /// What is enrolled under a name.
    ///
    /// # Errors
    /// When nothing is.
    pub fn enrolled(&self, drive: Drive, name: &str) -> Result<Magazine> {
        let known = self.status(name)?;
        let field = |key: &str| -> Result<String> {
            Ok(known
                .get(key)
                .and_then(Value::as_str)
                .with_context(|| format!("no {key}: {known}"))?
                .to_owned())
        };
        Ok(Magazine { name: name.into(), drive, luks_uuid: field("luks_uuid")?, fs_uuid: field("fs_uuid")? })
    }

    /// What `offsite status` tells of a magazine.
    ///
    /// # Errors
    /// When it is enrolled twice or not at all.
    pub fn status(&self, name: &str) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.vm.sh("offsite status --json")?)?;
        let magazines = status.get("magazines").and_then(Value::as_array).context("no magazines")?;
        let mut named = magazines.iter().filter(|m| m.get("name").and_then(Value::as_str) == Some(name));
        let one = named.next().with_context(|| format!("{name} isn't enrolled: {status}"))?.clone();
        ensure!(named.next().is_none(), "{name} is enrolled twice: {status}");
        Ok(one)
    }

    /// Waits until `offsite status` gives a magazine that state.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn wait_for_state(&self, magazine: &Magazine, state: &str) -> Result<()> {
        self.vm.wait_until(&format!("{} to be {state}", magazine.name), SOON, || {
            Ok(self.status(&magazine.name)?.get("state").and_then(Value::as_str) == Some(state))
        })?;
        Ok(())
    }

    /// Whether a magazine is marked as torn out.
    ///
    /// # Errors
    /// When the status doesn't tell.
    pub fn torn(&self, magazine: &Magazine) -> Result<bool> {
        self.status(&magazine.name)?.get("torn").and_then(Value::as_bool).context("no word of torn")
    }

    /// Starts offsited.
    ///
    /// # Errors
    /// When it doesn't start.
    pub fn start(&self) -> Result<()> {
        self.vm.sh("systemctl start offsited").map(drop)
    }

    /// Waits until the drive's volumes can be listed; nothing is typed but `ls`.
    ///
    /// # Errors
    /// When they can't be in time.
    pub fn wait_for_volumes(&self, magazine: &Magazine) -> Result<()> {
        let list = format!("timeout 30 ls {} | grep -x c0_{}_0002", magazine.path(), magazine.name);
        self.vm.wait_for(&format!("the volumes of {}", magazine.name), SOON, &list)?;
        Ok(())
    }

    /// Waits until every drive is locked.
    ///
    /// # Errors
    /// When one stays open.
    pub fn wait_for_rest(&self) -> Result<()> {
        self.vm.wait_for("everything to be locked", SOON, NOTHING_OPEN)?;
        Ok(())
    }

    /// Looking where a drive isn't gives an error, and gives it at once.
    ///
    /// # Errors
    /// When it is otherwise.
    pub fn ensure_absent(&self, magazine: &Magazine) -> Result<()> {
        let seen = self.vm.run(&format!("timeout 20 ls {}", magazine.path()))?;
        ensure!(seen.status == 2, "listing what isn't there: {seen:?}");
        Ok(())
    }

    /// A process that holds a volume open; when told, it writes to it and says how that ended.
    ///
    /// # Errors
    /// When the volume can't be opened.
    pub fn holder(&self, magazine: &Magazine) -> Result<Running> {
        let volume = format!("{}/c0_{}_0001", magazine.path(), magazine.name);
        let holder = self.vm.spawn(&format!(
            "exec 9<>{volume} && touch /run/held; until [ -e /run/write ]; do sleep 0.1; done\n\
             timeout 30 dd if=/dev/zero bs=4096 count=1 conv=fsync status=none >&9; echo write $? >/run/written\n\
             until [ -e /run/end ]; do sleep 0.1; done"
        ))?;
        self.vm.wait_for("the holder", SOON, "test -e /run/held")?;
        Ok(holder)
    }
}

/// The command that makes a drive a magazine.
pub fn prepare_command(drive: &Drive, name: &str, options: &str) -> String {
    format!("offsite prepare {} --name {name} --yes-destroy {} {options}", drive.by_id(), drive.serial())
}
