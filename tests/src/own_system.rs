//! A system of its own within this one: a private mount namespace in which `/run`, `/srv`, `/var/lib` and
//! `/etc` belong to the test. Nothing that a test writes there is seen outside, and all of it goes with the process.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

/// Why a system of its own, loop devices or the kernel's autofs can't be had here.
pub fn lacking() -> Option<String> {
    if !geteuid().is_root() {
        return Some("needs root".into());
    }
    ["/dev/loop-control", "/dev/autofs"]
        .into_iter()
        .find(|path| !Path::new(path).exists())
        .map(|path| format!("no {path} here"))
}

/// Has the mounts of this system followed by the namespaces that are made from it, as systemd does.
///
/// # Errors
/// When the kernel refuses.
pub fn share_mounts() -> Result<()> {
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).context("cannot share mounts")
}

/// Enters the system of its own. Call it at the start of `main`, before any thread.
///
/// # Errors
/// When the kernel refuses.
pub fn enter() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make mounts private")?;
    // What programs need of /etc is small; it is copied, so that the test may write beside it.
    let kept = tempfile::tempdir().context("cannot make a directory")?;
    let copied =
        Command::new("cp").args(["-a", "/etc/."]).arg(kept.path()).status().context("cannot run cp")?;
    ensure!(copied.success(), "cannot copy /etc");
    for (at, mode) in [("/run", "0755"), ("/srv", "0755"), ("/var/lib", "0755"), ("/etc", "0755")] {
        let options = format!("mode={mode}");
        mount(Some("own"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("cannot cover {at}"))?;
    }
    let back = Command::new("/usr/bin/cp").arg("-a").arg(kept.path().join(".")).arg("/etc").status();
    ensure!(back.context("cannot run cp")?.success(), "cannot fill /etc");
    Ok(())
}
