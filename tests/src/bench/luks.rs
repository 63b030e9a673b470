//! Opening containers (a key is tested, no mapping is made), on files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::figures::{Figures, Unit};
use super::measure::{find, milliseconds, turns};
use crate::programs;

const AS_MADE: &str = "luks: open a container as each tool makes it by default";
const SAME: &str = "luks: open one container, made by ours";
const FORMAT: &str = "luks: format, with the key in slot 1, same parameters";

/// The figures of this module.
pub(super) const NAMES: [&str; 3] = [AS_MADE, SAME, FORMAT];

const REPETITIONS: usize = 5;
const SHORT_REPETITIONS: usize = 25;
/// What ours chooses for a key file, said to cryptsetup.
const SAME_PARAMETERS: &str = "-q luksFormat --type luks2 --cipher aes-xts-plain64 --key-size 512 --sector-size 4096 \
     --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-slot 1";

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let Ok(cryptsetup) = find("cryptsetup") else {
        for name in NAMES {
            figures.skip(name, "no cryptsetup here");
        }
        return Ok(());
    };
    let offsite = programs::release("offsite")?;
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    let (key, ours, theirs) = (at("key"), at("ours"), at("theirs"));
    std::fs::write(&key, crate::bench::changer::noise(4096)?)?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o400))?;
    for container in [&ours, &theirs] {
        std::fs::File::create_new(container)?.set_len(32 << 20)?;
    }
    let format_by_ours = |container: &Path| {
        milliseconds(
            Command::new(&offsite)
                .args(["luks", "format", "--yes-destroy"])
                .args([container, container])
                .arg("--key-file")
                .arg(&key),
        )
    };
    format_by_ours(&ours).context("ours makes no container")?;
    milliseconds(Command::new(&cryptsetup).args(["-q", "luksFormat"]).args([&theirs, &key]))
        .context("cryptsetup makes no container")?;

    let by_ours = |container: &Path| {
        milliseconds(Command::new(&offsite).args(["luks", "test"]).arg(container).arg("--key-file").arg(&key))
    };
    let by_theirs = |container: &Path| {
        milliseconds(
            Command::new(&cryptsetup)
                .args(["open", "--test-passphrase", "--key-file"])
                .args([&key, &*container.to_path_buf()]),
        )
    };
    if figures.wants(AS_MADE) {
        let (by_ours, by_theirs) = turns(REPETITIONS, || by_ours(&ours), || by_theirs(&theirs))?;
        figures.record(AS_MADE, Unit::Milliseconds, &by_ours, "cryptsetup, Argon2id default", &by_theirs);
    }
    if figures.wants(SAME) {
        let (by_ours, by_theirs) = turns(SHORT_REPETITIONS, || by_ours(&ours), || by_theirs(&ours))?;
        figures.record(SAME, Unit::Milliseconds, &by_ours, "cryptsetup open --test-passphrase", &by_theirs);
    }
    if figures.wants(FORMAT) {
        let format_by_theirs = |container: &Path| {
            milliseconds(
                Command::new(&cryptsetup).args(SAME_PARAMETERS.split_whitespace()).args([container, &*key]),
            )
        };
        let (by_ours, by_theirs) =
            turns(SHORT_REPETITIONS, || format_by_ours(&ours), || format_by_theirs(&theirs))?;
        figures.record(
            FORMAT,
            Unit::Milliseconds,
            &by_ours,
            "cryptsetup luksFormat --key-slot 1",
            &by_theirs,
        );
    }
    Ok(())
}
