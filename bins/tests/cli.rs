//! The command line as scripts meet it: exit codes, JSON, errors with remedies. No root is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use world::{World, shown, text};

impl World {
    fn file(&self, name: &str, bytes: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, vec![0; bytes]).unwrap();
        path
    }
}

#[test]
fn init_makes_a_private_key_and_changes_nothing_the_second_time() {
    let world = World::initialised();
    let key = world.path("etc/offsite/key");
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o400);
    assert_eq!(key.metadata().unwrap().len(), 4096);
    let before = std::fs::read(&key).unwrap();
    assert!(world.offsite(&["init"]).status.success());
    assert_eq!(std::fs::read(&key).unwrap(), before);
}

#[test]
fn init_dry_run_makes_nothing() {
    let world = World::new();
    assert!(world.offsite(&["init", "--dry-run"]).status.success());
    assert_eq!(world.root.path().read_dir().unwrap().count(), 0);
}

#[test]
fn identify_prints_the_promised_members() {
    let world = World::new();
    let file = world.file("drive", 1 << 20);
    let output = world.offsite(&["identify", "--json", shown(&file)]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let drive = &value[0];
    assert_eq!(drive["id"], shown(&file));
    assert_eq!(drive["size_bytes"], 1 << 20);
    assert_eq!(drive["refusals"], serde_json::json!([]));
    for member in ["device", "model", "contents"] {
        assert!(drive.get(member).is_some(), "{member} is missing: {drive}");
    }
}

#[test]
fn wipe_fills_verifies_and_reports() {
    let world = World::new();
    let file = world.file("drive", (3 << 20) + 4096);
    let output = world.offsite(&["wipe", shown(&file), "--yes-destroy", shown(&file), "--json"]);
    assert!(output.status.success(), "{}", text(&output));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["verification"]["ok"], true, "{report}");
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len(), (3 << 20) + 4096);
    assert!(bytes.chunks(512).all(|sector| sector.iter().any(|b| *b != 0)), "a sector stayed blank");
}

#[test]
fn a_wrong_id_is_refused_and_nothing_is_written() {
    let world = World::new();
    let file = world.file("drive", 1 << 20);
    world.fails(&["wipe", shown(&file), "--yes-destroy", "OTHER"], 3, "not \"OTHER\"", "offsite identify");
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn a_disk_with_contents_that_nobody_confirmed_is_refused() {
    let world = World::new();
    let file = world.file("drive", 8 << 20);
    let made = Command::new("/usr/sbin/mkfs.ext4").args(["-q", shown(&file)]).status().unwrap();
    assert!(made.success());
    let before = std::fs::read(&file).unwrap();
    world.fails(&["wipe", shown(&file)], 3, "holds: ext4", "--yes-destroy");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn a_drive_that_is_not_there_has_its_own_code() {
    let world = World::new();
    world.fails(&["identify", "/no/such/drive"], 4, "/no/such/drive", "");
    world.fails(&["eject", "A"], 4, "offsited isn't running", "systemctl start offsited");
}

#[test]
fn a_key_file_that_others_can_read_is_refused() {
    let world = World::initialised();
    let file = world.file("drive", 20 << 20);
    let key = world.path("etc/offsite/key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o444)).unwrap();
    let prepare = ["prepare", shown(&file), "--name", "A", "--yes-destroy", shown(&file)];
    world.fails(&prepare, 2, "key", "");
    let said = text(&world.offsite(&prepare));
    assert!(said.contains("chmod"), "no remedy: {said}");
    std::fs::remove_file(&key).unwrap();
    world.fails(&prepare, 2, "key", "offsite init");
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn an_unknown_key_in_site_toml_is_placed_and_corrected() {
    let world = World::initialised();
    std::fs::write(world.path("etc/offsite/site.toml"), "idle_secnods = 30\n").unwrap();
    for command in [["status"].as_slice(), &["conf"], &["conf", "--out", "/nowhere"]] {
        world.fails(
            command,
            2,
            "site.toml:1:1: unknown field `idle_secnods`",
            "did you mean `idle_seconds`?",
        );
    }
}

#[test]
fn without_bacula_nothing_is_prepared() {
    let world = World::initialised();
    let file = world.file("drive", 20 << 20);
    std::fs::write(world.path("etc/offsite/site.toml"), "[bacula.accounts]\nuser = \"no-such-user\"\n")
        .unwrap();
    let prepare = ["prepare", shown(&file), "--name", "A", "--yes-destroy", shown(&file)];
    world.fails(&prepare, 1, "there is no user no-such-user", "apt-get install bacula-sd");
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn a_partition_in_a_file_is_refused_before_the_fill() {
    let world = World::initialised();
    let file = world.file("drive", 20 << 20);
    std::fs::write(world.path("etc/offsite/site.toml"), "[bacula.accounts]\nuser = \"root\"\n").unwrap();
    let prepare = ["prepare", shown(&file), "--name", "A", "--yes-destroy", shown(&file), "--gpt"];
    world.fails(&prepare, 3, "no block device", "");
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn prepare_without_device_mapper_touches_nothing() {
    let world = World::initialised();
    // A kernel like this one, but without device-mapper.
    symlink("/proc", world.path("proc")).unwrap();
    std::fs::create_dir(world.path("sys")).unwrap();
    for entry in std::fs::read_dir("/sys").unwrap() {
        let name = entry.unwrap().file_name();
        if name != "class" {
            symlink(Path::new("/sys").join(&name), world.path("sys").join(&name)).unwrap();
        }
    }
    let file = world.file("drive", 20 << 20);
    std::fs::write(world.path("etc/offsite/site.toml"), "[bacula.accounts]\nuser = \"root\"\n").unwrap();
    let prepare = ["prepare", shown(&file), "--name", "A", "--yes-destroy", shown(&file), "--volumes", "1"];
    world.fails(&prepare, 1, "no device-mapper", "modprobe dm-crypt");
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn dry_runs_destroy_nothing() {
    let world = World::initialised();
    let file = world.file("drive", 20 << 20);
    let key = world.path("etc/offsite/key");
    for command in [
        ["wipe", shown(&file), "--dry-run"].as_slice(),
        &["prepare", shown(&file), "--name", "A", "--dry-run"],
        &["luks", "format", shown(&file), "--key-file", shown(&key), "--dry-run"],
    ] {
        let output = world.offsite(command);
        assert!(output.status.success(), "{command:?}: {}", text(&output));
        assert!(text(&output).contains("would"), "{command:?}: {}", text(&output));
    }
    assert!(std::fs::read(&file).unwrap().iter().all(|b| *b == 0));
}

#[test]
fn luks_containers_in_files_take_and_lose_keys() {
    let world = World::new();
    let file = world.file("drive", 32 << 20);
    let (one, two) = (world.path("one"), world.path("two"));
    let run = |arguments: &[&str]| {
        let output = world.offsite(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["key", "generate", shown(&one)]);
    run(&["key", "generate", shown(&two), "--size", "64"]);
    run(&["luks", "format", shown(&file), "--key-file", shown(&one), "--yes-destroy", shown(&file)]);
    let slots = run(&["luks", "slots", shown(&file), "--json"]);
    let slots: serde_json::Value = serde_json::from_str(&slots).unwrap();
    let used: Vec<_> =
        slots.as_array().unwrap().iter().filter(|s| s["state"] != "empty").map(|s| &s["slot"]).collect();
    assert_eq!(used, [1], "the key file is in slot 1 and nothing is in slot 0: {slots}");
    run(&[
        "luks",
        "add",
        shown(&file),
        "--key-file",
        shown(&one),
        "--new-key-file",
        shown(&two),
        "--slot",
        "2",
    ]);
    assert!(run(&["luks", "test", shown(&file), "--key-file", shown(&two)]).contains("slot 2"));
    world.fails(&["luks", "kill", shown(&file), "1", "--key-file", shown(&one)], 3, "slot 1", "");
    run(&["luks", "kill", shown(&file), "1", "--key-file", shown(&two)]);
    world.fails(&["luks", "kill", shown(&file), "2", "--key-file", shown(&two)], 3, "slot 2", "");
    world.fails(&["luks", "test", shown(&file), "--key-file", shown(&one)], 1, "drive", "");
}

#[test]
fn conf_writes_a_tree_and_never_over_an_edit() {
    let world = World::initialised();
    let out = world.path("out");
    assert!(world.offsite(&["conf", "--out", shown(&out)]).status.success());
    let storage = out.join("etc/bacula/bacula-sd.conf");
    let written = std::fs::read_to_string(&storage).unwrap();
    assert!(
        world.offsite(&["conf", "--out", shown(&out)]).status.success(),
        "a second run finds all in place"
    );

    let edited = written.replace("Media Type", "MediaType");
    assert_ne!(edited, written);
    std::fs::write(&storage, &edited).unwrap();
    world.fails(&["conf", "--out", shown(&out)], 3, "bacula-sd.conf was edited", "--replace");
    assert_eq!(std::fs::read_to_string(&storage).unwrap(), edited);

    assert!(world.offsite(&["conf", "--out", shown(&out), "--replace"]).status.success());
    assert_eq!(std::fs::read_to_string(&storage).unwrap(), written);
    let kept = std::fs::read_to_string(storage.with_extension("conf.before-offsite")).unwrap();
    assert_eq!(kept, edited);
}

#[test]
fn conf_imports_the_tutorials_own_file() {
    let world = World::new();
    let config = world.path("vchanger.conf");
    std::fs::write(
        &config,
        "changer_name = \"c0\"\nwork_dir = /var/lib/bacula/vchanger/c0\nVirtual_Drives = 2\nslots_per_magazine = 69\n\
         magazine_bays = 1\nautomount_dir = /mnt/eSATA-1_Backups\n\
         magazine = \"UUID:6c5b725d-50c4-4605-b750-4f23575b9b5f\"\n",
    )
    .unwrap();
    let import = ["conf", "--import", shown(&config)];
    let site_toml = world.path("etc/offsite/site.toml");
    let output = world.offsite(&[&import[..], &["--dry-run"]].concat());
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("+name = \"c0\"") && said.contains("UUID:6c5b725d-50c4-4605-b750-4f23575b9b5f: "),
        "{said}"
    );
    assert!(!site_toml.exists(), "a dry run writes nothing");
    for left_out in ["slots_per_magazine", "magazine_bays", "automount_dir", "each drive's Archive Device"] {
        assert!(said.lines().any(|line| line.starts_with(left_out)), "{left_out}: {said}");
    }

    let output = world.offsite(&import);
    assert!(output.status.success(), "{}", text(&output));
    let written = std::fs::read_to_string(&site_toml).unwrap();
    assert!(written.contains("work_dir = \"/var/lib/bacula/vchanger/c0\""), "{written}");
    assert!(written.contains("[bacula.autochanger]\ndrives = 2\n"), "{written}");
    let output = world.offsite(&[&import[..], &["--json"]].concat());
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(value["magazines"][0]["problem"].is_string(), "{value}");
    assert_eq!(std::fs::read_to_string(&site_toml).unwrap(), written, "doing it again changes nothing");

    std::fs::write(&site_toml, written.replace("\"c0\"", "\"mine\"")).unwrap();
    world.fails(&import, 3, "changer.name = \"mine\"", "import again");
}

#[test]
fn conf_imports_what_site_toml_has_a_place_for() {
    let world = World::new();
    let config = world.path("vchanger.conf");
    std::fs::write(
        &config,
        "Storage Resource = c0\nWork Dir = /var/spool/vchanger/c0\nLog Level = 5\nDefault Pool = Offsite\n\
         bconsole = /opt/bin/bconsole\nbconsole config = /opt/etc/bconsole.conf\n\
         Magazine = \"UUID:6c5b725d-50c4-4605-b750-4f23575b9b5f\"\n",
    )
    .unwrap();
    let output = world.offsite(&["conf", "--import", shown(&config)]);
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    let written = std::fs::read_to_string(world.path("etc/offsite/site.toml")).unwrap();
    for line in ["[bacula.pool]\nname = \"Offsite\"", "[bacula.paths]\nbconsole = \"/opt/bin/bconsole\""] {
        assert!(written.contains(line), "{line}: {written}");
    }
    for left_out in ["Log Level is left out: ", "bconsole config is left out: "] {
        assert!(said.contains(left_out), "{said}");
    }
    assert!(!said.contains("Default Pool is") && !said.contains("bconsole is"), "{said}");
}

#[test]
fn status_is_versioned_json() {
    let world = World::initialised();
    let output = world.offsite(&["status", "--json"]);
    let value: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output)));
    assert_eq!(value["version"], 1);
    assert_eq!(value["magazines"], serde_json::json!([]));
}
