//! The peer: drives unlocked inside a udev rule and mounted by autofs(8), as the tutorial sets them up.
//! One repair: the rule as printed lacks its `LABEL="end"`.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::vm::{Drive, Vm};

const RULE: &str = include_str!("../guest/tutorial/55-eSATA-LUKS.rules");
const KEY: &str = "/etc/bacula/include/Bacula_Key_File";
const MOUNT_ROOT: &str = "/mnt/eSATA-1_Backups";
/// Longer than udevd lets a rule's program live (180 s).
const PLUG_LIMIT: Duration = Duration::from_mins(4);

/// The tutorial's set-up in a guest.
#[derive(Debug)]
pub struct Tutorial<'vm> {
    vm: &'vm Vm,
}

impl<'vm> Tutorial<'vm> {
    /// Makes the key file, writes the autofs maps and starts automount. The udev rule comes with
    /// [`Tutorial::unlock_by_udev`], after the drives are prepared.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn install(vm: &'vm Vm) -> Result<Self> {
        vm.sh(&format!(
            "install -d -m 700 $(dirname {KEY}) && head -c 4096 /dev/urandom >{KEY} && chmod 400 {KEY} && mkdir -p {MOUNT_ROOT}"
        ))?;
        vm.write(
            "/etc/auto.master.d/vchanger.autofs",
            format!("{MOUNT_ROOT} /etc/autofs/auto.vchanger --timeout=30\n"),
            0o644,
        )?;
        vm.write("/etc/autofs/auto.vchanger", "*\t-fstype=auto,rw,sync\t:/dev/disk/by-uuid/&\n", 0o644)?;
        vm.sh("systemctl restart autofs")?;
        Ok(Self { vm })
    }

    /// Prepares a plugged drive: passphrase in slot 0, the key file in slot 1, slot 0 killed, a filesystem.
    /// The slots cost a thousand iterations, so that times tell of the set-up and not of the key derivation.
    /// Returns the filesystem's UUID.
    ///
    /// # Errors
    /// When a command fails.
    pub fn prepare(&self, drive: &Drive) -> Result<String> {
        let script = format!(
            "set -e; device={device}; quick='--pbkdf pbkdf2 --pbkdf-force-iterations 1000'\n\
             echo -n weak >/run/weak\n\
             cryptsetup -q luksFormat $quick --key-file /run/weak $device\n\
             cryptsetup -q luksAddKey $quick --key-slot 1 --key-file /run/weak $device {KEY}\n\
             cryptsetup -q luksKillSlot --key-file {KEY} $device 0\n\
             cryptsetup open --key-file {KEY} $device preparing\n\
             mkfs.ext4 -q /dev/mapper/preparing\n\
             blkid -p -s UUID -o value /dev/mapper/preparing >/run/uuid\n\
             udevadm settle; cryptsetup close preparing; cat /run/uuid",
            device = drive.by_id(),
        );
        Ok(self.vm.sh(&script)?.trim().to_owned())
    }

    /// Puts the tutorial's rule in place: from now on what is plugged is unlocked inside udev's worker.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn unlock_by_udev(&self) -> Result<()> {
        self.vm.write("/etc/udev/rules.d/55-eSATA-LUKS.rules", RULE, 0o644)?;
        self.vm.sh("udevadm control --reload").map(drop)
    }

    /// Where a filesystem is mounted on access.
    pub fn path(uuid: &str) -> String {
        format!("{MOUNT_ROOT}/{uuid}")
    }

    /// Plugs a drive and returns the time until its files are listed. The path isn't touched before udev
    /// knows the filesystem: autofs(8) remembers a failure for a minute.
    ///
    /// # Errors
    /// When they aren't listed within four minutes.
    pub fn plug_to_listing(&self, drive: &Drive, uuid: &str) -> Result<Duration> {
        let path = Self::path(uuid);
        let listed = self.vm.spawn(&format!(
            "touch /run/waiting; until [ -e /dev/disk/by-uuid/{uuid} ]; do sleep 0.02; done\n\
             until ls {path} && mountpoint -q {path}; do sleep 0.02; done >/dev/null 2>&1"
        ))?;
        self.vm.wait_for("the watcher", Duration::from_mins(1), "test -e /run/waiting")?;
        let plugged = Instant::now();
        self.vm.plug(drive)?;
        listed.wait(PLUG_LIMIT)?;
        Ok(plugged.elapsed())
    }
}
