//! A full disk under Bacula's files, a real small one: `doctor` names it, in place of a Director that doesn't run.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use nix::unistd::geteuid;
use offsite_tests::loop_drive::run;
use offsite_tests::programs;
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

fn main() {
    let tests: [Test; 1] = [("doctor_names_the_full_disk", full_disk)];
    let lacking = (!geteuid().is_root())
        .then(|| "needs root".to_owned())
        .or_else(|| programs::release("offsite").err().map(|error| format!("{error:#}")));
    trials::run(lacking.as_deref(), None, tests);
}

fn full_disk() -> Result<()> {
    let root = TempDir::new()?;
    let offsite = programs::release("offsite")?;
    run(Command::new(&offsite).arg("--root").arg(root.path()).arg("init"))?;
    let working = root.path().join("var/lib/bacula");
    fs::create_dir_all(&working)?;
    // The mount is the shell's alone and ends with it.
    let doctor = |fill: &str| -> Result<String> {
        let script = format!(
            "mount -t tmpfs -o size=256k,mode=755 tmpfs '{working}'\n{fill}\n'{offsite}' --root '{root}' doctor || :",
            working = working.display(),
            offsite = offsite.display(),
            root = root.path().display()
        );
        run(Command::new("/usr/bin/unshare").args(["--mount", "/bin/sh", "-ec", &script]))
    };
    let message = format!("the filesystem of {} is full", working.display());
    let roomy = doctor("")?;
    ensure!(!roomy.contains(&message), "{roomy}");
    for fill in [
        format!("cat /dev/zero > '{0}/file' 2>&1 || :", working.display()),
        format!("mount -o remount,nr_inodes=2 '{0}'; touch '{0}/file'", working.display()),
    ] {
        let full = doctor(&fill)?;
        ensure!(full.contains(&message), "{fill}: {full}");
    }
    Ok(())
}
