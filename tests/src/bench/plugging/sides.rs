//! The set-ups that are compared, in one guest and on the same drives; one of them is up at a time.

use std::slice;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::guest_site::GuestSite;
use crate::tutorial::Tutorial;
use crate::vm::{Drive, Running, Size, Vm};

/// More than anything takes that comes to an end by itself.
pub(in crate::bench) const LIMIT: Duration = Duration::from_mins(3);
/// Seconds without use after which every set-up unmounts.
pub(in crate::bench) const IDLE: u32 = 4;

/// One drive with `offsite prepare`d contents.
pub(in crate::bench) struct Prepared {
    pub(in crate::bench) drive: Drive,
    pub(in crate::bench) luks_uuid: String,
    pub(in crate::bench) fs_uuid: String,
    pub(in crate::bench) name: &'static str,
}

/// The set-ups and their drives.
pub(in crate::bench) struct Sides<'vm> {
    pub(in crate::bench) vm: &'vm Vm,
    tutorial: Tutorial<'vm>,
    pub(in crate::bench) drives: Vec<Prepared>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Side {
    Ours,
    /// The tutorial's udev rule and autofs(8) maps.
    Tutorial,
    /// systemd-cryptsetup by crypttab and an automount unit by fstab, both `noauto`.
    Systemd,
}

impl Side {
    pub(in crate::bench) const PEERS: [Self; 2] = [Self::Tutorial, Self::Systemd];

    pub(in crate::bench) fn name(self) -> &'static str {
        match self {
            Self::Ours => "offsited",
            Self::Tutorial => "udev rule + autofs(8)",
            Self::Systemd => "systemd-cryptsetup + automount",
        }
    }
}

/// What the guest waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::bench) enum Goal {
    /// Files are listed; the first question comes once udev has linked what the set-up starts from.
    ListedOnceLinked,
    /// Files are listed; it is asked from before the plug on, as Bacula does.
    Listed,
    /// Something can be written, which a dead mount in the cache doesn't allow.
    Written,
}

impl<'vm> Sides<'vm> {
    /// Prepares a drive for each name and installs all set-ups; none is up.
    pub(in crate::bench) fn set_up(vm: &'vm Vm, names: &[&'static str]) -> Result<Self> {
        GuestSite::install(vm)?;
        let text = vm.sh("cat /etc/offsite/site.toml")?;
        vm.write("/etc/offsite/site.toml", format!("idle_seconds = {IDLE}\n{text}"), 0o644)?;
        let drives = names.iter().map(|name| prepare(vm, name)).collect::<Result<Vec<_>>>()?;
        let tutorial = Tutorial::install(vm)?;
        vm.sh(&format!(
            "set -e; install -m 400 /etc/offsite/key /etc/bacula/include/Bacula_Key_File\n\
             sed -i 's/--timeout=30/--timeout={IDLE}/' /etc/auto.master.d/vchanger.autofs\n\
             systemctl stop autofs; mkdir -p /mnt/stock"
        ))?;
        let sides = Self { vm, tutorial, drives };
        sides.write_tables()?;
        sides.unplug(&sides.drives)?;
        Ok(sides)
    }

    /// crypttab(5) and fstab(5) as their manuals say for a drive that isn't always there.
    fn write_tables(&self) -> Result<()> {
        let (mut crypttab, mut fstab) = (String::new(), self.vm.sh("cat /etc/fstab")?);
        for drive in &self.drives {
            let (name, luks, fs) = (drive.name, &drive.luks_uuid, &drive.fs_uuid);
            crypttab.push_str(&format!(
                "stock-{name} UUID={luks} /etc/offsite/key luks,noauto,nofail,key-slot=1\n"
            ));
            fstab.push_str(&format!(
                "/dev/mapper/stock-{name} /mnt/stock/{fs} ext4 noauto,nofail,x-systemd.automount,\
                 x-systemd.idle-timeout={IDLE},x-systemd.device-timeout=10 0 0\n"
            ));
        }
        self.vm.write("/etc/crypttab", crypttab, 0o644)?;
        self.vm.write("/etc/fstab", fstab, 0o644)?;
        self.vm.sh("systemctl daemon-reload").map(drop)
    }

    pub(in crate::bench) fn first(&self) -> Result<&Prepared> {
        self.drives.first().context("a drive")
    }

    pub(in crate::bench) fn path(side: Side, prepared: &Prepared) -> String {
        match side {
            Side::Ours => format!("/srv/offsite/{}", prepared.fs_uuid),
            Side::Tutorial => Tutorial::path(&prepared.fs_uuid),
            Side::Systemd => format!("/mnt/stock/{}", prepared.fs_uuid),
        }
    }

    /// Brings one set-up up; the others are down.
    pub(in crate::bench) fn up(&self, side: Side) -> Result<()> {
        match side {
            Side::Ours => self.vm.sh("systemctl start offsited").map(drop),
            Side::Tutorial => {
                self.vm.sh("systemctl start autofs")?;
                self.tutorial.unlock_by_udev()
            }
            Side::Systemd => self.vm.sh(&format!("systemctl start {}", self.units("automount"))).map(drop),
        }
    }

    fn units(&self, kind: &str) -> String {
        let name =
            |p: &Prepared| format!("$(systemd-escape --path --suffix={kind} /mnt/stock/{})", p.fs_uuid);
        self.drives.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    /// Takes a set-up down, with its mounts and mappings, also those of drives that are gone.
    pub(in crate::bench) fn down(&self, side: Side) -> Result<()> {
        let stop = match side {
            Side::Ours => "systemctl stop offsited".to_owned(),
            Side::Tutorial => {
                "systemctl stop autofs; rm -f /etc/udev/rules.d/55-eSATA-LUKS.rules; udevadm control --reload"
                    .to_owned()
            }
            Side::Systemd => format!(
                "systemctl stop {} {}; systemctl stop 'systemd-cryptsetup@stock*'; systemctl reset-failed",
                self.units("automount"),
                self.units("mount")
            ),
        };
        self.vm
            .sh(&format!(
                "{stop}; udevadm settle --timeout=20\n\
                 for mapping in $(dmsetup ls --target crypt | grep -v '^No' | cut -f1); do\n\
                 umount -q --lazy /dev/mapper/$mapping; cryptsetup close $mapping || dmsetup remove --force $mapping || exit 1; done"
            ))
            .map(drop)
    }

    pub(in crate::bench) fn unplug(&self, drives: &[Prepared]) -> Result<()> {
        for prepared in drives {
            self.vm.unplug(&prepared.drive)?;
        }
        self.vm.wait_for("the drives to go", LIMIT, "! ls /dev/sd* && udevadm settle").map(drop)
    }

    pub(in crate::bench) fn unplug_one(&self, prepared: &Prepared) -> Result<()> {
        self.unplug(slice::from_ref(prepared))
    }

    /// Starts the loop that ends when a drive's goal is reached.
    pub(in crate::bench) fn watch(&self, side: Side, goal: Goal, prepared: &Prepared) -> Result<Running> {
        let path = Self::path(side, prepared);
        let name = prepared.name;
        let linked = match (goal, side) {
            (Goal::Listed | Goal::Written, _) => String::new(),
            // The tutorial unlocks at the plug, the others on access: udev knows no more than the container.
            (Goal::ListedOnceLinked, Side::Tutorial) => until_linked(&prepared.fs_uuid),
            (Goal::ListedOnceLinked, _) => until_linked(&prepared.luks_uuid),
        };
        let listed = format!("[[ $(ls {path} 2>/dev/null) == *c0_{name}_0001* ]]");
        let condition = match goal {
            Goal::Written => format!(
                "{listed} && timeout 5 dd if=/dev/zero of={path}/again bs=4k count=1 conv=fsync 2>/dev/null"
            ),
            _ => listed,
        };
        let running = self.vm.spawn(&format!(
            "touch /run/watching-{name}\n{linked}\
             end=$((SECONDS + {})); until {condition}; do sleep 0.02; [ $SECONDS -lt $end ] || exit 1; done",
            LIMIT.as_secs()
        ))?;
        let ready = format!("test -e /run/watching-{name} && rm /run/watching-{name}");
        self.vm.wait_for("the loop in the guest", LIMIT, &ready)?;
        Ok(running)
    }

    /// Plugs the drive into a set-up that is up, and waits until its files are listed.
    pub(in crate::bench) fn plug_and_list(&self, side: Side, prepared: &Prepared) -> Result<()> {
        let listed = self.watch(side, Goal::ListedOnceLinked, prepared)?;
        self.vm.plug(&prepared.drive)?;
        listed.wait(LIMIT).map(drop)
    }
}

fn until_linked(uuid: &str) -> String {
    format!("until [[ -e /dev/disk/by-uuid/{uuid} ]]; do sleep 0.02; done\n")
}

fn prepare(vm: &Vm, name: &'static str) -> Result<Prepared> {
    let drive = vm.blank_drive(&format!("BENCH-{name}"), Size::mib(160))?;
    vm.plug(&drive)?;
    vm.wait_for("the drive", LIMIT, &format!("test -b {}", drive.by_id()))?;
    let said = vm.sh_within(
        &format!(
            "offsite prepare {} --name {name} --skip-wipe --volumes 3 --json --yes-destroy {} 2>/dev/null",
            drive.by_id(),
            drive.serial()
        ),
        LIMIT,
    )?;
    // What comes before the report is for people.
    let report = said.find('{').and_then(|at| said.get(at..)).unwrap_or_default();
    let report: serde_json::Value = serde_json::from_str(report).context(said.clone())?;
    let of = |key: &str| {
        let value = report.get("magazine").and_then(|m| m.get(key)).and_then(|v| v.as_str());
        value.map(str::to_owned).with_context(|| format!("no {key} in {report}"))
    };
    let (luks_uuid, fs_uuid) = (of("luks_uuid")?, of("fs_uuid")?);
    Ok(Prepared { drive, luks_uuid, fs_uuid, name })
}
