//! The QEMU process: its devices, its start and its end.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::agent::Agent;
use super::directory::Directory;
use super::image::Files;
use super::qmp::Qmp;
use super::recipe;
use super::tool::{run, tail};

const QEMU: &str = "qemu-system-x86_64";
/// From power-on to the first answer, under emulation on a busy host.
const BOOT_LIMIT: Duration = Duration::from_mins(5);
/// From a saved state to the first answer.
const RESUME_LIMIT: Duration = Duration::from_mins(3);

/// How a machine comes up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Boot {
    /// From power-on, writing to the image's disk.
    Cold,
    /// From the image's saved state; what is written is forgotten.
    Resume,
}

/// The emulated hardware, the same at every start: a saved state fits no other.
pub(super) fn devices() -> Vec<String> {
    let words = "-machine q35,vmport=off -accel tcg,thread=multi,tb-size=512 -cpu max -smp 2 -m 1024 \
        -nodefaults -no-user-config -display none \
        -device virtio-blk-pci,drive=root -device virtio-scsi-pci,id=scsi0 -device qemu-xhci,id=usb0 \
        -device virtio-rng-pci -device virtio-serial-pci -device virtserialport,chardev=agent,name=agent \
        -device virtio-9p-pci,fsdev=share,mount_tag=host";
    words.split_whitespace().map(str::to_owned).collect()
}

/// The version that QEMU tells.
pub(super) fn qemu_version() -> Result<String> {
    Ok(run(QEMU, ["--version"])?.lines().next().unwrap_or_default().to_owned())
}

/// A running QEMU with its sockets in a directory.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) qmp: Qmp,
    pub(super) agent: Agent,
    pub(super) directory: PathBuf,
}

/// The process behind a machine. Dropped, it kills and reaps exactly this process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Dropped to tell the keeper that it is over.
    over: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// Paths of a machine's directory.
pub(super) fn console(directory: &Path) -> PathBuf {
    directory.join("console.log")
}

pub(super) fn share(directory: &Path) -> PathBuf {
    directory.join("share")
}

/// The command line of a machine that lives in `directory`. The process dies with the thread that starts it when `bound`.
pub(super) fn command(files: &Files, directory: &Path, boot: Boot, bound: bool) -> Result<Command> {
    fs::create_dir_all(share(directory)).context("cannot make the shared directory")?;
    fs::write(share(directory).join("here"), "")?;
    let forget = match boot {
        Boot::Cold => "off",
        Boot::Resume => "on",
    };
    let disk = format!(
        "file={},if=none,id=root,format=raw,cache=unsafe,discard=unmap,snapshot={forget}",
        files.disk.display()
    );
    let mut command = Command::new("setpriv");
    if bound {
        command.args(["--pdeathsig", "KILL"]);
    }
    // Paths relative to the machine's directory: the length of a socket's path is limited.
    command.arg("--").arg(QEMU).args(devices()).args(["-drive", &disk]).arg("-kernel").arg(&files.kernel);
    command.arg("-initrd").arg(&files.initramfs).args(["-append", recipe::KERNEL_ARGUMENTS]);
    command.args(["-chardev", "socket,id=agent,path=agent.sock,server=on,wait=off"]);
    command.args(["-fsdev", "local,id=share,path=share,security_model=none"]);
    command.args(["-serial", "file:console.log", "-qmp", "unix:qmp.sock,server=on,wait=off"]);
    if matches!(boot, Boot::Resume) {
        symlink(&files.state, directory.join("state")).context("cannot link the saved state")?;
        command.args(["-incoming", "exec:cat state"]);
    }
    let log = File::create(directory.join("qemu.log")).context("cannot make QEMU's log")?;
    command.current_dir(directory).env("TMPDIR", directory);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(command)
}

impl Process {
    /// Starts the process in a thread of its own: it is bound to the life of the thread that starts it,
    /// and a machine may outlive the one that asks for it.
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let (over, wait) = channel::<()>();
        let (started, pid) = channel();
        let keep = move || match command.spawn() {
            Ok(child) => {
                drop(started.send(Ok(child.id())));
                keep_until(child, &wait);
            }
            Err(error) => drop(started.send(Err(error))),
        };
        let keeper = std::thread::Builder::new().name("vm-keeper".into()).spawn(keep)?;
        let pid = pid.recv()?.context("cannot start setpriv with QEMU; scripts/setup vm installs it")?;
        Ok(Self { pid, over: Some(over), keeper: Some(keeper) })
    }

    fn has_ended(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.over.take());
        if let Some(keeper) = self.keeper.take() {
            // The keeper cannot panic; were it so, there would be nothing left to do here.
            drop(keeper.join());
        }
    }
}

/// Waits until it is over or the process ends by itself; reaps it in both cases.
fn keep_until(mut child: Child, over: &Receiver<()>) {
    while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = over.recv_timeout(Duration::from_millis(100))
    {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
    }
    drop(child.kill());
    drop(child.wait());
}

impl Machine {
    /// Connects to the machine in `directory` once its sockets are there.
    pub(super) fn connect(directory: &Path, process: Option<&Process>) -> Result<Self> {
        let (qmp, agent) = (directory.join("qmp.sock"), directory.join("agent.sock"));
        let end = Instant::now() + RESUME_LIMIT;
        loop {
            if let (Ok(qmp), Ok(agent)) = (Qmp::connect(&qmp), Agent::connect(&agent, &share(directory))) {
                return Ok(Self { qmp, agent, directory: directory.to_owned() });
            }
            if process.is_some_and(Process::has_ended) || Instant::now() >= end {
                let log = fs::read_to_string(directory.join("qemu.log")).unwrap_or_default();
                bail!("the virtual machine doesn't start: {}", tail(&log, 10));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the guest answers, and sets its clock when it comes from a saved state.
    pub(super) fn wait_up(&self, boot: Boot) -> Result<()> {
        let up = match boot {
            Boot::Cold => self.agent.wait_ready(BOOT_LIMIT),
            Boot::Resume => self.agent.wait_ready(RESUME_LIMIT),
        };
        up.with_context(|| self.last_words())?;
        if matches!(boot, Boot::Resume) {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs_f64();
            let set = self.agent.spawn(&format!("date -s @{now:.3}"))?.wait(RESUME_LIMIT)?;
            if !set.success() {
                bail!("cannot set the guest's clock: {}", set.text);
            }
        }
        Ok(())
    }

    /// What QEMU and the guest's console said last.
    pub(super) fn last_words(&self) -> String {
        let read = |path: PathBuf| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        let (qemu, console) = (read(self.directory.join("qemu.log")), read(console(&self.directory)));
        format!("QEMU said:\n{}\nconsole:\n{}", tail(&qemu, 5), tail(&console, 30))
    }

    /// Writes memory and devices to a file in the machine's directory; the machine stands still afterwards.
    fn save_state(&self, name: &str) -> Result<()> {
        self.qmp.execute("migrate-set-parameters", &json!({ "max-bandwidth": 4_000_000_000_u64 }))?;
        self.qmp.execute("migrate", &json!({ "uri": format!("exec:cat >{name}") }))?;
        let end = Instant::now() + BOOT_LIMIT;
        while Instant::now() < end {
            let answer = self.qmp.execute("query-migrate", &json!({}))?;
            match answer.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("QEMU cannot save the state: {answer}"),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        bail!("saving the state takes too long")
    }
}

/// What is done in the freshly booted guest before its state is saved.
fn settle_script() -> String {
    format!(
        "while systemctl is-system-running | grep -qE 'starting|initializing'; do sleep 0.5; done\n\
         for module in {}; do modprobe $module || exit 1; done\n\
         udevadm settle; systemctl --failed --no-legend --plain; sync",
        recipe::LOADED_MODULES.join(" ")
    )
}

/// Boots the image's disk once and saves the state of the running machine beside it.
pub(super) fn boot_and_save(files: &Files) -> Result<()> {
    let directory = Directory::make()?;
    let process = Process::start(command(files, directory.path(), Boot::Cold, true)?)?;
    let machine = Machine::connect(directory.path(), Some(&process))?;
    machine.wait_up(Boot::Cold)?;
    let settled = machine.agent.spawn(&settle_script())?.wait(BOOT_LIMIT)?;
    if !settled.success() || !settled.text.trim().is_empty() {
        bail!("the guest isn't well after its first boot:\n{}", settled.text);
    }
    machine.agent.release_share()?;
    machine.save_state("saved")?;
    // The disk is complete only when QEMU has closed it.
    machine.qmp.execute("quit", &json!({}))?;
    let end = Instant::now() + Duration::from_mins(1);
    while !process.has_ended() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    fs::copy(directory.path().join("saved"), &files.state).context("cannot keep the saved state").map(drop)
}
