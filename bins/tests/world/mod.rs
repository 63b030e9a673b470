//! A system of its own for the programs, and what they say in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A system of its own below a temporary root.
pub(crate) struct World {
    pub(crate) root: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    /// A world in which `offsite init` has run.
    pub(crate) fn initialised() -> Self {
        let world = Self::new();
        let output = world.offsite(&["init"]);
        assert!(output.status.success(), "{}", text(&output));
        world
    }

    pub(crate) fn offsite(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_offsite"))
            .arg("--root")
            .arg(self.root.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// Runs, and expects the exit code and both texts in what is said on stderr.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32, error: &str, hint: &str) {
        let output = self.offsite(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        let (first, rest) = said.split_once("\nhint: ").unwrap_or((&said, ""));
        assert!(first.starts_with("error: ") && first.contains(error), "{arguments:?}: {said}");
        assert!(rest.contains(hint), "{arguments:?}: {said}");
    }
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}
