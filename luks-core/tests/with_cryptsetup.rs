//! Side by side with Debian's own `cryptsetup`: it opens what we make, and we open what it makes.
//!
//! Files only, so neither root nor device-mapper is needed. Without the program every test is marked as ignored.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{
    AddKeyError, Container, FormatOptions, HeaderCopy, KeySlot, LoadError, LuksVersion, RecoveryKey, Secret,
    SecretKind, SlotPbkdf, SlotState, TestKeyError, load_key_file,
};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
const PROGRAM: &str = "/usr/sbin/cryptsetup";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let there = Path::new(PROGRAM).exists();
    let trial = |name: &str, test: fn()| {
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        let trial = Trial::test(name, run).with_ignored_flag(!there);
        if there { trial } else { trial.with_kind("no-cryptsetup-program") }
    };
    let trials = vec![
        trial("cryptsetup_opens_our_luks2_container", cryptsetup_opens_our_luks2_container),
        trial("cryptsetup_opens_our_luks1_container", cryptsetup_opens_our_luks1_container),
        trial("our_flow_and_the_tutorials_commands_end_in_the_same_state", same_end_state),
        trial("the_tutorials_drive_is_taken_over", the_tutorials_drive_is_taken_over),
        trial("we_open_what_cryptsetup_makes", we_open_what_cryptsetup_makes),
        trial("a_typed_passphrase_gets_argon2id_and_opens_in_cryptsetup", typed_passphrase),
        trial("header_backups_are_interchangeable", header_backups_are_interchangeable),
        trial("cryptsetup_repairs_what_we_call_damaged", damage_is_judged_alike),
        trial("slots_that_cryptsetup_changes_are_seen", slots_that_cryptsetup_changes_are_seen),
        trial("a_reencryption_under_way_is_named_and_nothing_is_changed", reencryption_is_left_alone),
        trial("a_recovery_key_opens_at_cryptsetups_prompt", recovery_key_at_the_prompt),
        trial("null_ciphers_are_refused", null_ciphers_are_refused),
        trial("tokens_and_unbound_slots_stay_as_they_are", tokens_and_unbound_slots_stay),
        trial("a_detached_header_is_a_container", a_detached_header_is_a_container),
        trial("a_converted_container_opens", a_converted_container_opens),
        trial("keys_of_every_size_open_alike", keys_of_every_size_open_alike),
        trial("every_hash_that_cryptsetup_makes_opens", every_hash_that_cryptsetup_makes_opens),
        trial("every_layout_that_cryptsetup_makes_opens", every_layout_that_cryptsetup_makes_opens),
        trial("the_dumped_volume_key_adds_a_key", the_dumped_volume_key_adds_a_key),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A directory with a key file and a place for drives.
struct Bench {
    directory: TempDir,
    key_file: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key_file = directory.path().join("key");
        luks_core::generate_key_file(&key_file, 4096).unwrap();
        Self { directory, key_file }
    }

    fn key(&self) -> Secret {
        load_key_file(&self.key_file).unwrap()
    }

    fn drive(&self, name: &str, mib: u64) -> PathBuf {
        let path = self.directory.path().join(name);
        File::create_new(&path).unwrap().set_len(mib * MIB).unwrap();
        path
    }

    fn format(&self, device: &Path, options: &FormatOptions) -> Container {
        Container::format(device, options, &self.key(), SecretKind::KeyFile, KeySlot::ONE).unwrap()
    }

    /// What `cryptsetup -v open --test-passphrase` says.
    fn opened_by_cryptsetup(&self, device: &Path) -> String {
        let key_file = self.key_file.to_str().unwrap();
        cryptsetup(device, &["-v", "open", "--test-passphrase", "--key-file", key_file, "DEVICE"], b"")
    }
}

/// Runs the program with a text on its standard input; `DEVICE` stands for the device. Returns what it printed.
fn cryptsetup(device: &Path, arguments: &[&str], input: &[u8]) -> String {
    let result = try_cryptsetup(device, arguments, input);
    result.unwrap_or_else(|text| panic!("cryptsetup {arguments:?}: {text}"))
}

fn try_cryptsetup(device: &Path, arguments: &[&str], input: &[u8]) -> Result<String, String> {
    let device = device.to_str().unwrap();
    let arguments = arguments.iter().map(|argument| if *argument == "DEVICE" { device } else { argument });
    let mut child = Command::new(PROGRAM)
        .args(["--batch-mode"])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if output.status.success() { Ok(text) } else { Err(text) }
}

fn dump(device: &Path) -> String {
    cryptsetup(device, &["luksDump", "DEVICE"], b"")
}

fn luks1() -> FormatOptions {
    FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() }
}

fn used(container: &Container) -> Vec<(u8, SlotState)> {
    let slots = container.slots().unwrap();
    let used = slots.iter().filter(|info| info.state != SlotState::Empty);
    used.map(|info| (info.slot.get(), info.state)).collect()
}

fn cryptsetup_opens_our_luks2_container() {
    let bench = Bench::new();
    let device = bench.drive("two", 32);
    let options = FormatOptions {
        label: Some("blue".into()),
        subsystem: Some("offsite".into()),
        ..FormatOptions::default()
    };
    let container = bench.format(&device, &options);
    assert!(bench.opened_by_cryptsetup(&device).contains("Key slot 1 unlocked"));
    let dump = dump(&device);
    for expected in [
        format!("UUID:          \t{}", container.uuid()),
        "Label:         \tblue".into(),
        "Subsystem:     \toffsite".into(),
        "offset: 16777216 [bytes]".into(),
        "cipher: aes-xts-plain64".into(),
        "sector: 4096 [bytes]".into(),
        "  1: luks2".into(),
        "Cipher key: 512 bits".into(),
        "PBKDF:      pbkdf2".into(),
        "Iterations: 1000".into(),
    ] {
        assert!(dump.contains(&expected), "{expected:?} is not in\n{dump}");
    }
    assert!(!dump.contains("  0: luks2"), "slot 0 is in use\n{dump}");
}

fn cryptsetup_opens_our_luks1_container() {
    let bench = Bench::new();
    let device = bench.drive("one", 4);
    let container = bench.format(&device, &luks1());
    assert!(bench.opened_by_cryptsetup(&device).contains("Key slot 1 unlocked"));
    let dump = dump(&device);
    for expected in [
        "Version:       \t1".into(),
        "Cipher name:   \taes".into(),
        "Cipher mode:   \txts-plain64".into(),
        "MK bits:       \t512".into(),
        "Payload offset:\t4096".into(),
        "Key Slot 0: DISABLED".into(),
        "Key Slot 1: ENABLED".into(),
        "Key Slot 2: DISABLED".into(),
        format!("UUID:          \t{}", container.uuid()),
    ] {
        assert!(dump.contains(&expected), "{expected:?} is not in\n{dump}");
    }
}

/// The tutorial's three commands, with a fast derivation only to save the test's time.
fn tutorial(bench: &Bench, device: &Path, version: &str) {
    let fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let key_file = bench.key_file.to_str().unwrap();
    let format = [
        &["-v", "luksFormat", "--type", version, "-c", "aes-xts-plain64", "-s", "512"],
        &fast[..],
        &["DEVICE"],
    ];
    cryptsetup(device, &format.concat(), b"tempvolpassphrase\n");
    cryptsetup(
        device,
        &[&["-v", "luksAddKey"], &fast[..], &["DEVICE", key_file]].concat(),
        b"tempvolpassphrase\n",
    );
    cryptsetup(device, &["-v", "luksKillSlot", "DEVICE", "0", "--key-file", key_file], b"");
}

fn same_end_state() {
    let bench = Bench::new();
    for (version, options) in [("luks1", luks1()), ("luks2", FormatOptions::default())] {
        let (theirs, ours) =
            (bench.drive(&format!("theirs-{version}"), 20), bench.drive(&format!("ours-{version}"), 20));
        tutorial(&bench, &theirs, version);
        bench.format(&ours, &options);
        assert_eq!(shape(&dump(&ours)), shape(&dump(&theirs)), "{version}");
    }
}

/// A dump without what is random or measured in each container.
fn shape(dump: &str) -> String {
    let is_hex = |line: &str| {
        let mut bytes = line.split_whitespace();
        line.trim().len() > 8
            && bytes.all(|byte| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit()))
    };
    let changing =
        ["UUID:", "LUKS header information for", "Epoch:", "Salt:", "Digest:", "MK digest:", "MK salt:"];
    let mut lines: Vec<&str> = dump
        .lines()
        .filter(|line| !is_hex(line) && !changing.iter().any(|word| line.trim_start().starts_with(word)))
        .collect();
    // The second slot that is made lies behind the first one, and its digest's iterations are measured.
    lines.retain(|line| {
        !["Area offset:", "Key material offset:", "MK iterations:"].iter().any(|word| line.contains(word))
    });
    let digests = lines.iter().position(|line| *line == "Digests:").unwrap_or(lines.len());
    let (before, after) = lines.split_at(digests);
    let after = after.iter().filter(|line| !line.contains("Iterations:"));
    before.iter().chain(after).copied().collect::<Vec<_>>().join("\n")
}

fn the_tutorials_drive_is_taken_over() {
    let bench = Bench::new();
    for (version, expected) in [("luks1", LuksVersion::Luks1), ("luks2", LuksVersion::Luks2)] {
        let device = bench.drive(version, 20);
        tutorial(&bench, &device, version);
        let before = fs::read(&device).unwrap();
        let container = Container::load(&device).unwrap();
        assert_eq!(container.version(), expected);
        assert_eq!(used(&container), [(1, SlotState::ActiveLast)]);
        assert_eq!(container.test_key(&bench.key()).unwrap(), KeySlot::ONE);
        let passphrase = Secret::from_bytes(b"tempvolpassphrase".to_vec());
        assert!(matches!(container.test_key(&passphrase), Err(TestKeyError::WrongKey { .. })));
        assert!(fs::read(&device).unwrap() == before, "taking over wrote to the drive");
    }
}

fn we_open_what_cryptsetup_makes() {
    let bench = Bench::new();
    let argon = |kind| {
        vec![
            "--pbkdf",
            kind,
            "--pbkdf-force-iterations",
            "4",
            "--pbkdf-memory",
            "32",
            "--pbkdf-parallel",
            "1",
        ]
    };
    let pbkdf2 = |hash| vec!["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", hash];
    let kinds: Vec<(&str, Vec<&str>)> = vec![
        ("luks2", argon("argon2id")),
        ("luks2", argon("argon2i")),
        ("luks2", pbkdf2("sha512")),
        ("luks2", [pbkdf2("sha256"), vec!["-c", "aes-cbc-essiv:sha256", "-s", "256"]].concat()),
        ("luks2", [pbkdf2("sha256"), vec!["-c", "serpent-xts-plain64", "-s", "512"]].concat()),
        (
            "luks2",
            [pbkdf2("sha256"), vec!["--sector-size", "512", "--label", "red", "--subsystem", "other"]]
                .concat(),
        ),
        (
            "luks2",
            [pbkdf2("sha256"), vec!["--luks2-metadata-size", "64k", "--luks2-keyslots-size", "1m"]].concat(),
        ),
        ("luks2", [pbkdf2("sha256"), vec!["--luks2-metadata-size", "4m"]].concat()),
        ("luks2", [pbkdf2("sha256"), vec!["--key-slot", "31"]].concat()),
        ("luks2", [pbkdf2("sha1"), vec!["--sector-size", "1024"]].concat()),
        ("luks2", [pbkdf2("sha384"), vec!["--sector-size", "2048"]].concat()),
        ("luks2", [pbkdf2("sha256"), vec!["-c", "twofish-xts-plain64", "-s", "512"]].concat()),
        ("luks2", [pbkdf2("sha256"), vec!["-c", "camellia-cbc-plain64", "-s", "256"]].concat()),
        ("luks2", [pbkdf2("sha256"), vec!["-c", "aes-xts-plain64", "-s", "256"]].concat()),
        ("luks1", pbkdf2("sha1")),
        ("luks1", pbkdf2("sha512")),
        ("luks1", pbkdf2("whirlpool")),
        ("luks1", [pbkdf2("sha256"), vec!["-c", "aes-cbc-plain", "-s", "128"]].concat()),
        ("luks1", [pbkdf2("sha256"), vec!["-c", "twofish-xts-plain64", "-s", "512"]].concat()),
        ("luks1", [pbkdf2("sha256"), vec!["--align-payload", "16384"]].concat()),
        ("luks1", pbkdf2("ripemd160")),
        ("luks1", [pbkdf2("sha256"), vec!["-c", "aes-cbc-essiv:sha256", "-s", "256"]].concat()),
        ("luks1", [pbkdf2("sha256"), vec!["--key-slot", "7"]].concat()),
    ];
    for (index, (version, options)) in kinds.into_iter().enumerate() {
        let device = bench.drive(&format!("drive-{index}"), 24);
        let command = [vec!["luksFormat", "--type", version], options.clone(), vec!["DEVICE"]].concat();
        // A kernel or an OpenSSL without an old algorithm is no failure of ours.
        if let Err(text) = try_cryptsetup(&device, &command, b"typed\n") {
            println!("not possible here: {options:?}: {text}");
            let rare = ["ripemd160", "whirlpool", "serpent", "twofish", "camellia"];
            assert!(options.iter().any(|option| rare.iter().any(|rare| option.contains(rare))), "{text}");
            continue;
        }
        let container = Container::load(&device).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let typed = Secret::from_bytes(b"typed".to_vec());
        let slot = container.test_key(&typed).unwrap_or_else(|error| panic!("{options:?}: {error}"));
        let info = container.slots().unwrap().into_iter().find(|info| info.slot == slot).unwrap();
        let kind = match info.pbkdf.unwrap() {
            SlotPbkdf::Pbkdf2 { .. } => "pbkdf2",
            SlotPbkdf::Argon2i { .. } => "argon2i",
            SlotPbkdf::Argon2id { .. } => "argon2id",
            _ => "unknown",
        };
        assert!(options.contains(&kind), "{options:?}: {kind}");
        let added = container.add_key(&typed, &bench.key(), SecretKind::KeyFile, None).unwrap();
        let message = format!("Key slot {added} unlocked");
        assert!(bench.opened_by_cryptsetup(&device).contains(&message), "{options:?}");
        container.kill_slot(slot, &bench.key()).unwrap();
        assert_eq!(used(&container), [(added.get(), SlotState::ActiveLast)], "{options:?}");
    }
}

fn typed_passphrase() {
    let bench = Bench::new();
    let device = bench.drive("typed", 20);
    let container = bench.format(&device, &FormatOptions::default());
    let typed = Secret::from_bytes(b"correct horse".to_vec());
    container.add_key(&bench.key(), &typed, SecretKind::Passphrase, Some(KeySlot::TWO)).unwrap();
    let info = container.slots().unwrap().into_iter().find(|info| info.slot == KeySlot::TWO).unwrap();
    let Some(SlotPbkdf::Argon2id { time, memory_kib, .. }) = info.pbkdf else { panic!("{info:?}") };
    assert!(time * memory_kib >= 4 * 32 * 1024, "too cheap for a passphrase: {info}");
    let opened = cryptsetup(&device, &["-v", "open", "--test-passphrase", "DEVICE"], b"correct horse\n");
    assert!(opened.contains("Key slot 2 unlocked"), "{opened}");
}

fn header_backups_are_interchangeable() {
    let bench = Bench::new();
    for (name, options) in [("one", luks1()), ("two", FormatOptions::default())] {
        let device = bench.drive(name, 20);
        let container = bench.format(&device, &options);
        let (ours, theirs) = (
            bench.directory.path().join(format!("{name}.ours")),
            bench.directory.path().join(format!("{name}.theirs")),
        );
        container.backup_header(&ours).unwrap();
        cryptsetup(
            &device,
            &["luksHeaderBackup", "DEVICE", "--header-backup-file", theirs.to_str().unwrap()],
            b"",
        );
        assert!(fs::read(&ours).unwrap() == fs::read(&theirs).unwrap(), "{name}: the backups differ");
        fs::OpenOptions::new().write(true).open(&device).unwrap().write_all(&vec![0; 65536]).unwrap();
        assert!(matches!(Container::load(&device), Err(LoadError::NotLuks { .. })));
        cryptsetup(
            &device,
            &["luksHeaderRestore", "DEVICE", "--header-backup-file", ours.to_str().unwrap()],
            b"",
        );
        assert_eq!(Container::load(&device).unwrap().test_key(&bench.key()).unwrap(), KeySlot::ONE);
    }
}

fn damage_is_judged_alike() {
    let bench = Bench::new();
    let device = bench.drive("two", 20);
    bench.format(&device, &FormatOptions::default());
    let mut bytes = fs::read(&device).unwrap();
    bytes.iter_mut().take(100).for_each(|byte| *byte = 0);
    fs::write(&device, &bytes).unwrap();
    let error = Container::load(&device).unwrap_err();
    assert!(matches!(error, LoadError::HeaderDamaged { damaged: HeaderCopy::Primary, .. }), "{error}");
    assert!(bench.opened_by_cryptsetup(&device).contains("Key slot 1 unlocked"));
    assert_eq!(Container::load(&device).unwrap().test_key(&bench.key()).unwrap(), KeySlot::ONE);
}

fn slots_that_cryptsetup_changes_are_seen() {
    let bench = Bench::new();
    let device = bench.drive("two", 20);
    let container = bench.format(&device, &FormatOptions::default());
    let key_file = bench.key_file.to_str().unwrap();
    let other = bench.directory.path().join("other");
    luks_core::generate_key_file(&other, 64).unwrap();
    let fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-slot", "5"];
    let add =
        [&["luksAddKey", "--key-file", key_file], &fast[..], &["DEVICE", other.to_str().unwrap()]].concat();
    cryptsetup(&device, &add, b"");
    assert_eq!(used(&container), [(1, SlotState::Active), (5, SlotState::Active)]);
    container.kill_slot(KeySlot::ONE, &load_key_file(&other).unwrap()).unwrap();
    assert!(
        try_cryptsetup(&device, &["open", "--test-passphrase", "--key-file", key_file, "DEVICE"], b"")
            .is_err()
    );
}

/// While a reencryption is under way the data lie under two volume keys, each in slots of its own; a slot that goes
/// takes data with it, and so does a header of before.
fn reencryption_is_left_alone() {
    let bench = Bench::new();
    let device = bench.drive("two", 20);
    let container = bench.format(&device, &FormatOptions::default());
    let backup = bench.directory.path().join("before.img");
    container.backup_header(&backup).unwrap();
    let key_file = bench.key_file.to_str().unwrap();
    let reencrypt = |arguments: &[&str]| {
        let fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", key_file];
        cryptsetup(&device, &[&["reencrypt"], arguments, &fast, &["DEVICE"]].concat(), b"");
    };
    // As a power cut right after its begin leaves it.
    reencrypt(&["--init-only"]);
    let before = fs::read(&device).unwrap();
    let (key, other) = (bench.key(), Secret::random(64).unwrap());
    let kind = SecretKind::KeyFile;
    let says = |what: &str, error: Option<String>| {
        let error = error.unwrap_or_else(|| panic!("{what} succeeded"));
        assert!(error.contains("cryptsetup reencrypt --resume-only"), "{what}: {error}");
        assert!(fs::read(&device).unwrap() == before, "{what} wrote");
    };
    let text =
        |error: &dyn std::error::Error| format!("{error} {:?}", error.source().map(ToString::to_string));
    says("load", Container::load(&device).err().map(|e| text(&e)));
    says("load_repairing", Container::load_repairing(&device).err().map(|e| text(&e)));
    says("slots", container.slots().err().map(|e| text(&e)));
    for slot in [0, 1] {
        let slot = KeySlot::new(slot).unwrap();
        says("kill_slot", container.kill_slot(slot, &key).err().map(|e| text(&e)));
    }
    says("add_key", container.add_key(&key, &other, kind, None).err().map(|e| text(&e)));
    says("rotate_key", container.rotate_key(&key, &other, kind).err().map(|e| text(&e)));
    says("backup_header", container.backup_header(&device.with_extension("img")).err().map(|e| text(&e)));
    says("renew_backup", container.renew_backup(&backup).err().map(|e| text(&e)));
    let restored = Container::restore_header(Path::new("/"), &device, &backup, container.uuid(), &key);
    says("restore_header", restored.err().map(|e| text(&e)));
    // One copy of such a header may be behind, as in any other one.
    File::options().write(true).open(&device).unwrap().write_all_at(b"x", 0x4000 + 4100).unwrap();
    let before = fs::read(&device).unwrap();
    let error = Container::load_repairing(&device).unwrap_err().to_string();
    assert!(error.contains("--resume-only") && fs::read(&device).unwrap() == before, "{error}");

    reencrypt(&["--resume-only", "--force-offline-reencrypt"]);
    assert!(Container::load(&device).unwrap().test_key(&key).is_ok());
}

fn recovery_key_at_the_prompt() {
    let bench = Bench::new();
    let device = bench.drive("two", 20);
    let container = bench.format(&device, &FormatOptions::default());
    let recovery = RecoveryKey::generate().unwrap();
    container.add_key(&bench.key(), recovery.secret(), SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
    let typed = format!("{}\n", recovery.expose_text());
    let opened = cryptsetup(&device, &["-v", "open", "--test-passphrase", "DEVICE"], typed.as_bytes());
    assert!(opened.contains("Key slot 2 unlocked"), "{opened}");
    let sloppy = RecoveryKey::parse(&recovery.expose_text().to_lowercase().replace('-', " ")).unwrap();
    assert_eq!(container.test_key(sloppy.secret()).unwrap(), KeySlot::TWO);
}

fn null_ciphers_are_refused() {
    let bench = Bench::new();
    let device = bench.drive("null", 20);
    let options = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "-c", "null", "-s", "256"];
    let command = [&["luksFormat", "--type", "luks2"], &options[..], &["DEVICE"]].concat();
    // Newer programs refuse to make one; then there is nothing to refuse for us.
    if try_cryptsetup(&device, &command, b"\n").is_ok() {
        assert!(matches!(Container::load(&device), Err(LoadError::Suspicious { .. })));
    }
}

/// Whoever put a token or a key for something else there goes on finding it.
fn tokens_and_unbound_slots_stay() {
    let bench = Bench::new();
    let device = bench.drive("two", 20);
    let container = bench.format(&device, &FormatOptions::default());
    let token = br#"{"type":"offsite-test","keyslots":["1"],"note":"stays"}"#;
    cryptsetup(&device, &["token", "import", "--token-id", "3", "--json-file", "-", "DEVICE"], token);
    let key_file = bench.key_file.to_str().unwrap();
    let other = bench.directory.path().join("other");
    luks_core::generate_key_file(&other, 64).unwrap();
    let fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let unbound = ["luksAddKey", "--unbound", "--key-size", "256", "--key-slot", "9", "DEVICE"];
    cryptsetup(&device, &[&unbound[..], &fast[..], &[other.to_str().unwrap()]].concat(), b"");
    let unbound = container.slots().unwrap().into_iter().find(|info| info.slot.get() == 9).unwrap();
    assert_eq!(unbound.state, SlotState::Unbound);
    assert!(matches!(
        container.test_key(&load_key_file(&other).unwrap()),
        Err(TestKeyError::WrongKey { .. })
    ));
    let new = Secret::random(64).unwrap();
    container.rotate_key(&bench.key(), &new, SecretKind::KeyFile).unwrap();
    assert_eq!(container.test_key(&new).unwrap(), KeySlot::ZERO);
    let exported = cryptsetup(&device, &["token", "export", "--token-id", "3", "DEVICE"], b"");
    assert!(exported.contains("offsite-test") && exported.contains("stays"), "{exported}");
    assert!(dump(&device).contains("9: luks2 (unbound)"));
    assert!(
        try_cryptsetup(&device, &["open", "--test-passphrase", "--key-file", key_file, "DEVICE"], b"")
            .is_err()
    );
}

fn a_detached_header_is_a_container() {
    let bench = Bench::new();
    let (device, header) = (bench.drive("data", 8), bench.drive("header", 16));
    let fast = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    let (key_file, header_path) = (bench.key_file.to_str().unwrap(), header.to_str().unwrap());
    let format = [&["luksFormat", "--header", header_path], &fast[..], &["DEVICE", key_file]].concat();
    cryptsetup(&device, &format, b"");
    assert!(matches!(Container::load(&device), Err(LoadError::NotLuks { .. })));
    // Its data begin at 0, which on one device would be the header itself.
    let error = Container::load(&header).unwrap_err();
    assert!(matches!(error, LoadError::Suspicious { .. }), "{error}");
    let container = Container::load_detached(&header).unwrap();
    assert_eq!((container.data_offset_bytes(), container.test_key(&bench.key()).unwrap().get()), (0, 0));
    let opened = container.open("offsite-test-detached", &bench.key(), &luks_core::OpenOptions::default());
    assert!(matches!(opened, Err(luks_core::OpenError::Detached { .. })), "{opened:?}");
}

fn a_converted_container_opens() {
    let bench = Bench::new();
    let device = bench.drive("converted", 20);
    let container = bench.format(&device, &luks1());
    cryptsetup(&device, &["convert", "--type", "luks2", "DEVICE"], b"");
    let converted = Container::load(&device).unwrap();
    assert_eq!((converted.version(), converted.uuid()), (LuksVersion::Luks2, container.uuid()));
    assert_eq!(converted.test_key(&bench.key()).unwrap(), KeySlot::ONE);
}

fn keys_of_every_size_open_alike() {
    let bench = Bench::new();
    let device = bench.drive("two", 20);
    let container = bench.format(&device, &FormatOptions::default());
    for (size, slot) in [(32, 3), (511, 4), (4097, 5), (1 << 20, 6)] {
        let path = bench.directory.path().join(format!("key-{size}"));
        luks_core::generate_key_file(&path, size).unwrap();
        let key = load_key_file(&path).unwrap();
        container.add_key(&bench.key(), &key, SecretKind::KeyFile, KeySlot::new(slot)).unwrap();
        let open = ["-v", "open", "--test-passphrase", "--key-file", path.to_str().unwrap(), "DEVICE"];
        assert!(cryptsetup(&device, &open, b"").contains(&format!("Key slot {slot} unlocked")), "{size}");
    }
}

fn every_hash_that_cryptsetup_makes_opens() {
    let bench = Bench::new();
    let key_file = bench.key_file.to_str().unwrap();
    let mut made = 0;
    for hash in ["sha512", "whirlpool", "ripemd160", "blake2b-512", "blake2s-256", "sha3-256", "sm3"] {
        let device = bench.drive(hash, 20);
        let options = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", hash];
        let format = [&["luksFormat", "--type", "luks2"], &options[..], &["DEVICE", key_file]].concat();
        if try_cryptsetup(&device, &format, b"").is_err() {
            continue; // its crypto library doesn't have this one, so ours hasn't either
        }
        made += 1;
        let container = Container::load(&device).unwrap();
        assert_eq!(container.test_key(&bench.key()).unwrap(), KeySlot::ZERO, "{hash}");
        let wrong = container.test_key(&Secret::random(64).unwrap());
        assert!(matches!(wrong, Err(TestKeyError::WrongKey { .. })), "{hash}");
        container.add_key(&bench.key(), &bench.key(), SecretKind::KeyFile, Some(KeySlot::ONE)).unwrap();
        assert!(bench.opened_by_cryptsetup(&device).contains("unlocked"), "{hash}");
    }
    assert!(made >= 2, "only {made} hashes were tried");
}

fn every_layout_that_cryptsetup_makes_opens() {
    const LUKS2: &str = "--type luks2 --pbkdf pbkdf2 --pbkdf-force-iterations 1000";
    const LUKS1: &str = "--type luks1 --iter-time 10";
    let bench = Bench::new();
    let key_file = bench.key_file.to_str().unwrap();
    for (number, (version, options)) in [
        (LUKS2, "--cipher aes-cbc-essiv:sha256"),
        (LUKS2, "--cipher aes-cbc-plain64"),
        (LUKS2, "--cipher aes-ctr-plain64"),
        (LUKS2, "--cipher aes-xts-plain --key-size 256"),
        (LUKS2, "--luks2-metadata-size 32k --luks2-keyslots-size 8m"),
        (LUKS2, "--luks2-metadata-size 4m --luks2-keyslots-size 8m"),
        (LUKS2, "--sector-size 512"),
        (LUKS2, "--sector-size 2048 --label green --subsystem vault"),
        (LUKS2, "--offset 40960"),
        (LUKS2, "--key-slot 31"),
        (LUKS2, "--keyslot-cipher aes-cbc-essiv:sha256 --keyslot-key-size 256"),
        ("--type luks2 --pbkdf-force-iterations 4", "--pbkdf argon2i --pbkdf-memory 32"),
        ("--type luks2 --pbkdf-force-iterations 4", "--pbkdf argon2id --pbkdf-memory 32 --pbkdf-parallel 2"),
        (LUKS1, "--hash sha1"),
        (LUKS1, "--hash ripemd160"),
        (LUKS1, "--hash sha512 --cipher aes-cbc-essiv:sha256 --key-size 256"),
        (LUKS1, "--key-slot 7 --align-payload 8192"),
    ]
    .into_iter()
    .enumerate()
    {
        let device = bench.drive(&number.to_string(), 40);
        let words = format!("-q luksFormat {version} {options} DEVICE {key_file}");
        cryptsetup(&device, &words.split(' ').collect::<Vec<_>>(), b"");
        let container = Container::load(&device).unwrap_or_else(|error| panic!("{words}: {error}"));
        let slot = container.test_key(&bench.key()).unwrap_or_else(|error| panic!("{words}: {error}"));
        let asked =
            options.split_once("--key-slot ").map_or("0", |(_, rest)| rest.split(' ').next().unwrap());
        assert_eq!(slot.to_string(), asked, "{words}");
    }
}

fn the_dumped_volume_key_adds_a_key() {
    let bench = Bench::new();
    for (name, options) in [("one", luks1()), ("two", FormatOptions::default())] {
        let device = bench.drive(name, 32);
        let container = bench.format(&device, &options);
        let dumped = bench.directory.path().join(format!("{name}.volume-key"));
        let (key_file, dumped) = (bench.key_file.to_str().unwrap(), dumped.to_str().unwrap());
        let dump =
            ["luksDump", "--dump-volume-key", "--volume-key-file", dumped, "--key-file", key_file, "DEVICE"];
        cryptsetup(&device, &dump, b"");
        let volume_key = Secret::from_bytes(fs::read(dumped).unwrap());
        let new = Secret::random(64).unwrap();
        let add = |volume_key: &Secret, slot| {
            container.add_key_by_volume_key(volume_key, &new, SecretKind::KeyFile, slot)
        };
        for len in [64, 32] {
            assert!(add(&Secret::random(len).unwrap(), None).is_err(), "{name}: {len} random bytes");
        }
        let wrong = add(&Secret::random(64).unwrap(), None);
        assert!(matches!(wrong, Err(AddKeyError::WrongVolumeKey { .. })), "{name}: {wrong:?}");
        assert!(matches!(add(&volume_key, Some(KeySlot::ONE)), Err(AddKeyError::Occupied { .. })), "{name}");
        assert_eq!(add(&volume_key, Some(KeySlot::TWO)).unwrap(), KeySlot::TWO, "{name}");
        assert_eq!(container.test_key(&new).unwrap(), KeySlot::TWO, "{name}");
    }
}
