//! A changer on directories below a temporary root, for tests.

#![expect(clippy::expect_used, reason = "a test's surroundings fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use changer_model::{Changer, Config, Environment, Outcome, Privileges, run_command_line};

pub(crate) struct Site {
    root: tempfile::TempDir,
    pub(crate) env: Environment,
}

#[expect(dead_code, reason = "each test program uses some of these")]
impl Site {
    /// A changer `c0` with directories as magazines and no console.
    pub(crate) fn new(magazines: &str) -> Self {
        Self::with(magazines, "bconsole = \"\"")
    }

    /// The same with further lines of configuration; `ROOT` in them is the temporary root.
    pub(crate) fn with(magazines: &str, lines: &str) -> Self {
        let root = tempfile::tempdir().expect("temporary directory");
        let path = root.path().to_owned();
        let mut env = Environment::new(&path);
        env.privileges = Privileges::Keep;
        env.lock_limit = Duration::from_secs(20);
        let site = Self { root, env };
        let mut text = format!("Storage Resource = c0\nWork Dir = {}\n", site.path("work").display());
        for name in magazines.split_whitespace() {
            fs::create_dir_all(site.path(name)).expect("makes a magazine");
            writeln!(text, "Magazine = {}", site.path(name).display()).expect("writes to memory");
        }
        text.push_str(&lines.replace("ROOT", &path.to_string_lossy()));
        fs::write(site.path("c.conf"), text).expect("writes the configuration");
        site
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below)
    }

    pub(crate) fn run(&self, line: &str) -> Outcome {
        let config = self.path("c.conf").into_os_string();
        let words = line.split_whitespace().map(Into::into);
        let arguments: Vec<_> = std::iter::once(config).chain(words).collect();
        run_command_line(&arguments, &self.env)
    }

    /// What a command prints; it must succeed and say nothing on stderr.
    pub(crate) fn answer(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{line}");
        outcome.stdout
    }

    pub(crate) fn changer(&self) -> Changer {
        let config = Config::load(&self.env.root, &self.path("c.conf")).expect("loads");
        Changer::open(&config, &self.env).expect("opens")
    }

    /// A volume that Bacula has labelled with the file's name.
    pub(crate) fn volume(&self, below: &str) {
        let path = self.path(below);
        let name = path.file_name().and_then(|n| n.to_str()).expect("has a name").to_owned();
        fs::write(&path, label_block(&name)).expect("writes a volume");
    }

    /// A console that runs a shell script; what it is told is appended to `said`.
    pub(crate) fn console(&self, body: &str) {
        let text = format!("#!/bin/sh\nroot={}\n{body}\n", self.env.root.display());
        fs::write(self.path("console.text"), text).expect("writes a console");
        // written by another program: what other tests start meanwhile would else have it open, and it could not run
        let copy = "cat \"$0\" > \"$1\" && chmod 755 \"$1\"";
        let copied = Command::new("/bin/sh")
            .args(["-c", copy])
            .args([self.path("console.text"), self.path("bconsole")])
            .status();
        assert!(copied.expect("starts").success(), "copies the console");
    }

    /// The labels that the console writes into new volumes.
    pub(crate) fn labels(&self, names: &[&str]) {
        fs::create_dir_all(self.path("labels")).expect("makes a directory");
        for name in names {
            self.volume(&format!("labels/{name}"));
        }
    }

    /// The symbolic links in the work directory, by name, and where each leads.
    pub(crate) fn links(&self) -> BTreeMap<String, PathBuf> {
        let entries = fs::read_dir(self.path("work")).into_iter().flatten().flatten();
        let link = |entry: fs::DirEntry| {
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), target))
        };
        entries.filter_map(link).collect()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.path("said")).unwrap_or_default()
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }
}

/// The first block of a volume that Bacula 9.6 has labelled.
pub(crate) fn label_block(name: &str) -> Vec<u8> {
    let mut record = b"Bacula 1.0 immortal\n\0".to_vec();
    record.extend(11u32.to_be_bytes());
    record.extend([0; 32]);
    for text in [name, "", "Pool", "Backup", "File", "host", "label", "program", "version", "date"] {
        record.extend(text.as_bytes());
        record.push(0);
    }
    let size = |bytes: usize| u32::try_from(bytes).expect("small").to_be_bytes();
    let mut covered = size(24 + 12 + record.len()).to_vec();
    covered.extend(0u32.to_be_bytes());
    covered.extend(b"BB02");
    covered.extend([0; 8]);
    covered.extend((-2i32).to_be_bytes());
    covered.extend(0u32.to_be_bytes());
    covered.extend(size(record.len()));
    covered.extend(record);
    let mut block = crc32fast::hash(&covered).to_be_bytes().to_vec();
    block.extend(covered);
    block
}
