//! A server that can be broken: a Debian guest under QEMU's software emulation, with drives that are
//! plugged and torn out as a hand would do it.
//!
//! ```no_run
//! use std::time::Duration;
//! use offsite_tests::vm::{Image, Size, Vm};
//!
//! let image = Image::ready(|line| println!("{line}"))?;
//! let vm = Vm::start(&image)?;
//! let a = vm.blank_drive("OFFSITE-A", Size::mib(256))?;
//! vm.plug(&a)?;
//! vm.wait_for("the drive's name", Duration::from_secs(10), &format!("test -b {}", a.by_id()))?;
//! vm.unplug(&a)?;
//! # anyhow::Ok(())
//! ```
//!
//! The image is built once (as root, with debootstrap) and kept in the user's cache; machines start from
//! the state saved after its first boot and forget what they wrote. Each has two processors, 1 GiB of
//! memory and no network. The host's page cache stands behind every drive, so tearing one out doesn't
//! lose what the drive has taken: [`Flaky`] and [`VolatileDrive`] do that.

mod agent;
mod build;
mod directory;
mod drive;
mod faults;
mod image;
mod initramfs;
mod machine;
mod mirror;
mod nbd;
mod qmp;
mod recipe;
mod tool;
mod transfer;
mod trials;
mod volatile;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

pub use agent::{Output, Running};
pub use drive::{Drive, Size};
pub use faults::Flaky;
pub use image::Image;
pub use trials::{image_trial, run_trials, trial};
pub use volatile::{Cut, VolatileDrive, restore};

use directory::Directory;
use machine::{Boot, Machine, Process};

/// How long a command in the guest may take unless the caller says otherwise.
pub const COMMAND_LIMIT: Duration = Duration::from_mins(5);
/// How long the guest may take to let a drive go.
const UNPLUG_LIMIT: Duration = Duration::from_mins(2);
/// Lines of the guest's journal shown when a command fails.
const JOURNAL_SHOWN: usize = 25;

/// A running machine. Dropped, it ends its own QEMU and removes its directory; when a test panics the
/// guest's journal is printed and the console's log stays.
#[derive(Debug)]
pub struct Vm {
    machine: Machine,
    /// `None` for a machine that belongs to somebody else.
    owned: Option<(Process, Directory)>,
}

impl Vm {
    /// Starts a machine from the image's saved state, a matter of seconds.
    ///
    /// # Errors
    /// When QEMU can't start or the guest doesn't answer, with what both said.
    pub fn start(image: &Image) -> Result<Self> {
        let directory = Directory::make()?;
        let process = Process::start(machine::command(&image.files, directory.path(), Boot::Resume, true)?)?;
        let machine = Machine::connect(directory.path(), Some(&process))?;
        machine.wait_up(Boot::Resume)?;
        Ok(Self { machine, owned: Some((process, directory)) })
    }

    /// Does some work with the machine and ends it. When the work fails, the error carries the end of the
    /// guest's journal, and the directory with the console's log stays.
    ///
    /// # Errors
    /// What the work fails with.
    pub fn told<T>(mut self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        work(&self).map_err(|error| {
            let journal = self.journal(JOURNAL_SHOWN);
            let console = self.console_path();
            if let Some((_, directory)) = &mut self.owned {
                directory.keep();
            }
            error.context(format!("journal:\n{journal}\nconsole's log: {}", console.display()))
        })
    }

    /// Starts a machine in `directory` that outlives the caller; [`Vm::attach`] reaches it again.
    /// Returns the process id.
    ///
    /// # Errors
    /// As [`Vm::start`].
    pub fn start_detached(image: &Image, directory: &Path) -> Result<u32> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let mut command = machine::command(&image.files, directory, Boot::Resume, false)?;
        let pid = std::os::unix::process::CommandExt::process_group(&mut command, 0).spawn()?.id();
        Machine::connect(directory, None)?.wait_up(Boot::Resume)?;
        Ok(pid)
    }

    /// Reaches a machine that another process started.
    ///
    /// # Errors
    /// When none runs there.
    pub fn attach(directory: &Path) -> Result<Self> {
        if !directory.join("qmp.sock").exists() {
            bail!("no machine runs in {}", directory.display());
        }
        Ok(Self { machine: Machine::connect(directory, None)?, owned: None })
    }

    /// Ends the machine at once, as a power cut does.
    ///
    /// # Errors
    /// When it has gone already.
    pub fn power_off(self) -> Result<()> {
        self.machine.qmp.execute("quit", &json!({})).map(drop)
    }

    /// The process id of this machine's QEMU, when it was started here.
    pub fn pid(&self) -> Option<u32> {
        self.owned.as_ref().map(|(process, _)| process.pid)
    }

    /// Makes a blank drive in the machine's directory; it isn't plugged yet.
    ///
    /// # Errors
    /// When a drive of that serial is there already or the serial can't be one.
    pub fn blank_drive(&self, serial: &str, size: Size) -> Result<Drive> {
        Drive::blank(serial, size, &self.machine.directory)
    }

    /// Plugs a drive into the first free port and returns at once: the guest notices by itself.
    ///
    /// # Errors
    /// When it is plugged already.
    pub fn plug(&self, drive: &Drive) -> Result<()> {
        self.add(drive, &json!({ "driver": "scsi-hd", "bus": "scsi0.0" }))
    }

    /// Plugs a drive into the port of that number, 0 to 255; no other may be in it.
    ///
    /// # Errors
    /// When the port is taken or the drive is plugged already.
    pub fn plug_into(&self, drive: &Drive, port: u8) -> Result<()> {
        self.add(drive, &json!({ "driver": "scsi-hd", "bus": "scsi0.0", "scsi-id": port, "lun": 0 }))
    }

    /// Plugs a drive by a USB bridge that keeps its own serial and model back.
    ///
    /// # Errors
    /// When it is plugged already.
    pub fn plug_by_usb(&self, drive: &Drive) -> Result<()> {
        self.add(drive, &json!({ "driver": "usb-storage", "bus": "usb0.0" }))
    }

    /// Plugs a drive in an enclosure that shows sectors of 4096 bytes, in place of 512.
    ///
    /// # Errors
    /// When it is plugged already.
    pub fn plug_with_large_sectors(&self, drive: &Drive) -> Result<()> {
        let sectors = json!({
            "driver": "scsi-hd", "bus": "scsi0.0", "logical_block_size": 4096, "physical_block_size": 4096,
        });
        self.add(drive, &sectors)
    }

    fn add(&self, drive: &Drive, device: &Value) -> Result<()> {
        let file = json!({ "driver": "file", "filename": drive.file(), "aio": "threads" });
        let cache = json!({ "direct": false, "no-flush": true });
        self.attach_backend(drive.serial(), &file, &cache, device)
    }

    fn attach_backend(&self, serial: &str, file: &Value, cache: &Value, device: &Value) -> Result<()> {
        let node = node(serial);
        let raw = json!({ "driver": "raw", "file": file, "cache": cache });
        let pace = pace(serial);
        let backend = json!({ "driver": "throttle", "node-name": node, "throttle-group": pace, "file": raw });
        let cannot = || format!("cannot plug {serial}");
        self.machine
            .qmp
            .execute("object-add", &json!({ "qom-type": "throttle-group", "id": pace }))
            .with_context(cannot)?;
        if let Err(error) = self.machine.qmp.execute("blockdev-add", &backend) {
            self.machine.qmp.execute("object-del", &json!({ "id": pace }))?;
            return Err(error).with_context(cannot);
        }
        self.machine.qmp.forget_events(serial);
        let mut device = device.clone();
        if let Some(fields) = device.as_object_mut() {
            if fields.get("driver").and_then(Value::as_str) == Some("scsi-hd") {
                fields.insert("device_id".into(), json!(serial));
                fields.insert("serial".into(), json!(serial));
            }
            let common = [
                ("id", json!(serial)),
                ("drive", json!(node)),
                ("rerror", json!("report")),
                ("werror", json!("report")),
            ];
            fields.extend(common.map(|(name, value)| (name.to_owned(), value)));
        }
        let added = self.machine.qmp.execute("device_add", &device);
        if added.is_err() {
            self.machine.qmp.execute("blockdev-del", &json!({ "node-name": node }))?;
            self.machine.qmp.execute("object-del", &json!({ "id": pace }))?;
        }
        added.map(drop).with_context(|| format!("cannot plug {serial}"))
    }

    /// Takes a drive away, whatever the guest does with it: open files, mounts and mappings stay behind
    /// without a device. Returns when it is gone.
    ///
    /// # Errors
    /// When it isn't plugged or the guest doesn't let it go.
    pub fn unplug(&self, drive: &Drive) -> Result<()> {
        self.unplug_named(drive.serial())
    }

    /// The same by the drive's serial.
    ///
    /// # Errors
    /// As [`Vm::unplug`].
    pub fn unplug_named(&self, serial: &str) -> Result<()> {
        self.machine
            .qmp
            .execute("device_del", &json!({ "id": serial }))
            .with_context(|| format!("cannot unplug {serial}"))?;
        self.machine.qmp.wait_event("DEVICE_DELETED", serial, UNPLUG_LIMIT)?;
        let end = Instant::now() + UNPLUG_LIMIT;
        loop {
            match self.machine.qmp.execute("blockdev-del", &json!({ "node-name": node(serial) })) {
                Ok(_) => break,
                Err(error) if Instant::now() >= end => return Err(error),
                // Requests on their way still hold it.
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        self.machine.qmp.execute("object-del", &json!({ "id": pace(serial) })).map(drop)
    }

    /// Makes a plugged drive as slow as that many requests a second, whoever they are of; 0 for its own pace. Requests
    /// wait in the drive, as they do when a medium is dying, and are lost with it when it is torn out.
    ///
    /// # Errors
    /// When it isn't plugged.
    pub fn slow_down(&self, drive: &Drive, requests_per_second: u32) -> Result<()> {
        let path = format!("/objects/{}", pace(drive.serial()));
        let limits = json!({ "iops-total": requests_per_second });
        let set = json!({ "path": path, "property": "limits", "value": limits });
        self.machine.qmp.execute("qom-set", &set).map(drop)
    }

    /// Runs a bash script as root, at most [`COMMAND_LIMIT`]; its exit status is the caller's to judge.
    ///
    /// # Errors
    /// When it takes too long or the machine has gone.
    pub fn run(&self, script: &str) -> Result<Output> {
        self.run_within(script, COMMAND_LIMIT)
    }

    /// The same with a time limit.
    ///
    /// # Errors
    /// As [`Vm::run`].
    pub fn run_within(&self, script: &str, limit: Duration) -> Result<Output> {
        self.spawn(script)?.wait(limit)
    }

    /// Starts a script and returns while it runs; any number run side by side.
    ///
    /// # Errors
    /// When the machine has gone.
    pub fn spawn(&self, script: &str) -> Result<Running> {
        self.machine.agent.spawn(script)
    }

    /// Runs a script that must succeed, and returns what it wrote.
    ///
    /// # Errors
    /// When it exits with anything but 0, with its output and the end of the guest's journal.
    pub fn sh(&self, script: &str) -> Result<String> {
        self.sh_within(script, COMMAND_LIMIT)
    }

    /// The same with a time limit.
    ///
    /// # Errors
    /// As [`Vm::sh`].
    pub fn sh_within(&self, script: &str, limit: Duration) -> Result<String> {
        let output = self.run_within(script, limit)?;
        if !output.success() {
            bail!(
                "exit status {} in the guest from: {}\nit wrote:\n{}\njournal:\n{}",
                output.status,
                script.trim(),
                output.text.trim_end(),
                self.journal(JOURNAL_SHOWN),
            );
        }
        Ok(output.text)
    }

    /// Asks again and again until the answer is yes.
    ///
    /// # Errors
    /// What the question fails with, or after `limit` that `what` didn't come.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        mut question: impl FnMut() -> Result<bool>,
    ) -> Result<Duration> {
        let started = Instant::now();
        while !question().with_context(|| format!("waiting for {what}"))? {
            if started.elapsed() >= limit {
                bail!(
                    "{what}: not after {:.0} s\njournal:\n{}",
                    limit.as_secs_f64(),
                    self.journal(JOURNAL_SHOWN)
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(started.elapsed())
    }

    /// Waits until a condition, tried every 50 ms inside the guest, exits with 0.
    ///
    /// # Errors
    /// When it doesn't within `limit`.
    pub fn wait_for(&self, what: &str, limit: Duration, condition: &str) -> Result<Duration> {
        let started = Instant::now();
        let script = format!(
            "until {{ {condition}\n}} >/run/wait.$$ 2>&1; do sleep 0.05; [ $SECONDS -le {} ] || {{ cat /run/wait.$$; exit 1; }}; done; rm /run/wait.$$",
            limit.as_secs()
        );
        let output = self.run_within(&script, limit + Duration::from_secs(30))?;
        if !output.success() {
            bail!(
                "{what}: not after {:.0} s: {}\njournal:\n{}",
                limit.as_secs_f64(),
                output.text.trim(),
                self.journal(JOURNAL_SHOWN)
            );
        }
        Ok(started.elapsed())
    }

    /// The guest's clock, since 1970.
    ///
    /// # Errors
    /// When the guest doesn't answer.
    pub fn now(&self) -> Result<Duration> {
        let text = self.sh("echo $EPOCHREALTIME")?;
        Ok(Duration::from_secs_f64(text.trim().parse().with_context(|| format!("no time: {text:?}"))?))
    }

    /// The end of the guest's journal, or why there is none.
    pub fn journal(&self, lines: usize) -> String {
        match self.run_within(
            &format!("journalctl --no-pager -q -o short-precise -n {lines}"),
            Duration::from_secs(20),
        ) {
            Ok(output) => output.text.trim_end().to_owned(),
            Err(error) => format!("(none: {error:#})"),
        }
    }

    /// What the guest's kernel wrote to its console so far.
    pub fn console_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console_path()).unwrap_or_default()).into_owned()
    }

    /// The file with the console's log.
    pub fn console_path(&self) -> PathBuf {
        machine::console(&self.machine.directory)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let Some((process, mut directory)) = self.owned.take() else { return };
        if std::thread::panicking() {
            eprintln!("guest's journal:\n{}", self.journal(60));
            directory.keep();
            eprintln!("console's log: {}", self.console_path().display());
        }
        drop(process);
    }
}

fn node(serial: &str) -> String {
    plain('n', serial)
}

/// What limits a drive's requests.
fn pace(serial: &str) -> String {
    plain('t', serial)
}

/// A name for something of a drive's inside QEMU.
fn plain(kind: char, serial: &str) -> String {
    format!("{kind}-{}", serial.to_ascii_lowercase().replace('_', "-").chars().take(29).collect::<String>())
}
