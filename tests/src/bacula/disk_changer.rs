//! The disk changer of Bacula's own packages, for tests that are about Bacula and not about our changer.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use super::Bacula;

/// A changer whose slots are filled and emptied by the test; volumes are called `vol1`, `vol2` and so on.
pub struct DiskChanger<'b> {
    bacula: &'b Bacula,
    slots: u32,
    away: PathBuf,
}

impl<'b> DiskChanger<'b> {
    /// The program, for [`super::Plan::new`].
    pub const PROGRAM: &'static str = "/etc/bacula/scripts/disk-changer";

    /// Why Bacula's own disk changer can't be used here.
    pub fn lacking() -> Option<String> {
        let missing = (!Path::new(Self::PROGRAM).exists()).then(|| format!("no {} here", Self::PROGRAM));
        super::lacking().or(missing)
    }

    /// Makes empty volumes in all slots.
    ///
    /// # Errors
    /// Files can't be written.
    pub fn new(bacula: &'b Bacula, slots: u32) -> anyhow::Result<Self> {
        // Its configuration is a shell script, and its volumes are kept beside the drives.
        fs::write(bacula.file("vchanger.conf")?, format!("maxslot={slots}\n"))?;
        let away = bacula.changer_dir().join("away");
        fs::create_dir(&away)?;
        let changer = Self { bacula, slots, away };
        for slot in 1..=slots {
            changer.write(&format!("volslot{slot}"), &format!("vol{slot}\n"))?;
            changer.write(&format!("vol{slot}"), "")?;
        }
        changer.write_barcodes()?;
        Ok(changer)
    }

    /// Takes volumes away, as somebody does who pulls their drive; nobody is told.
    ///
    /// # Errors
    /// One of them is not there.
    pub fn take_out(&self, slots: &[u32]) -> anyhow::Result<()> {
        self.shift(slots, self.bacula.changer_dir(), &self.away)
    }

    /// Puts volumes back into their slots; nobody is told.
    ///
    /// # Errors
    /// One of them is not away.
    pub fn put_back(&self, slots: &[u32]) -> anyhow::Result<()> {
        self.shift(slots, &self.away, self.bacula.changer_dir())
    }

    fn shift(&self, slots: &[u32], from: &Path, to: &Path) -> anyhow::Result<()> {
        for slot in slots {
            for name in [format!("volslot{slot}"), format!("vol{slot}")] {
                fs::rename(from.join(&name), to.join(&name))?;
            }
        }
        self.write_barcodes()
    }

    fn write_barcodes(&self) -> anyhow::Result<()> {
        let mut barcodes = String::new();
        for slot in 1..=self.slots {
            if self.bacula.changer_dir().join(format!("volslot{slot}")).exists() {
                writeln!(barcodes, "{slot}:vol{slot}")?;
            }
        }
        self.write("barcodes", &barcodes)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.bacula.changer_dir().join(name);
        fs::write(&path, text)?;
        self.bacula.installed.give(&path)
    }
}
