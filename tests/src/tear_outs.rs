//! Drives torn out at a moment of one's choice, and whether everything is well afterwards.
//!
//! A moment is hit by making the drive slow (`Vm::slow_down`), so that the step takes seconds, and by pulling the drive
//! when the kernel shows that the step is under way: which system call the daemon is in, that requests wait in the
//! drive, what is unlocked and mounted. It counts only if that was so until the drive had gone.

use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::guest_drives::{DriveSite, Magazine, QUICK, SMALL, SOON};
use crate::vm::{Output, Running, Vm};

/// What the drive is in the midst of when it is torn out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Its header and key slot are being read.
    Unlock,
    /// The kernel mounts its filesystem.
    Mount,
    /// A program writes to a file.
    Write,
    /// What was written is being flushed.
    Flush,
    /// The kernel unmounts its filesystem.
    Unmount,
    /// It is unmounted and being locked.
    Close,
    /// It lies locked in its dock.
    Idle,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Unlock, Self::Mount, Self::Write, Self::Flush, Self::Unmount, Self::Close, Self::Idle];

    /// Whether the drive is in use before the step begins.
    fn begins_mounted(self) -> bool {
        !matches!(self, Self::Unlock | Self::Mount | Self::Idle)
    }

    /// Whether a program that uses the drive must be told that it is gone.
    fn must_fail(self) -> bool {
        matches!(self, Self::Unlock | Self::Mount | Self::Write)
    }

    /// How slow the drive is in requests a second, until the step is near and from then on.
    fn paces(self) -> (u32, u32) {
        match self {
            Self::Unlock | Self::Close => (2, 2),
            // Unlocking comes first, and takes some hundred requests.
            Self::Mount => (30, 2),
            Self::Write | Self::Unmount => (3, 3),
            Self::Flush => (4, 4),
            Self::Idle => (0, 0),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unlock => "unlock",
            Self::Mount => "mount",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Unmount => "unmount",
            Self::Close => "close",
            Self::Idle => "idle",
        })
    }
}

/// What is plugged next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// The same drive, in another port; while another drive has its name, under another name.
    Same,
    /// Another drive in the same port.
    Other,
    /// Both at once.
    Both,
}

/// The time between the last look that saw the step under way and the drive's going, at most: a step that ended well
/// before the drive had gone wasn't hit.
const HELD_UNTIL: f64 = 1.0;

/// How often a moment is tried again when the step was over too soon.
const TRIES: u32 = 12;

/// What came of tearing a drive out again and again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tally {
    /// Drives torn out at the moment.
    pub torn: u32,
    /// Of these, how often all was well again without reboot or command.
    pub recovered: u32,
    /// Mappings that stayed behind.
    pub stale: u32,
    /// Processes that hung.
    pub hung: u32,
    /// Tries in which the step was over before the drive had gone; they were repeated.
    pub missed: u32,
    /// What was not well, in words.
    pub troubles: Vec<String>,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.torn += other.torn;
        self.recovered += other.recovered;
        self.stale += other.stale;
        self.hung += other.hung;
        self.missed += other.missed;
        self.troubles.extend(other.troubles);
    }

    /// Takes down what the guest said after a tear-out, line by line.
    fn note(&mut self, said: &str) {
        for line in said.lines() {
            let (kind, _) = line.split_once(':').unwrap_or_default();
            match kind {
                "stale" => self.stale += 1,
                "hung" => self.hung += 1,
                _ if kind.is_empty() => continue,
                _ => {}
            }
            self.troubles.push(line.to_owned());
        }
    }
}

/// A server with two drives, one of which is torn out again and again.
#[derive(Debug)]
pub struct Bench<'vm> {
    site: DriveSite<'vm>,
    a: Magazine,
    b: Magazine,
}

impl<'vm> Bench<'vm> {
    /// Prepares both drives and starts the daemon.
    ///
    /// # Errors
    /// When something of that fails.
    pub fn set_up(vm: &'vm Vm) -> Result<Self> {
        let site = DriveSite::install(vm)?;
        let mut drives = Vec::new();
        for name in ["A", "B"] {
            let magazine = site.prepared(name, SMALL, QUICK)?;
            let device = magazine.drive.by_id();
            vm.sh(&format!(
                "cryptsetup open --key-file /etc/offsite/key {device} fill && mount /dev/mapper/fill /mnt && \
                 echo kept >/mnt/kept && umount /mnt && udevadm settle && cryptsetup close fill"
            ))?;
            vm.unplug(&magazine.drive)?;
            drives.push(magazine);
        }
        // No step begins again because the drive was locked in between: slow as it is, that would take minutes.
        vm.sh("sed -i 's/^idle_seconds = .*/idle_seconds = 600/' /etc/offsite/site.toml")?;
        site.start()?;
        let [a, b] = drives.try_into().ok().context("two drives")?;
        Ok(Self { site, a, b })
    }

    /// Tears the first drive out at `moment` until `tally` has `count` of them; each time something else is plugged next.
    ///
    /// # Errors
    /// When the machine doesn't do what it is told; troubles of the system under test are told in the tally, and what
    /// was counted until then stands.
    pub fn tear_out(&self, moment: Moment, count: u32, tally: &mut Tally) -> Result<()> {
        while tally.torn < count {
            let n = tally.torn;
            // Also with a count of one each kind has its turn, at one moment or another.
            let next = match (n + moment as u32) % 3 {
                0 => Next::Same,
                1 => Next::Other,
                _ => Next::Both,
            };
            let before = tally.troubles.len();
            self.tear_out_once(moment, tally).with_context(|| format!("{moment} {n}"))?;
            match self.use_again(next) {
                Ok(()) if tally.troubles.len() == before => tally.recovered += 1,
                Ok(()) => {}
                Err(error) => {
                    tally.troubles.push(format!("next {next:?}: {error:#}"));
                    self.give_up_on()?;
                }
            }
        }
        Ok(())
    }

    fn tear_out_once(&self, moment: Moment, tally: &mut Tally) -> Result<()> {
        let vm = self.site.vm;
        for _ in 0..TRIES {
            vm.plug_into(&self.a.drive, 1)?;
            self.bring_to(moment)?;
            let (far, near) = moment.paces();
            vm.slow_down(&self.a.drive, far)?;
            let step = vm.spawn(&format!(
                "moment={moment} device={} at={} magazine={}\n{}",
                self.a.drive.by_id(),
                self.a.path(),
                self.a.name,
                include_str!("../guest/tear-out.sh"),
            ))?;
            if near != far {
                wait_for_word(&step, &["near", "passed"])?;
                vm.slow_down(&self.a.drive, near)?;
            }
            let hit = wait_for_word(&step, &["hit", "passed"])? == "hit";
            vm.unplug(&self.a.drive)?;
            let seen = step.wait(Duration::from_mins(3))?;
            ensure!(seen.text.lines().any(|line| line == "done"), "the guest broke off: {seen:?}");
            if hit && held_to_the_end(&seen)? {
                tally.torn += 1;
                tally.note(&seen.text);
                if moment.must_fail() && seen.text.lines().any(|line| line == "step 0") {
                    tally.troubles.push(format!("nobody was told of the lost drive: {}", seen.text));
                }
                return Ok(());
            }
            tally.missed += 1;
        }
        bail!("the step was over before the drive had gone, {TRIES} times")
    }

    /// Waits until the plugged drive is in the state from which the step begins.
    fn bring_to(&self, moment: Moment) -> Result<()> {
        let at = self.a.path();
        let ready = if moment.begins_mounted() {
            format!("ls {at}/kept && udevadm settle")
        } else {
            "udevadm settle; offsite status | grep '^A  plugged, locked'".into()
        };
        let device = self.a.drive.by_id();
        self.site.vm.wait_for("the drive to be ready", SOON, &format!("test -b {device} && {ready}"))?;
        Ok(())
    }

    /// Plugs what comes next and uses it, with nothing but `ls`; then takes it away.
    fn use_again(&self, next: Next) -> Result<()> {
        let vm = self.site.vm;
        let plugged: Vec<&Magazine> = match next {
            Next::Same => vec![&self.a],
            Next::Other => vec![&self.b],
            Next::Both => vec![&self.b, &self.a],
        };
        let ports: &[u8] = match next {
            Next::Same => &[5],
            Next::Other => &[1],
            Next::Both => &[1, 5],
        };
        for (magazine, port) in plugged.iter().zip(ports) {
            vm.plug_into(&magazine.drive, *port)?;
        }
        let mut script = String::from("set -e\n");
        for Magazine { name, .. } in &plugged {
            let at = self.path_of(name);
            write!(
                script,
                "for n in $(seq 400); do timeout 30 ls {at} 2>/dev/null | grep -qx c0_{name}_0002 && break; sleep 0.1; done\n\
                 [[ $(cat {at}/kept) = kept ]]; echo new >{at}/new; sync {at}/new\n\
                 offsite status | grep '^{name} ' | grep -v 'was pulled'\n"
            )?;
        }
        for Magazine { name, .. } in &plugged {
            writeln!(script, "offsite lock {name}")?;
        }
        script += "for n in $(seq 600); do dmsetup ls | grep -q offsite- || break; sleep 0.1; done\n";
        script += "! dmsetup ls | grep offsite-; ! grep ' /srv/offsite/' /proc/mounts\n";
        vm.sh(&script)?;
        for magazine in plugged {
            vm.unplug(&magazine.drive)?;
        }
        Ok(())
    }

    fn path_of(&self, name: &str) -> String {
        if name == self.a.name { self.a.path() } else { self.b.path() }
    }

    /// Takes away what a failed try left plugged, so that the next one begins as the first.
    fn give_up_on(&self) -> Result<()> {
        for magazine in [&self.a, &self.b] {
            let _ = self.site.vm.unplug(&magazine.drive); // it may be away already
        }
        self.site.wait_for_state(&self.a, "away")
    }
}

/// Waits until a script has written one of some words in a line of its own.
fn wait_for_word(running: &Running, words: &[&'static str]) -> Result<&'static str> {
    let end = std::time::Instant::now() + Duration::from_mins(3);
    while std::time::Instant::now() < end {
        let text = running.text();
        if let Some(word) = words.iter().find(|word| text.lines().any(|line| line == **word)) {
            return Ok(word);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the step didn't begin within three minutes: {}", running.text())
}

/// Whether the step was under way until the drive had gone.
fn held_to_the_end(seen: &Output) -> Result<bool> {
    let line = seen.text.lines().find(|line| line.starts_with("held ")).context("no word of the moment")?;
    let words: Vec<&str> = line.split(' ').collect();
    let [_, until, _, gone] = words.as_slice() else { bail!("{line}") };
    Ok(gone.parse::<f64>()? - until.parse::<f64>()? < HELD_UNTIL && !seen.text.lines().any(|l| l == "passed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_counted_by_their_kind() {
        let mut tally = Tally::default();
        tally.note("hit\nheld 1.5 gone 1.6\nstep 2\nstale: offsite-x\nhung: D+ 77 ls\ndone\n");
        assert_eq!((tally.stale, tally.hung, tally.troubles.len()), (1, 1, 2));
        let mut other = Tally { torn: 3, recovered: 2, ..Tally::default() };
        other.add(tally);
        assert_eq!((other.torn, other.recovered, other.hung), (3, 2, 1));
    }

    #[test]
    fn a_step_that_ended_before_the_drive_went_was_not_hit() {
        let seen = |text: &str| Output { status: 0, text: text.into() };
        assert!(held_to_the_end(&seen("hit\nheld 10.25 gone 10.75\ndone")).unwrap());
        assert!(!held_to_the_end(&seen("hit\nheld 10.25 gone 12.5\ndone")).unwrap());
        assert!(!held_to_the_end(&seen("hit\npassed\nheld 10.25 gone 10.3\ndone")).unwrap());
        assert!(held_to_the_end(&seen("done")).is_err());
    }
}
