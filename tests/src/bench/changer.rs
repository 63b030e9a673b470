//! One call of the changer, as bacula-sd makes it.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::figures::{Figures, Unit};
use super::measure::{milliseconds, turns};
use crate::programs;

/// Names a vchanger 1.0.x, built elsewhere.
const PEER: &str = "PEER_VCHANGER";

/// The figures of this module: each against our own process start, and against the peer.
pub(super) const NAMES: [&str; 10] = [
    "changer: loaded, 69 volumes",
    "changer: load + unload, 69 volumes",
    "changer: list, 69 volumes",
    "changer: loaded, 50 absent magazines",
    "changer: createvols 10,000",
    "changer: loaded, 69 volumes, side by side",
    "changer: load + unload, 69 volumes, side by side",
    "changer: list, 69 volumes, side by side",
    "changer: loaded, 50 absent magazines, side by side",
    "changer: createvols 10,000, side by side",
];

const REPETITIONS: usize = 25;
const LONG_REPETITIONS: usize = 3;

/// What is measured in a site.
#[derive(Clone, Copy)]
enum Task {
    Loaded,
    LoadUnload,
    List,
    AbsentLoaded,
    CreateVolumes,
}

const TASKS: [Task; 5] =
    [Task::Loaded, Task::LoadUnload, Task::List, Task::AbsentLoaded, Task::CreateVolumes];

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let ours = programs::release("vchanger")?;
    let peer = std::env::var_os(PEER).map(PathBuf::from);
    for (task, (own, against)) in TASKS.into_iter().zip(NAMES.iter().zip(NAMES.iter().skip(TASKS.len()))) {
        if figures.wants(own) {
            let mut site = Site::make(&ours, task)?;
            let start = || milliseconds(Command::new(&ours).arg("--version"));
            let (calls, starts) = turns(task.repetitions(), || site.run(task), start)?;
            figures.record(
                own,
                Unit::Milliseconds,
                &calls,
                "our vchanger --version (a process start)",
                &starts,
            );
        }
        let Some(peer) = &peer else {
            figures.skip(against, "no peer: name a vchanger 1.0.x in PEER_VCHANGER");
            continue;
        };
        if figures.wants(against) {
            let (mut our_site, mut peer_site) = (Site::make(&ours, task)?, Site::make(peer, task)?);
            let (by_ours, by_peer) =
                turns(task.repetitions(), || our_site.run(task), || peer_site.run(task))?;
            figures.record(against, Unit::Milliseconds, &by_ours, &version(peer)?, &by_peer);
        }
    }
    Ok(())
}

/// What a program calls itself.
fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned).with_context(|| format!("{} tells no version", program.display()))
}

impl Task {
    fn repetitions(self) -> usize {
        if matches!(self, Self::CreateVolumes) { LONG_REPETITIONS } else { REPETITIONS }
    }
}

/// A changer's configuration and directories, for one program.
struct Site {
    program: PathBuf,
    directory: TempDir,
    magazine: PathBuf,
    made: u32,
}

impl Site {
    fn make(program: &Path, task: Task) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut site =
            Self { program: program.to_owned(), magazine: directory.path().join("m0"), directory, made: 0 };
        fs::create_dir(site.path("work"))?;
        site.new_magazine()?;
        match task {
            Task::AbsentLoaded => {
                let absent: Vec<_> =
                    (0..50).map(|_| format!("Magazine = \"UUID:{}\"\n", uuid::Uuid::new_v4())).collect();
                site.configure(&absent.concat())?;
            }
            Task::CreateVolumes => {}
            _ => drop(site.call(&["createvols", "0", "69"])?),
        }
        Ok(site)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An empty magazine in place of the one before.
    fn new_magazine(&mut self) -> Result<()> {
        self.made += 1;
        self.magazine = self.path(&format!("m{}", self.made));
        fs::create_dir(&self.magazine)?;
        self.configure(&format!("Magazine = \"{}\"\n", self.magazine.display()))
    }

    fn configure(&self, magazines: &str) -> Result<()> {
        let text = format!(
            "Storage Resource = bench\nWork Dir = \"{}\"\nLogfile = \"{}\"\nUser = root\nGroup = root\nbconsole = \"\"\n{magazines}",
            self.path("work").display(),
            self.path("log").display(),
        );
        fs::write(self.path("conf"), text).context("cannot write a changer's configuration")
    }

    fn call(&self, arguments: &[&str]) -> Result<f64> {
        milliseconds(Command::new(&self.program).arg(self.path("conf")).args(arguments))
    }

    /// Milliseconds of the task.
    fn run(&mut self, task: Task) -> Result<f64> {
        match task {
            Task::Loaded | Task::AbsentLoaded => self.call(&["loaded", "1", "archive", "0"]),
            Task::List => self.call(&["list"]),
            Task::LoadUnload => {
                Ok(self.call(&["load", "3", "archive", "0"])?
                    + self.call(&["unload", "3", "archive", "0"])?)
            }
            Task::CreateVolumes => {
                self.new_magazine()?;
                self.call(&["createvols", "0", "10000"])
            }
        }
    }
}

/// Random bytes.
pub(super) fn noise(count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
