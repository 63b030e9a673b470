//! `offsite conf --check` on what the packages of Bacula install, and on a file of theirs that its daemon can't read.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{User, geteuid};
use offsite_tests::bacula::missing_program;
use offsite_tests::programs;
use offsite_tests::trials::{self, Test};
use serde_json::Value;
use tempfile::TempDir;

const INSTALLED: &str = "/etc/bacula";
const FILES: [&str; 4] = ["bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf", "bconsole.conf"];

fn main() {
    let tests: [Test; 2] = [
        ("the_packages_own_configuration_has_no_mistake", no_mistake),
        ("a_director_that_can_not_read_its_configuration_is_found", unreadable),
    ];
    let lacking = missing_program().map(|path| format!("no {} here", path.display()));
    let lacking = lacking
        .or_else(|| (!geteuid().is_root()).then(|| "needs root".to_owned()))
        .or_else(|| FILES.into_iter().find_map(unreadable_file))
        .or_else(|| programs::release("offsite").err().map(|error| format!("{error:#}")));
    trials::run(lacking.as_deref(), None, tests);
}

fn unreadable_file(name: &str) -> Option<String> {
    let path = Path::new(INSTALLED).join(name);
    fs::read(&path).err().map(|error| format!("{}: {error}", path.display()))
}

fn checked(root: &Path) -> Result<(Output, Value)> {
    let output = Command::new(programs::release("offsite")?)
        .arg("--root")
        .arg(root)
        .args(["conf", "--check", "--json"])
        .output()?;
    let report = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    Ok((output, report))
}

/// Looked at where it is installed, by all checks and by the daemons' own.
fn no_mistake() -> Result<()> {
    let (output, report) = checked(Path::new("/"))?;
    ensure!(output.status.success(), "{report:#}");
    let programs = report.get("programs").and_then(Value::as_array).context("programs")?;
    ensure!(
        programs.len() == 4 && programs.iter().all(|test| test.get("accepted") == Some(&Value::Bool(true))),
        "{report:#}"
    );
    Ok(())
}

fn unreadable() -> Result<()> {
    let root = TempDir::new()?;
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755))?;
    let etc = root.path().join("etc/bacula");
    fs::create_dir_all(&etc)?;
    for name in ["passwd", "group"] {
        fs::copy(Path::new("/etc").join(name), root.path().join("etc").join(name))?;
    }
    let bacula = User::from_name("bacula")?.context("no user bacula")?;
    for name in FILES {
        fs::copy(Path::new(INSTALLED).join(name), etc.join(name))?;
        let owner = if name == "bacula-sd.conf" { bacula.uid.as_raw() } else { 0 };
        chown(etc.join(name), Some(owner), Some(bacula.gid.as_raw()))?;
        fs::set_permissions(etc.join(name), fs::Permissions::from_mode(0o640))?;
    }
    let findings = |report: &Value| -> Vec<String> {
        let all = report["findings"].as_array().into_iter().flatten();
        let rights = all.filter(|finding| finding["check"] == "rights");
        rights.map(|finding| finding["file"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let (_, before) = checked(root.path())?;
    ensure!(findings(&before).is_empty(), "{before:#}");

    // As an administrator's editor may leave it.
    let director = etc.join("bacula-dir.conf");
    fs::set_permissions(&director, fs::Permissions::from_mode(0o600))?;
    let (output, after) = checked(root.path())?;
    ensure!(!output.status.success() && findings(&after) == [director.display().to_string()], "{after:#}");
    // The Director's own test, run as root, would have read it.
    let verdict = after.pointer("/programs/0").context("no verdict")?;
    ensure!(verdict["program"] == "bacula-dir" && verdict["accepted"] == false, "{after:#}");
    Ok(())
}
