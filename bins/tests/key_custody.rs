//! The custody of keys as an administrator meets it: copies proven, keys sealed and brought back, drives whose key is
//! exchanged. On header files alone; no root is needed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fleet;
mod world;

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use age::secrecy::ExposeSecret as _;
use fleet::Fleet;
use luks_core::{Container, KeySlot, RecoveryKey, Secret, SecretKind, load_key_file};
use offsite::records::keyring::Keyring;
use serde_json::Value;
use world::{World, shown, text};

impl Fleet {
    /// What offsited does when the drive is plugged.
    fn comes_home(&self, name: &str) -> Vec<String> {
        let keys = Keyring::load(&self.root, &self.site()).unwrap();
        keys.settle(&self.root, &self.container(name)).unwrap()
    }

    fn with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_offsite"))
            .arg("--root")
            .arg(self.world.root.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }
}

fn copy_as_on_a_stick(fleet: &Fleet, key: &str) -> PathBuf {
    let copy = fleet.world.path("stick");
    fs::copy(fleet.world.path(key), &copy).unwrap();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

#[test]
fn a_copy_is_proven_without_the_drives() {
    let fleet = Fleet::new(&["A", "B"]);
    let copy = copy_as_on_a_stick(&fleet, "etc/offsite/key");
    for name in ["A", "B"] {
        fs::rename(fleet.drive(name), fleet.world.path(&format!("away-{name}"))).unwrap();
    }
    let said = fleet.says(&["key", "test", shown(&copy)]);
    assert!(said.contains("A  opens (slot 1)\nB  opens (slot 1)\n"), "{said}");
    let rows: Value = serde_json::from_str(&fleet.says(&["key", "test", shown(&copy), "--json"])).unwrap();
    assert_eq!(rows[1], serde_json::json!({"name": "B", "opens": true, "slot": 1}));
}

#[test]
fn a_copy_that_is_good_for_nothing_is_told_by_drive_and_exit_code() {
    let fleet = Fleet::new(&["A", "B"]);
    let copy = copy_as_on_a_stick(&fleet, "etc/offsite/key");
    fs::remove_file(fleet.backup("B")).unwrap();
    fleet.world.fails(
        &["key", "test", shown(&copy)],
        4,
        "1 of 2 drives have no header backup",
        "plug them in",
    );
    let other = fleet.world.path("other");
    fleet.says(&["key", "generate", shown(&other)]);
    fleet.world.fails(
        &["key", "test", shown(&other)],
        1,
        "would not open 1 of 2 drives",
        "offsite key status",
    );
    let damaged = fs::read(&copy).unwrap()[..4095].to_vec();
    fs::write(&copy, damaged).unwrap();
    fleet.world.fails(&["key", "test", shown(&copy)], 1, "would not open 1 of 2", "");
    let link = fleet.world.path("link");
    symlink(&copy, &link).unwrap();
    fleet.world.fails(&["key", "test", shown(&link)], 2, "symbolic link", "");
    fleet.world.fails(&["key", "test", "/no/such/copy"], 4, "No such file", "");
    World::initialised().fails(&["key", "test", shown(&copy)], 4, "nothing was proven", "");
}

#[test]
fn a_written_down_recovery_key_is_proven_and_a_mistake_is_located() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key, picture) =
        (fleet.drive("A"), fleet.world.path("etc/offsite/key"), fleet.world.path("qr.png"));
    let said = fleet.says(&[
        "luks",
        "add",
        shown(&drive),
        "--key-file",
        shown(&key),
        "--new-recovery-key",
        "--picture",
        shown(&picture),
    ]);
    assert!(said.contains("key added to slot 2"), "{said}");
    assert!(fs::read(&picture).unwrap().starts_with(b"\x89PNG"));
    assert_eq!(fs::metadata(&picture).unwrap().permissions().mode() & 0o777, 0o400);
    let typed = said.lines().find(|line| line.split('-').count() == 13).unwrap().trim();
    assert!(RecoveryKey::parse(typed).is_ok(), "{said}");

    let proven = fleet.with_input(&["key", "test", "--recovery-key"], &format!("{}\n", typed.to_lowercase()));
    assert!(proven.status.success() && text(&proven).contains("A  opens (slot 2)"), "{}", text(&proven));
    let mut groups: Vec<_> = typed.split('-').map(str::to_owned).collect();
    groups[6] = groups[6].chars().rev().collect();
    let mistaken = fleet.with_input(&["key", "test", "--recovery-key"], &groups.join("-"));
    let told = text(&mistaken);
    assert!(mistaken.status.code() == Some(2) && told.contains("group 7 has a typing mistake"), "{told}");

    // With the key file lost, it brings another one in.
    let new = fleet.world.path("new");
    fleet.says(&["key", "generate", shown(&new)]);
    let add = ["luks", "add", shown(&drive), "--recovery-key", "--new-key-file", shown(&new)];
    let added = fleet.with_input(&add, typed);
    assert!(added.status.success(), "{}", text(&added));
    fleet.says(&["luks", "test", shown(&drive), "--key-file", shown(&new)]);
}

#[test]
fn a_key_sealed_to_a_passphrase_comes_back_and_no_other() {
    let fleet = Fleet::new(&["A"]);
    let (sealed, key) = (fleet.world.path("sealed"), fleet.world.path("etc/offsite/key"));
    let export = ["key", "export", shown(&sealed), "--passphrase"];
    let said = fleet.with_input(&export, "a passphrase for the safe\n");
    assert!(said.status.success(), "{}", text(&said));
    assert_eq!(fs::metadata(&sealed).unwrap().permissions().mode() & 0o777, 0o400);
    assert_eq!(fleet.with_input(&export, "a passphrase for the safe\n").status.code(), Some(3));

    let before = fs::read(&key).unwrap();
    let import = ["key", "import", shown(&sealed)];
    let again = fleet.with_input(&import, "a passphrase for the safe\n");
    assert!(text(&again).contains("there already, and the same"), "{}", text(&again));
    fs::remove_file(&key).unwrap();
    let from_windows = fleet.with_input(&import, "a passphrase for the safe\r\n");
    assert!(from_windows.status.success(), "{}", text(&from_windows));
    fs::remove_file(&key).unwrap();
    let wrong = fleet.with_input(&import, "a passphrase for the save\n");
    assert!(wrong.status.code() == Some(1) && text(&wrong).contains("the passphrase doesn't open it"));
    assert!(!key.exists());
    let back = fleet.with_input(&import, "a passphrase for the safe\n");
    assert!(back.status.success() && text(&back).contains("as site.toml names it"), "{}", text(&back));
    assert_eq!(fs::read(&key).unwrap(), before);
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o7777, 0o400);

    // Another site's sealed key.
    let other = Fleet::new(&[]);
    fs::remove_file(other.world.path("etc/offsite/key")).unwrap();
    let refused = other.with_input(&import, "a passphrase for the safe\n");
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(!other.world.path("etc/offsite/key").exists());
}

#[test]
fn an_older_site_recognises_its_key_by_its_header_backups() {
    let fleet = Fleet::new(&["A"]);
    let (site, sealed) = (fleet.world.path("etc/offsite/site.toml"), fleet.world.path("sealed"));
    let text_before = fs::read_to_string(&site).unwrap();
    let older: String = text_before
        .lines()
        .filter(|line| !line.starts_with("key_fingerprint"))
        .fold(String::new(), |text, line| text + line + "\n");
    assert_ne!(older, text_before);
    fs::write(&site, older).unwrap();
    let (public, identity) = identity(&fleet);
    let (foreign, out) = (fleet.world.path("foreign"), fleet.world.path("foreign.age"));
    fleet.says(&["key", "generate", shown(&foreign)]);
    fleet.says(&["key", "export", shown(&sealed), "--recipient", &public]);
    fleet.says(&["key", "export", shown(&out), "--recipient", &public, "--key-file", shown(&foreign)]);
    fs::remove_file(fleet.world.path("etc/offsite/key")).unwrap();
    let import = |from| ["key", "import", from, "--identity", shown(&identity)];
    fleet.world.fails(&import(shown(&out)), 3, "opens no drive's header backup", "");
    assert!(fleet.says(&import(shown(&sealed))).contains("it opens a drive's header backup"));
}

fn identity(fleet: &Fleet) -> (String, PathBuf) {
    let identity = age::x25519::Identity::generate();
    let path = fleet.world.path("identity");
    fs::write(&path, format!("# made for a test\n{}\n", identity.to_string().expose_secret())).unwrap();
    (identity.to_public().to_string(), path)
}

#[test]
fn two_of_three_people_bring_the_key_back() {
    let fleet = Fleet::new(&[]);
    let (key, share) = (fleet.world.path("etc/offsite/key"), fleet.world.path("share"));
    fleet.says(&["key", "export", shown(&share), "--split", "2/3"]);
    let path = |number: u8| PathBuf::from(format!("{}.{number}", share.display()));
    let before = fs::read(&key).unwrap();
    fs::remove_file(&key).unwrap();
    fleet.world.fails(&["key", "import", shown(&path(1))], 1, "2 are needed", "");
    fleet.world.fails(&["key", "import", shown(&path(1)), shown(&path(1))], 1, "2 are needed", "");
    fleet.says(&["key", "import", shown(&path(3)), shown(&path(1))]);
    assert_eq!(fs::read(&key).unwrap(), before);
    for numbers in ["3", "1/3", "4/3", "2/300", "a/b"] {
        fleet.world.fails(&["key", "export", shown(&share), "--split", numbers], 2, "", "");
    }
    fleet.world.fails(&["key", "export", shown(&share), "--split", "2/3"], 3, "is not overwritten", "");
}

#[test]
fn a_fleets_key_is_exchanged_as_the_drives_come_home() {
    let fleet = Fleet::new(&["A", "B", "C"]);
    let (old, new) = (fleet.key(), || load_key_file(&fleet.world.path("etc/offsite/key-2")).unwrap());
    fleet.world.fails(
        &["key", "rotate", "--copy", "/nowhere"],
        2,
        "there is no new key yet",
        "offsite key rotate",
    );
    assert!(fleet.says(&["key", "rotate"]).contains("/etc/offsite/key-2: the next key"));
    // Both open a drive that came; nothing is taken away before a copy is proven.
    assert_eq!(fleet.comes_home("A").len(), 1);
    for key in [&old, &new()] {
        fleet.container("A").test_key(key).unwrap();
        Container::load(&fleet.backup("A")).unwrap().test_key(key).unwrap();
    }
    assert!(fleet.comes_home("A").is_empty(), "done twice");
    let said = fleet.says(&["key", "status"]);
    assert!(said.contains("A  backup: current and next"), "{said}");
    assert!(said.contains("B  backup: current  "), "{said}");

    let key = fleet.world.path("etc/offsite/key-2");
    fleet.world.fails(&["key", "rotate", "--copy", shown(&key)], 3, "the key itself, no copy", "safe");
    let wrong = copy_as_on_a_stick(&fleet, "etc/offsite/key");
    fleet.world.fails(&["key", "rotate", "--copy", shown(&wrong)], 3, "is the key", "new copy");
    let copy = copy_as_on_a_stick(&fleet, "etc/offsite/key-2");
    fleet.says(&["key", "rotate", "--copy", shown(&copy)]);

    // A has the new one already; B comes for the first time; C is still away.
    assert_eq!(fleet.comes_home("A").len(), 1);
    assert_eq!(fleet.comes_home("B").len(), 2);
    for name in ["A", "B"] {
        assert_eq!(fleet.container(name).slots_opened_by(&old).unwrap(), [], "{name}");
        fleet.container(name).test_key(&new()).unwrap();
        let backup = Container::load(&fleet.backup(name)).unwrap();
        assert!(backup.test_key(&old).is_err(), "the old key opens the backup of {name}");
    }
    let status = fleet.world.offsite(&["key", "status"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    assert!(text(&status).contains("C  backup: old"), "{}", text(&status));
    assert!(fleet.says(&["key", "rotate"]).contains("still to come home: C"));
    assert_eq!(fleet.site().old_key_files, [PathBuf::from("/etc/offsite/key")]);

    fleet.comes_home("C");
    assert!(fleet.says(&["key", "rotate"]).contains("No drive takes the old key any more"));
    let site = fleet.site();
    assert_eq!((site.key_file, site.old_key_files.len()), ("/etc/offsite/key-2".into(), 0));
    assert_eq!(site.key_fingerprint, Some(new().fingerprint()));
    fleet.says(&["key", "status"]);
    assert!(
        fleet.world.path("etc/offsite/key").exists(),
        "the old key file is the administrator's to destroy"
    );
}

/// One drive was seen to while the key was exchanged by hand, and has both keys and a third one twice.
#[test]
fn a_drive_in_two_states_is_settled() {
    let fleet = Fleet::new(&["A"]);
    let old = fleet.key();
    fleet.says(&["key", "rotate", "--without-copy"]);
    let new = load_key_file(&fleet.world.path("etc/offsite/key-2")).unwrap();
    let container = fleet.container("A");
    for slot in [5, 6] {
        container.add_key(&old, &old, SecretKind::KeyFile, KeySlot::new(slot)).unwrap();
    }
    container.add_key(&old, &new, SecretKind::KeyFile, KeySlot::new(7)).unwrap();
    // None of that was done by offsite, so somebody has to stand up for it.
    let good = fs::read(fleet.backup("A")).unwrap();
    let keys = Keyring::load(&fleet.root, &fleet.site()).unwrap();
    let refused = keys.settle(&fleet.root, &container).unwrap_err();
    assert!(refused.message().contains("was changed outside offsite: key slots 5, 6, 7"), "{refused}");
    assert!(fs::read(fleet.backup("A")).unwrap() == good, "the backup is another one");
    let said = fleet.says(&["luks", "accept", "A"]);
    assert!(said.contains("key slot 7 was changed") && said.contains("is the enrolled one now"), "{said}");
    let done = fleet.comes_home("A");
    assert_eq!(done.len(), 3, "{done:?}");
    assert_eq!(container.slots_opened_by(&new).unwrap(), [KeySlot::new(7).unwrap()]);
    assert_eq!(container.slots_opened_by(&old).unwrap(), []);
    assert!(container.is_backed_up_by(&fleet.backup("A")).unwrap());

    // The same key under two names is never taken for an old one.
    let copy = fleet.world.path("etc/offsite/key-3");
    fs::copy(fleet.world.path("etc/offsite/key-2"), copy).unwrap();
    let site = fleet.world.path("etc/offsite/site.toml");
    let text = fs::read_to_string(&site).unwrap();
    fs::write(&site, text.replace("\"/etc/offsite/key\"", "\"/etc/offsite/key-3\"")).unwrap();
    assert_eq!(fleet.site().old_key_files, [PathBuf::from("/etc/offsite/key-3")]);
    assert!(fleet.comes_home("A").is_empty());
    container.test_key(&new).unwrap();
}

#[test]
fn a_drive_of_no_known_key_is_left_alone() {
    let fleet = Fleet::new(&["A"]);
    let strange = Secret::random(64).unwrap();
    let container = fleet.container("A");
    container.rotate_key(&fleet.key(), &strange, SecretKind::KeyFile).unwrap();
    fleet.says(&["key", "rotate", "--without-copy"]);
    let before = fs::read(fleet.drive("A")).unwrap();
    let keys = Keyring::load(&fleet.root, &fleet.site()).unwrap();
    assert!(keys.settle(&fleet.root, &container).is_err());
    assert!(fs::read(fleet.drive("A")).unwrap() == before, "it was written to");
}

#[test]
fn a_change_leaves_a_header_copy_only_when_it_broke_off() {
    let fleet = Fleet::new(&["A"]);
    let (drive, key, new) = (fleet.drive("A"), fleet.world.path("etc/offsite/key"), fleet.world.path("new"));
    fleet.says(&["key", "generate", shown(&new)]);
    let headers = || fs::read_dir(fleet.root.headers_dir()).unwrap().count();
    fleet.says(&["luks", "change", shown(&drive), "--key-file", shown(&key), "--new-key-file", shown(&new)]);
    assert_eq!(headers(), 1, "a copy was left behind");
    assert!(fleet.container("A").is_backed_up_by(&fleet.backup("A")).unwrap(), "the register is behind");
    fleet.world.fails(&["luks", "kill", shown(&drive), "0", "--key-file", shown(&new)], 3, "slot 0", "");
    assert_eq!(headers(), 1, "a refused change left a copy behind");
}

#[test]
fn doctor_tells_what_is_wrong_with_header_backups() {
    let fleet = Fleet::new(&["A", "B", "C", "D"]);
    fs::remove_file(fleet.backup("A")).unwrap();
    fs::set_permissions(fleet.backup("B"), Permissions::from_mode(0o444)).unwrap();
    fs::write(fleet.backup("C"), b"damaged").unwrap_or_else(|_| {
        fs::remove_file(fleet.backup("C")).unwrap();
        fs::write(fleet.backup("C"), b"damaged").unwrap();
        fs::set_permissions(fleet.backup("C"), Permissions::from_mode(0o400)).unwrap();
    });
    let findings: Value = serde_json::from_slice(&fleet.world.offsite(&["doctor", "--json"]).stdout).unwrap();
    let warned = |text: &str| {
        findings.as_array().unwrap().iter().any(|f| f["message"].as_str().unwrap().contains(text))
    };
    assert!(!warned("the exchange of the key") && !warned("no key of this site"));
    let of = |name: &str| {
        let mut about = findings.as_array().unwrap().iter().filter(|finding| {
            finding["message"].as_str().unwrap().starts_with(&format!("magazine {name}: "))
        });
        let finding = about.next().unwrap().clone();
        (finding["grade"].as_str().unwrap().to_owned(), finding["message"].as_str().unwrap().to_owned())
    };
    for (name, grade, what) in [
        ("A", "error", "no backup"),
        ("B", "error", "others than root may read"),
        ("C", "error", "can't be used"),
        ("D", "ok", "is backed up"),
    ] {
        let (found, message) = of(name);
        assert!(found == grade && message.contains(what), "{name}: {found}: {message}");
    }
    // A key that opens nothing, in the middle of an exchange.
    fs::remove_file(fleet.world.path("etc/offsite/key")).unwrap();
    fleet.says(&["key", "generate", shown(&fleet.world.path("etc/offsite/key"))]);
    fleet.says(&["key", "rotate"]);
    let said = text(&fleet.world.offsite(&["doctor"]));
    for expected in
        ["the exchange of the key isn't finished", "it is the key ", "magazine D: no key of this site opens"]
    {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

/// A server that burnt down: nothing is there but what the safe has.
#[test]
fn a_key_comes_back_to_an_empty_system_in_every_form() {
    let fleet = Fleet::new(&[]);
    let key = fleet.world.path("etc/offsite/key");
    let (public, identity) = identity(&fleet);
    let (sealed, share) = (fleet.world.path("sealed"), fleet.world.path("share"));
    fleet.says(&["key", "export", shown(&sealed), "--recipient", &public]);
    fleet.says(&["key", "export", shown(&share), "--split", "2/3"]);
    let stick = copy_as_on_a_stick(&fleet, "etc/offsite/key");
    let shares = [1, 3].map(|number| PathBuf::from(format!("{}.{number}", share.display())));
    let forms = [
        vec![shown(&sealed), "--identity", shown(&identity)],
        vec![shown(&shares[0]), shown(&shares[1])],
        vec![shown(&stick)],
    ];
    for form in forms {
        for named in [false, true] {
            let empty = World::new();
            let back = empty.path("etc/offsite/key");
            let to = if named { vec!["--to", shown(&back)] } else { Vec::new() };
            let output = empty.offsite(&[&["key", "import"][..], &form, &to].concat());
            assert!(output.status.success(), "{form:?} {to:?}: {}", text(&output));
            assert_eq!(fs::read(&back).unwrap(), fs::read(&key).unwrap());
            assert_eq!(fs::metadata(&back).unwrap().permissions().mode() & 0o777, 0o400);
            assert_eq!(fs::metadata(back.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o755);
            let init = empty.offsite(&["init"]);
            assert!(init.status.success(), "{}", text(&init));
            let site = fs::read_to_string(empty.path("etc/offsite/site.toml")).unwrap();
            let print = load_key_file(&back).unwrap().fingerprint();
            assert!(site.contains(&format!("key_fingerprint = \"{print}\"")), "{site}");
        }
    }
    let nowhere = fleet.world.path("no/such/directory/key");
    fleet.world.fails(&["key", "import", shown(&stick), "--to", shown(&nowhere)], 1, "No such file", "");
}

#[test]
fn what_was_exported_is_proven_as_it_lies_in_the_safe() {
    let fleet = Fleet::new(&["A"]);
    let (public, identity) = identity(&fleet);
    let (sealed, share) = (fleet.world.path("sealed"), fleet.world.path("share"));
    fleet.says(&["key", "export", shown(&sealed), "--recipient", &public]);
    fleet.says(&["key", "export", shown(&share), "--split", "2/3"]);
    let part = |number: u8| format!("{}.{number}", share.display());
    for form in [vec![shown(&sealed), "--identity", shown(&identity)], vec![&*part(3), &*part(2)]] {
        let said = fleet.says(&[&["key", "test"][..], &form].concat());
        assert!(said.contains("A  opens (slot 1)"), "{said}");
    }
    fleet.world.fails(&["key", "test", shown(&sealed)], 2, "sealed to recipients", "--identity");
    fleet.world.fails(&["key", "test", &part(1)], 1, "2 are needed", "name enough of them");

    // A sealed copy of the next key ends an exchange as well as a plain one.
    fleet.says(&["key", "rotate"]);
    let next = fleet.world.path("etc/offsite/key-2");
    let sealed = fleet.world.path("sealed-next");
    fleet.says(&["key", "export", shown(&sealed), "--recipient", &public, "--key-file", shown(&next)]);
    fleet.says(&["key", "rotate", "--copy", shown(&sealed), "--identity", shown(&identity)]);
    assert_eq!(fleet.site().next_key_fingerprint, None);
}

#[test]
fn a_next_key_that_is_lost_is_brought_back_and_never_made_anew() {
    let fleet = Fleet::new(&["A"]);
    fleet.says(&["key", "rotate"]);
    let next = fleet.world.path("etc/offsite/key-2");
    let print = load_key_file(&next).unwrap().fingerprint();
    assert_eq!(fleet.site().next_key_fingerprint, Some(print));
    fleet.comes_home("A"); // it takes the key that is about to be lost
    let wrong = copy_as_on_a_stick(&fleet, "etc/offsite/key");
    let copy = fleet.world.path("copy");
    fs::rename(&next, &copy).unwrap();
    for arguments in [&["key", "rotate"][..], &["key", "rotate", "--without-copy"]] {
        fleet.world.fails(arguments, 4, "is missing", "bring the copy back");
    }
    fleet.world.fails(&["key", "rotate", "--copy", shown(&wrong)], 3, "site.toml names", "right copy");
    fleet.world.fails(&["key", "import", shown(&wrong), "--to", shown(&next)], 3, "site.toml names", "");
    assert!(!next.exists());
    assert!(fleet.says(&["key", "rotate", "--copy", shown(&copy)]).contains("brought back from the copy"));
    assert_eq!(load_key_file(&next).unwrap().fingerprint(), print);
    assert_eq!(fleet.site().key_fingerprint, Some(print));
}

#[test]
fn no_fingerprint_makes_a_foreign_key_the_sites() {
    let fleet = Fleet::new(&[]);
    let (key, foreign) = (fleet.world.path("etc/offsite/key"), fleet.world.path("foreign"));
    fleet.says(&["key", "generate", shown(&foreign)]);
    fs::remove_file(&key).unwrap();
    let print = load_key_file(&foreign).unwrap().fingerprint().to_string();
    let import = ["key", "import", shown(&foreign), "--fingerprint", &print];
    fleet.world.fails(&import, 3, "site.toml names", "right copy");
    let round_about = fleet.world.path("etc/offsite/../offsite/key");
    fleet.world.fails(&[&import[..], &["--to", shown(&round_about)]].concat(), 3, "site.toml names", "");
    assert!(!key.exists());
    let elsewhere = fleet.world.path("elsewhere");
    fleet.says(&[&import[..], &["--to", shown(&elsewhere)]].concat());
}

/// A key's copy as editors, mail and old transfer programs leave it.
#[test]
fn a_copy_that_was_changed_on_its_way_is_never_installed_as_it_is() {
    use base64::Engine as _;
    let fleet = Fleet::new(&["A"]);
    let path = fleet.world.path("etc/offsite/key");
    let key = fs::read(&path).unwrap();
    let base64 = base64::prelude::BASE64_STANDARD.encode(&key);
    let copy = fleet.world.path("copy");
    let mangled = [
        base64.clone().into_bytes(),
        format!("-----BEGIN KEY-----\r\n{base64}\r\n-----END KEY-----\r\n").into_bytes(),
        [b"\xef\xbb\xbf".as_slice(), &key].concat(),
        [&key[..], b"\n"].concat(),
        format!("> {base64}\n").into_bytes(),
    ];
    for bytes in &mangled {
        fs::remove_file(&path).unwrap();
        fs::write(&copy, bytes).unwrap();
        let said = fleet.says(&["key", "import", shown(&copy)]);
        assert!(said.contains("this is undone"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), key);
    }
    // Nothing on a blank machine proves that a text is a key.
    let blank = World::new();
    let back = blank.path("etc/offsite/key");
    fs::write(&copy, &mangled[0]).unwrap();
    let refused = blank.offsite(&["key", "import", shown(&copy)]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert!(text(&refused).contains("--fingerprint") && !back.exists(), "{}", text(&refused));
    let print = load_key_file(&path).unwrap().fingerprint().to_string();
    let output = blank.offsite(&["key", "import", shown(&copy), "--fingerprint", &print]);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(fs::read(&back).unwrap(), key);

    // An armored, sealed key that mail quoted.
    let (public, identity) = identity(&fleet);
    let sealed = fleet.world.path("sealed");
    fleet.says(&["key", "export", shown(&sealed), "--recipient", &public]);
    let armor = base64::prelude::BASE64_STANDARD.encode(fs::read(&sealed).unwrap());
    let lines: Vec<_> = armor.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    let mail = format!(
        "\u{feff}> -----BEGIN AGE ENCRYPTED FILE-----\r\n> {}\r\n> -----END AGE ENCRYPTED FILE-----\r\n",
        lines.join("\r\n> ")
    );
    fs::write(&copy, mail).unwrap();
    fs::remove_file(&path).unwrap();
    fleet.says(&["key", "import", shown(&copy), "--identity", shown(&identity)]);
    assert_eq!(fs::read(&path).unwrap(), key);
}

#[test]
fn a_copy_of_another_length_and_a_short_key_are_told() {
    let fleet = Fleet::new(&["A"]);
    let key = fs::read(fleet.world.path("etc/offsite/key")).unwrap();
    let copy = fleet.world.path("copy");
    fs::write(&copy, [&key[..], b"\n"].concat()).unwrap();
    fleet.world.fails(
        &["key", "test", shown(&copy)],
        1,
        "would not open",
        "the copy has 4097 bytes and the site's key 4096",
    );
    let short = fleet.world.path("short");
    fs::write(&short, "sixteen bytes ok").unwrap();
    fs::set_permissions(&short, Permissions::from_mode(0o400)).unwrap();
    fleet.world.fails(&["key", "fingerprint", shown(&short)], 2, "has 16 bytes", "luksAddKey");
}

#[test]
fn a_wrong_import_gives_way_to_the_key_that_opens_the_drives() {
    let fleet = Fleet::new(&["A"]);
    let (path, right) = (fleet.world.path("etc/offsite/key"), fleet.world.path("right"));
    let key = fs::read(&path).unwrap();
    fs::write(&right, &key).unwrap();
    // As an earlier version left it: a text in the key's place, and its fingerprint in site.toml.
    let site = fleet.world.path("etc/offsite/site.toml");
    let before = fs::read_to_string(&site).unwrap();
    let good = load_key_file(&path).unwrap().fingerprint().to_string();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "bm90IHRoZSBrZXkgYnV0IGEgY29weSBvZiBpdCBpbiBiYXNlNjQK").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
    let wrong = load_key_file(&path).unwrap().fingerprint().to_string();
    fs::write(&site, before.replace(&good, &wrong)).unwrap();

    let said = fleet.says(&["key", "import", shown(&right)]);
    assert!(said.contains("key.wrong-1"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), key);
    assert_eq!(fs::read_to_string(&site).unwrap(), before);
    assert!(fleet.world.path("etc/offsite/key.wrong-1").exists());
    // Another key that opens nothing doesn't take its place.
    fs::write(&right, [7; 4096]).unwrap();
    let refused = fleet.world.offsite(&["key", "import", shown(&right)]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused));
    assert_eq!(fs::read(&path).unwrap(), key);
}

#[test]
fn doctor_asks_for_a_copy_of_the_key_until_one_was_proven() {
    let fleet = Fleet::new(&["A"]);
    let says = |words: &str| {
        let said = text(&fleet.world.offsite(&["doctor"]));
        assert!(said.contains(words), "{words}: {said}");
    };
    says("no copy of the key was made or tested");
    let (key, share) = (fleet.world.path("etc/offsite/key"), fleet.world.path("share"));
    fleet.says(&["key", "export", shown(&share), "--split", "2/3"]);
    says("was never tested");
    fleet.says(&["key", "test", shown(&key)]);
    says("was never tested");
    let shares = [fleet.world.path("share.1"), fleet.world.path("share.3")];
    fleet.says(&["key", "test", shown(&shares[0]), shown(&shares[1])]);
    says("a copy of the key was proven on 20");
}
