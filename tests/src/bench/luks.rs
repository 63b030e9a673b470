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
const PROVEN: &str = "luks: format, with the key in slot 1, and the key proven";
const TUTORIAL: &str = "luks: format, with the key in slot 1 and slot 0 empty";

/// The figures of this module.
pub(super) const NAMES: [&str; 5] = [AS_MADE, SAME, FORMAT, PROVEN, TUTORIAL];

const REPETITIONS: usize = 5;
const SHORT_REPETITIONS: usize = 25;
/// What ours chooses for a key file, said to cryptsetup.
const SAME_PARAMETERS: &str = "-q luksFormat --type luks2 --cipher aes-xts-plain64 --key-size 512 --sector-size 4096 \
     --hash sha256 --pbkdf pbkdf2 --pbkdf-force-iterations 1000";

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
    let call = |words: &str, files: &[&Path]| {
        milliseconds(Command::new(&cryptsetup).args(words.split_whitespace()).args(files))
    };
    let to_slot_1 = format!("{SAME_PARAMETERS} --key-slot 1");
    let format_by_theirs = || call(&to_slot_1, &[&theirs, &key]);
    // Ours opens the slot from the disk before it reports success.
    let proven_by_theirs =
        || Ok(format_by_theirs()? + call("open --test-passphrase --key-file", &[&key, &theirs])?);
    let passphrase = at("passphrase");
    std::fs::write(&passphrase, "temporary")?;
    let tutorial_by_theirs = || {
        let add = "-q luksAddKey --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-slot 1 --key-file";
        let format = call(&format!("{SAME_PARAMETERS} --key-slot 0"), &[&theirs, &passphrase])?;
        let added = call(add, &[&passphrase, &theirs, &key])?;
        Ok(format + added + call("-q luksKillSlot --key-file", &[&key, &theirs, Path::new("0")])?)
    };
    let peers: [(_, _, &dyn Fn() -> Result<f64>); 3] = [
        (FORMAT, "cryptsetup luksFormat --key-slot 1", &format_by_theirs),
        (PROVEN, "cryptsetup luksFormat, open --test-passphrase", &proven_by_theirs),
        (TUTORIAL, "cryptsetup luksFormat, luksAddKey, luksKillSlot", &tutorial_by_theirs),
    ];
    for (name, peer, by_peer) in peers {
        if figures.wants(name) {
            let (by_ours, by_theirs) = turns(SHORT_REPETITIONS, || format_by_ours(&ours), by_peer)?;
            figures.record(name, Unit::Milliseconds, &by_ours, peer, &by_theirs);
        }
    }
    Ok(())
}
