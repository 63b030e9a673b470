//! One call of the changer, as bacula-sd makes it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::figures::{Figures, Unit};
use super::measure::{milliseconds, turns};
use crate::programs;

/// Names a vchanger 1.0.x, built elsewhere.
const PEER: &str = "PEER_VCHANGER";

const GROWTH: &str = "changer: loaded, 64,000 volumes, against 10 volumes";
const MEMORY: &str = "changer: memory, list of 64,000 volumes";
const MEMORY_BESIDE: &str = "changer: memory, list of 64,000 volumes, side by side";

/// The figures of this module: against our own process start, and against the peer.
pub(super) const NAMES: [&str; 17] = [
    "changer: loaded, 69 volumes",
    "changer: loaded, 6 absent magazines",
    "changer: loaded, 50 absent magazines",
    GROWTH,
    MEMORY,
    "changer: loaded, 69 volumes, side by side",
    "changer: load, 69 volumes, side by side",
    "changer: unload, 69 volumes, side by side",
    "changer: list, 69 volumes, side by side",
    "changer: loaded, 6 absent magazines, side by side",
    "changer: loaded, 50 absent magazines, side by side",
    "changer: createvols 10,000, side by side",
    "changer: createvols 1 more on 10,000, side by side",
    "changer: loaded, 64 x 1,000 volumes, side by side",
    "changer: load, 64 x 1,000 volumes, side by side",
    "changer: list, 64 x 1,000 volumes, side by side",
    MEMORY_BESIDE,
];

/// What is in a library.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// One magazine with so many volumes.
    One(u32),
    /// The same, made by the program itself.
    Made(u32),
    /// 64 magazines with 1,000 volumes each.
    Many,
    /// An empty magazine, and so many named by a UUID that no device has.
    Absent(u32),
}

/// What is asked of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Loaded,
    Load,
    Unload,
    List,
    Create(u32),
}

/// Measured against a process start.
const OWN: [(&str, Scene, Task); 3] = [
    (NAMES[0], Scene::One(69), Task::Loaded),
    (NAMES[1], Scene::Absent(6), Task::Loaded),
    (NAMES[2], Scene::Absent(50), Task::Loaded),
];

/// Measured against the peer.
const BESIDE: [(&str, Scene, Task); 11] = [
    (NAMES[5], Scene::One(69), Task::Loaded),
    (NAMES[6], Scene::One(69), Task::Load),
    (NAMES[7], Scene::One(69), Task::Unload),
    (NAMES[8], Scene::One(69), Task::List),
    (NAMES[9], Scene::Absent(6), Task::Loaded),
    (NAMES[10], Scene::Absent(50), Task::Loaded),
    (NAMES[11], Scene::One(0), Task::Create(10_000)),
    (NAMES[12], Scene::Made(10_000), Task::Create(1)),
    (NAMES[13], Scene::Many, Task::Loaded),
    (NAMES[14], Scene::Many, Task::Load),
    (NAMES[15], Scene::Many, Task::List),
];

const REPETITIONS: usize = 25;
const LONG_REPETITIONS: usize = 3;

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let ours = programs::release("vchanger")?;
    let start = || milliseconds(Command::new(&ours).arg("--version"));
    for (name, scene, task) in OWN {
        if figures.wants(name) {
            let mut site = Site::make(&ours, scene)?;
            let (calls, starts) = turns(REPETITIONS, || site.run(task), start)?;
            let against = "our vchanger --version (a process start)";
            figures.record(name, Unit::Milliseconds, &calls, against, &starts);
        }
    }
    if figures.wants(GROWTH) {
        let (mut many, mut few) = (Site::make(&ours, Scene::Many)?, Site::make(&ours, Scene::One(10))?);
        many.call(&["load", "40000", "archive", "0"])?;
        few.call(&["load", "5", "archive", "0"])?;
        let (large, small) = turns(REPETITIONS, || many.run(Task::Loaded), || few.run(Task::Loaded))?;
        figures.record(GROWTH, Unit::Milliseconds, &large, "ours with 10 volumes", &small);
    }
    if figures.wants(MEMORY) {
        let (many, few) = (Site::make(&ours, Scene::Many)?, Site::make(&ours, Scene::One(10_000))?);
        let (large, small) = turns(LONG_REPETITIONS, || many.memory(), || few.memory())?;
        figures.record(MEMORY, Unit::Mebibytes, &large, "ours with 10,000 volumes", &small);
    }
    let Some(peer) = std::env::var_os(PEER).map(PathBuf::from) else {
        for name in BESIDE.iter().map(|(name, ..)| *name).chain([MEMORY_BESIDE]) {
            figures.skip(name, "no peer: name a vchanger 1.0.x in PEER_VCHANGER");
        }
        return Ok(());
    };
    side_by_side(figures, &ours, &peer)
}

fn side_by_side(figures: &mut Figures, ours: &Path, peer: &Path) -> Result<()> {
    let called = version(peer)?;
    for (name, scene, task) in BESIDE {
        if figures.wants(name) {
            let (mut our_site, mut peer_site) = (Site::make(ours, scene)?, Site::make(peer, scene)?);
            let count = if matches!(task, Task::Create(_)) { LONG_REPETITIONS } else { REPETITIONS };
            let (by_ours, by_peer) = turns(count, || our_site.run(task), || peer_site.run(task))?;
            figures.record(name, Unit::Milliseconds, &by_ours, &called, &by_peer);
        }
    }
    if figures.wants(MEMORY_BESIDE) {
        let (our_site, peer_site) = (Site::make(ours, Scene::Many)?, Site::make(peer, Scene::Many)?);
        let (by_ours, by_peer) = turns(LONG_REPETITIONS, || our_site.memory(), || peer_site.memory())?;
        figures.record(MEMORY_BESIDE, Unit::Mebibytes, &by_ours, &called, &by_peer);
    }
    Ok(())
}

/// What a program calls itself.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned).with_context(|| format!("{} tells no version", program.display()))
}

/// A changer's configuration and directories, for one program.
struct Site {
    program: PathBuf,
    directory: TempDir,
    scene: Scene,
    made: u32,
}

impl Site {
    fn make(program: &Path, scene: Scene) -> Result<Self> {
        let mut site = Self { program: program.to_owned(), directory: tempfile::tempdir()?, scene, made: 0 };
        site.fill()?;
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new library in place of the one before, known to the changer.
    fn fill(&mut self) -> Result<()> {
        let (magazines, volumes, absent) = match self.scene {
            Scene::One(volumes) => (1, volumes, 0),
            Scene::Made(_) => (1, 0, 0),
            Scene::Many => (64, 1_000, 0),
            Scene::Absent(absent) => (1, 0, absent),
        };
        self.made += 1;
        let work = self.path(&format!("work{}", self.made));
        fs::create_dir(&work)?;
        let mut lines = String::new();
        for magazine in 0..magazines {
            let directory = self.path(&format!("m{}-{magazine}", self.made));
            fs::create_dir(&directory)?;
            for volume in 0..volumes {
                fs::write(directory.join(format!("bench_{magazine:04}_{volume:04}")), "")?;
            }
            lines += &format!("Magazine = \"{}\"\n", directory.display());
        }
        for _ in 0..absent {
            lines += &format!("Magazine = \"UUID:{}\"\n", uuid::Uuid::new_v4());
        }
        let text = format!(
            "Storage Resource = bench\nWork Dir = \"{}\"\nLogfile = \"{}\"\nUser = root\nGroup = root\nbconsole = \"\"\n{lines}",
            work.display(),
            self.path("log").display(),
        );
        fs::write(self.path("conf"), text).context("cannot write a changer's configuration")?;
        self.call(&["refresh"])?;
        if let Scene::Made(volumes) = self.scene {
            self.call(&["createvols", "0", &volumes.to_string()])?;
        }
        Ok(())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(self.path("conf")).args(arguments);
        command
    }

    fn call(&self, arguments: &[&str]) -> Result<f64> {
        milliseconds(&mut self.command(arguments))
    }

    /// Milliseconds of the task alone.
    fn run(&mut self, task: Task) -> Result<f64> {
        let load = ["load", "3", "archive", "0"];
        let unload = ["unload", "3", "archive", "0"];
        match task {
            Task::Loaded => self.call(&["loaded", "3", "archive", "0"]),
            Task::List => self.call(&["list"]),
            Task::Load => {
                let took = self.call(&load)?;
                self.call(&unload)?;
                Ok(took)
            }
            Task::Unload => {
                self.call(&load)?;
                self.call(&unload)
            }
            Task::Create(count) => {
                self.fill()?;
                self.call(&["createvols", "0", &count.to_string()])
            }
        }
    }

    /// The most memory that `list` has had when its answer waits to be read, in MiB: a pipe holds only a part of it.
    fn memory(&self) -> Result<f64> {
        let mut child = self.command(&["list"]).stdout(Stdio::piped()).spawn()?;
        let mut answer = child.stdout.take().context("no pipe")?;
        let mut first = [0; 1];
        answer.read_exact(&mut first)?;
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let mut text = Vec::new();
        answer.read_to_end(&mut text)?;
        ensure!(child.wait()?.success() && text.len() > 1 << 17, "list answered {} bytes", text.len());
        let mark = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
        let kibibytes: f64 = mark.context("the kernel tells no peak")?;
        Ok(kibibytes / 1024.0)
    }
}

/// Random bytes.
pub(super) fn noise(count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
