//! What the tests that need root share: a mount namespace of their own, loop devices, and visitors from other processes.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of this")]

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

/// What keeps a test from running here.
pub(crate) type Lacking = Option<&'static str>;

/// Gives this process, which must have a single thread yet, mounts of its own, and tells what is lacking.
pub(crate) fn enter() -> Lacking {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root");
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let entered = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| nix::mount::mount(None::<&str>, "/", None::<&str>, private, None::<&str>));
    if entered.is_err() {
        return Some("needs a mount namespace");
    }
    if File::open("/dev/loop-control").is_err() {
        return Some("needs loop devices");
    }
    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return Some("needs mkfs.ext4");
    }
    None
}

/// What keeps automounts from being tested here.
pub(crate) fn lacking_autofs() -> Lacking {
    File::open("/dev/autofs").is_err().then_some("needs autofs in the kernel")
}

/// Makes a test of each function, ignored with the reason where something is lacking.
pub(crate) fn trials(lacking: Lacking, tests: &[(&'static str, fn())]) -> Vec<libtest_mimic::Trial> {
    tests
        .iter()
        .map(|&(name, test)| {
            let trial = libtest_mimic::Trial::test(name, move || {
                test();
                Ok(())
            });
            match lacking {
                Some(reason) => trial.with_kind(reason).with_ignored_flag(true),
                None => trial,
            }
        })
        .collect()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Makes an ext4 image with one file `hello` that holds the UUID.
pub(crate) fn ext4_image(directory: &Path, uuid: &str) -> PathBuf {
    let image = directory.join(format!("{uuid}.img"));
    let content = directory.join(format!("{uuid}.content"));
    fs::create_dir(&content).unwrap();
    fs::write(content.join("hello"), uuid).unwrap();
    File::create(&image).unwrap().set_len(8 << 20).unwrap();
    let (from, to) = (content.to_str().unwrap(), image.to_str().unwrap());
    run("mkfs.ext4", &["-q", "-F", "-U", uuid, "-L", "vault", "-d", from, to]);
    image
}

/// A loop device, detached when dropped.
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
}

impl Loop {
    pub(crate) fn attach(image: &Path) -> Loop {
        Loop { path: run("losetup", &["--find", "--show", image.to_str().unwrap()]).into() }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("losetup").arg("--detach").arg(&self.path).status();
        if !detached.is_ok_and(|status| status.success()) {
            eprintln!("could not detach {}", self.path.display());
        }
    }
}

/// Another process that looks at a path: in a process group of its own, as the kernel lets the automounter's own see
/// through the automount.
pub(crate) struct Visitor {
    child: Option<Child>,
    started: Instant,
}

/// What a visitor saw.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) ok: bool,
    pub(crate) output: String,
    pub(crate) error: String,
    pub(crate) took: Duration,
}

impl Visitor {
    pub(crate) fn start(script: &str, path: &Path) -> Visitor {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(path).env("LC_ALL", "C").process_group(0);
        Visitor::spawn(command.stdin(Stdio::piped()))
    }

    pub(crate) fn spawn(command: &mut Command) -> Visitor {
        let started = Instant::now();
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Visitor { child: Some(child), started }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Waits until its descriptor 3 is open on a file.
    pub(crate) fn wait_until_holding(&self, file: &Path) {
        let link = format!("/proc/{}/fd/3", self.pid());
        let holds = || fs::read_link(&link).is_ok_and(|target| target == file);
        wait_for("a visitor to open a file", Duration::from_secs(10), holds);
    }

    pub(crate) fn is_waiting(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Lets a script that reads from its input go on.
    pub(crate) fn release(&mut self) {
        drop(self.child.as_mut().unwrap().stdin.take());
    }

    pub(crate) fn kill(&mut self) {
        self.child.as_mut().unwrap().kill().unwrap();
    }

    /// Waits for the end, 20 seconds at most.
    pub(crate) fn finish(mut self) -> Visit {
        self.release();
        let limit = Duration::from_secs(20);
        wait_for("a visitor to end", limit, || !self.is_waiting());
        let took = self.started.elapsed();
        let Output { status, stdout, stderr } = self.child.take().unwrap().wait_with_output().unwrap();
        Visit {
            ok: status.success(),
            output: String::from_utf8(stdout).unwrap().trim().to_owned(),
            error: String::from_utf8(stderr).unwrap().trim().to_owned(),
            took,
        }
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The whole group, as a shell's child may be the one that waits.
            let group = i32::try_from(child.id()).map(nix::unistd::Pid::from_raw);
            let _ = group.map(|group| nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL));
            let _ = child.wait();
        }
    }
}

/// Reads a file in another process.
pub(crate) fn cat(path: &Path) -> Visit {
    Visitor::start("cat \"$1\"", path).finish()
}

pub(crate) fn wait_for(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < limit, "waited {limit:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
    started.elapsed()
}
