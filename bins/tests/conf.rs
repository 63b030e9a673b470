//! `offsite conf` beside an installation that an administrator made, and its checks.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

struct World {
    root: TempDir,
}

/// The shapes that distributions install, kept with the library.
const SHAPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../bacula-conf/tests/fixtures/shapes");

impl World {
    /// A system with Bacula as a distribution installs it, and a site that only adds to it.
    fn installed(layout: &str) -> Self {
        let world = Self { root: TempDir::new().unwrap() };
        for (shape, name) in [
            ("dir", "bacula-dir.conf"),
            ("sd", "bacula-sd.conf"),
            ("fd", "bacula-fd.conf"),
            ("con", "bconsole.conf"),
        ] {
            let shape =
                if shape == "con" { "con-plain".to_owned() } else { format!("{shape}-distribution-default") };
            let text = fs::read_to_string(format!("{SHAPES}/{shape}.conf")).unwrap();
            world.write(&format!("etc/bacula/{name}"), &text);
        }
        let output = world.offsite(&["init"]);
        assert!(output.status.success(), "{}", said(&output));
        world.write(
            "etc/offsite/site.toml",
            &format!(
                "[bacula]\nlayout = '{layout}'\n[[magazine]]\nname = 'A'\nfs_type = 'ext4'\n\
                 fs_uuid = 'e6ffe50b-bbe7-854f-fea8-766ae1265eba'\n"
            ),
        );
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn offsite(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
        command.arg("--root").arg(self.root.path()).args(arguments).output().unwrap()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_installation_gets_one_line_and_only_when_asked() {
    let world = World::installed("include");
    let before = world.read("etc/bacula/bacula-dir.conf");
    fs::set_permissions(world.path("etc/bacula/bacula-dir.conf"), fs::Permissions::from_mode(0o640)).unwrap();

    let output = world.offsite(&["conf"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(
        said(&output).contains("lacks this line") && said(&output).contains("@/etc/bacula/offsite-dir.conf")
    );
    assert_eq!(world.read("etc/bacula/bacula-dir.conf"), before, "only shown");

    let output = world.offsite(&["conf", "--add-includes"]);
    assert!(output.status.success() && said(&output).contains("extended"), "{}", said(&output));
    let after = world.read("etc/bacula/bacula-dir.conf");
    assert_eq!(after, format!("{before}@/etc/bacula/offsite-dir.conf\n"));
    assert_eq!(world.path("etc/bacula/bacula-dir.conf").metadata().unwrap().mode() & 0o777, 0o640);
    assert!(world.read("etc/bacula/bacula-sd.conf").ends_with("\n@/etc/bacula/offsite-sd.conf\n"));

    let generated = world.read("etc/bacula/offsite-dir.conf");
    assert!(
        generated.contains("Password = \"p1-sd\"") || generated.contains("\"pelican-sdpw\""),
        "{generated}"
    );
    assert!(world.read("etc/bacula/bconsole-offsite.conf").contains("pelican-dir"));

    let output = world.offsite(&["conf", "--add-includes"]);
    assert!(said(&output).contains("unchanged") && !said(&output).contains("extended"), "{}", said(&output));
    assert_eq!(world.read("etc/bacula/bacula-dir.conf"), after);
    assert_eq!(world.read("etc/bacula/offsite-dir.conf"), generated);
}

#[test]
fn a_file_that_can_not_be_read_is_not_added_to() {
    let world = World::installed("include");
    world.write("etc/bacula/bacula-dir.conf", "Director {\n  Name = a\n");
    let output = world.offsite(&["conf", "--add-includes"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("never closed") && said(&output).contains('^'), "{}", said(&output));
    assert_eq!(world.read("etc/bacula/bacula-dir.conf"), "Director {\n  Name = a\n");
}

#[test]
fn bareos_gets_one_resource_a_file() {
    let world = World::installed("bareos");
    let output = world.offsite(&["conf"]);
    assert!(output.status.success(), "{}", said(&output));
    let pool = world.read("etc/bareos/bareos-dir.d/pool/Offsite-eSATA.conf");
    assert!(pool.contains("Pool {\n  Name = Offsite-eSATA"), "{pool}");
    assert!(!world.read("etc/bareos/bareos-sd.d/device/eSATA-1.conf").contains("Sync"));
    let output = world.offsite(&["conf", "--check", world.path("etc/bareos").to_str().unwrap(), "--json"]);
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks: Vec<_> =
        checked["findings"].as_array().unwrap().iter().map(|f| f["check"].as_str().unwrap()).collect();
    // Nothing of this machine is as a site has it; what the files say among themselves is right.
    assert!(checks.iter().all(|check| matches!(*check, "missing-path" | "rights")), "{checks:?}");
}

/// A machine on which nothing stands in the changer's way, but for what `spoil` does to it.
fn checked(spoil: impl FnOnce(&World)) -> Vec<(String, String)> {
    let world = World::installed("complete");
    for name in ["bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf", "bconsole.conf"] {
        fs::remove_file(world.path("etc/bacula").join(name)).unwrap();
    }
    let output = world.offsite(&["conf"]);
    assert!(output.status.success(), "{}", said(&output));
    // Everything belongs to whoever runs the test.
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    world.write("etc/passwd", &format!("bacula:x:{uid}:{gid}::/:\n"));
    world.write("etc/group", &format!("bacula:x:{gid}:\ntape:x:{gid}:\n"));
    for directory in ["var/lib/offsite/c0", "var/log/offsite", "var/lib/bacula"] {
        fs::create_dir_all(world.path(directory)).unwrap();
    }
    for program in ["usr/bin/vchanger", "usr/sbin/bconsole", "etc/bacula/scripts/query.sql"] {
        world.write(program, "");
        fs::set_permissions(world.path(program), fs::Permissions::from_mode(0o755)).unwrap();
    }
    world.write("var/lib/bacula/bacula.db", "");
    spoil(&world);
    let output = world.offsite(&["conf", "--check", "--json"]);
    let checked: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    checked
        .get("findings")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| (text(finding, "check"), text(finding, "message")))
        .collect()
}

#[test]
fn a_sound_machine_has_no_findings() {
    assert_eq!(checked(|_| ()), []);
}

#[test]
fn what_the_machine_lacks_is_found() {
    let one = |spoil: fn(&World)| {
        let found = checked(spoil);
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().unwrap()
    };
    let missing = one(|world| fs::remove_file(world.path("usr/bin/vchanger")).unwrap());
    assert_eq!(missing.0, "missing-path");
    assert!(missing.1.contains("/usr/bin/vchanger is not there"), "{}", missing.1);
    let rights = one(|world| {
        fs::set_permissions(world.path("usr/bin/vchanger"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    assert_eq!(rights.0, "rights");
    assert_eq!(
        one(|world| fs::remove_file(world.path("var/lib/bacula/bacula.db")).unwrap()).0,
        "catalog-missing"
    );
    let unit = one(|world| {
        world.write("lib/systemd/system/bacula-sd.service", "[Service]\nUser=bacula\nGroup=tape\n");
        world.write("etc/systemd/system/bacula-sd.service.d/hard.conf", "[Service]\nPrivateDevices=yes\n");
    });
    assert_eq!(unit.0, "unit");
}

#[test]
fn commands_of_includes_run_only_when_asked() {
    let world = World::installed("complete");
    let jobs = world.path("jobs");
    fs::create_dir(&jobs).unwrap();
    // For root they run as Bacula's user, which is one that every system has.
    let site = world.read("etc/offsite/site.toml");
    world.write("etc/offsite/site.toml", &format!("{site}[bacula.accounts]\nuser = 'daemon'\n"));
    fs::set_permissions(world.root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&jobs, fs::Permissions::from_mode(0o777)).unwrap();
    world.write("jobs/a.conf", "Pool {\n  Name = FromCommand\n  Pool Typ = Backup\n}\n");
    let text = world.read("etc/bacula/bacula-dir.conf");
    let command =
        format!("@|\"sh -c 'touch {0}/ran; for f in {0}/*.conf; do echo @$f; done'\"\n", jobs.display());
    world.write("etc/bacula/bacula-dir.conf", &format!("{text}{command}"));
    let output = world.offsite(&["conf", "--check"]);
    assert!(
        said(&output).contains("the command was not run") && !jobs.join("ran").exists(),
        "{}",
        said(&output)
    );
    let output = world.offsite(&["conf", "--check", "--run-includes"]);
    let ran = jobs.join("ran").metadata().unwrap();
    assert_ne!(ran.uid(), 0, "{}", said(&output));
    assert!(said(&output).contains("did you mean `Pool Type`?"), "{}", said(&output));
}

#[test]
fn old_copies_and_other_encodings_are_no_mistake() {
    let world = World::installed("complete");
    let before: serde_json::Value =
        serde_json::from_slice(&world.offsite(&["conf", "--check", "--json"]).stdout).unwrap();
    let director = world.read("etc/bacula/bacula-dir.conf");
    world.write("etc/bacula/bacula-dir-2019.conf", &director.replace("Pool Type", "Pool Tpye"));
    world.write("etc/bacula/backup/bacula-dir.conf", &director);
    fs::write(
        world.path("etc/bacula/bacula-dir.conf"),
        [b"# B\xfcro, zweiter Stock\n".as_slice(), director.as_bytes()].concat(),
    )
    .unwrap();
    let output = world.offsite(&["conf", "--check", "--json"]);
    let after: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let checks = |checked: &serde_json::Value| {
        let findings = checked["findings"].as_array().unwrap();
        findings.iter().map(|finding| finding["check"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(checks(&before), checks(&after));
    let unread = after["unread"].as_array().unwrap();
    assert_eq!(unread.len(), 2, "{unread:?}");

    // The line that is added leaves every other byte alone.
    let site = world.read("etc/offsite/site.toml").replace("complete", "include");
    world.write("etc/offsite/site.toml", &site);
    let output = world.offsite(&["conf", "--add-includes"]);
    assert!(output.status.success(), "{}", said(&output));
    let bytes = fs::read(world.path("etc/bacula/bacula-dir.conf")).unwrap();
    assert!(bytes.starts_with(b"# B\xfcro") && bytes.ends_with(b"\n@/etc/bacula/offsite-dir.conf\n"));
}

#[test]
fn a_misspelt_password_is_never_shown() {
    let world = World::installed("complete");
    for wrong in [
        "Pasword = hunter2",
        "Passwort \"hunter2\"",
        "Password = hunter2 {\n  Pass Wrd = hunter2",
        "Password hunter2",
    ] {
        let director = format!("Director {{\n  Name = d\n  {wrong}\n}}\n");
        world.write("etc/bacula/bacula-dir.conf", &director);
        for arguments in [&["conf", "--check"][..], &["conf", "--check", "--json"]] {
            let output = world.offsite(arguments);
            assert!(!said(&output).contains("hunter2"), "{wrong}: {}", said(&output));
        }
    }
}

#[test]
fn the_verdict_of_baculas_own_programs_is_in_the_json() {
    let world = World::installed("complete");
    let output = world.offsite(&["conf", "--check", "--json"]);
    let checked: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let programs = checked["programs"].as_array().unwrap();
    let names: Vec<_> = programs.iter().map(|test| test["program"].as_str().unwrap()).collect();
    assert_eq!(names, ["bacula-dir", "bacula-sd", "bacula-fd", "bconsole"]);
    for test in programs {
        // Installed here or not, there is a verdict, or why there is none.
        assert!(test["accepted"].is_boolean() || test["said"].is_string(), "{test}");
    }
}
