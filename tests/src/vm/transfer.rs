//! Files into the guest and out of it, by the directory that both share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};

use super::{Vm, machine};

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Vm {
    /// Copies a file of the host into the guest; directories on the way are made.
    ///
    /// # Errors
    /// When the file can't be read or the guest can't write it.
    pub fn put(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let (shared, inside) = self.shared();
        fs::copy(from, &shared).with_context(|| format!("cannot copy {} for the guest", from.display()))?;
        self.take_in(&shared, &inside, to, mode)
    }

    /// Writes a file in the guest.
    ///
    /// # Errors
    /// When the guest can't write it.
    pub fn write(&self, to: &str, contents: impl AsRef<[u8]>, mode: u32) -> Result<()> {
        let (shared, inside) = self.shared();
        fs::write(&shared, contents).context("cannot write into the shared directory")?;
        self.take_in(&shared, &inside, to, mode)
    }

    /// Copies programs into the guest, mode 0755.
    ///
    /// # Errors
    /// When one isn't there, naming it.
    pub fn install(&self, programs: &[(&Path, &str)]) -> Result<()> {
        programs.iter().try_for_each(|(from, to)| self.put(from, to, 0o755))
    }

    /// Reads a file of the guest.
    ///
    /// # Errors
    /// When the guest can't read it.
    pub fn fetch(&self, from: &str) -> Result<Vec<u8>> {
        let (shared, inside) = self.shared();
        self.sh(&format!("cp -- {} {inside}", quoted(from)))?;
        let contents =
            fs::read(&shared).with_context(|| format!("cannot read what the guest gave of {from}"))?;
        fs::remove_file(&shared)?;
        Ok(contents)
    }

    fn take_in(&self, shared: &Path, inside: &str, to: &str, mode: u32) -> Result<()> {
        self.sh(&format!("install -D -m {mode:o} {inside} {}", quoted(to)))?;
        fs::remove_file(shared).context("cannot remove the shared copy")
    }

    /// A fresh file in the shared directory, as the host and as the guest names it.
    fn shared(&self) -> (PathBuf, String) {
        let name = format!("file-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        (machine::share(&self.machine.directory).join(&name), format!("/run/host/{name}"))
    }
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_quote_in_a_name_survives_the_shell() {
        let name = "a'b $c\n";
        let script = format!("printf %s {}", super::quoted(name));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(output.stdout, name.as_bytes());
    }
}
