//! Side by side with the program `age`: it opens what we seal, and we open what it seals. Without the program every
//! test is marked as ignored.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{
    Secret, generate_key_file, load_key_file, seal_to_passphrase, seal_to_recipients, unseal_by_identities,
    unseal_by_passphrase,
};
use tempfile::TempDir;

const PASSPHRASE: &str = "a passphrase for the safe";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let there = ["age", "age-keygen", "script"].iter().all(|name| Path::new("/usr/bin").join(name).exists());
    let trial = |name: &str, test: fn()| {
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        let trial = Trial::test(name, run).with_ignored_flag(!there);
        if there { trial } else { trial.with_kind("no-age-program") }
    };
    let trials = vec![
        trial("age_opens_what_we_seal_to_recipients", age_opens_what_we_seal),
        trial("we_open_what_age_seals_to_recipients", we_open_what_age_seals),
        trial("age_opens_what_we_seal_to_a_passphrase", age_opens_what_we_seal_to_a_passphrase),
        trial("we_open_what_age_seals_to_a_passphrase", we_open_what_age_seals_to_a_passphrase),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

struct Bench {
    directory: TempDir,
    key_file: PathBuf,
    identity: PathBuf,
    recipient: String,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (key_file, identity) = (directory.path().join("key"), directory.path().join("identity"));
        generate_key_file(&key_file, 4096).unwrap();
        run(Command::new("/usr/bin/age-keygen").arg("-o").arg(&identity));
        let recipient = run(Command::new("/usr/bin/age-keygen").arg("-y").arg(&identity));
        Self { directory, key_file, identity, recipient: recipient.trim().to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn key(&self) -> Secret {
        load_key_file(&self.key_file).unwrap()
    }

    fn is_the_key(&self, path: &Path) -> bool {
        fs::read(path).unwrap() == self.key().expose()
    }
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// age reads passphrases from a terminal only, which script(1) makes.
fn run_at_a_terminal(command: &str, typed: &str) {
    let mut child = Command::new("/usr/bin/script")
        .args(["--quiet", "--return", "--command", command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut terminal = child.stdin.take().unwrap();
    terminal.write_all(typed.as_bytes()).unwrap();
    // Kept open until the end: script(1) would pass the end of its input on.
    let output = child.wait_with_output();
    drop(terminal);
    let output = output.unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stdout));
}

fn age_opens_what_we_seal() {
    let bench = Bench::new();
    let (sealed, opened) = (bench.path("sealed"), bench.path("opened"));
    fs::write(&sealed, seal_to_recipients(&bench.key(), std::slice::from_ref(&bench.recipient)).unwrap())
        .unwrap();
    run(Command::new("/usr/bin/age").args(["-d", "-i"]).args([
        &bench.identity,
        Path::new("-o"),
        &opened,
        &sealed,
    ]));
    assert!(bench.is_the_key(&opened));
}

fn we_open_what_age_seals() {
    let bench = Bench::new();
    let sealed = bench.path("sealed");
    let recipient = Path::new(&bench.recipient);
    run(Command::new("/usr/bin/age").arg("-r").args([recipient, Path::new("-o"), &sealed, &bench.key_file]));
    let identity = Secret::from_bytes(fs::read(&bench.identity).unwrap());
    let key = unseal_by_identities(&fs::read(&sealed).unwrap(), &identity).unwrap();
    assert!(key.expose() == bench.key().expose());
}

fn age_opens_what_we_seal_to_a_passphrase() {
    let bench = Bench::new();
    let (sealed, opened) = (bench.path("sealed"), bench.path("opened"));
    let passphrase = Secret::from_bytes(PASSPHRASE.as_bytes().to_vec());
    fs::write(&sealed, seal_to_passphrase(&bench.key(), &passphrase).unwrap()).unwrap();
    let command = format!("age -d -o {} {}", opened.display(), sealed.display());
    run_at_a_terminal(&command, &format!("{PASSPHRASE}\n"));
    assert!(bench.is_the_key(&opened));
}

fn we_open_what_age_seals_to_a_passphrase() {
    let bench = Bench::new();
    let sealed = bench.path("sealed");
    let command = format!("age -p -o {} {}", sealed.display(), bench.key_file.display());
    run_at_a_terminal(&command, &format!("{PASSPHRASE}\n{PASSPHRASE}\n"));
    let passphrase = Secret::from_bytes(PASSPHRASE.as_bytes().to_vec());
    let key = unseal_by_passphrase(&fs::read(&sealed).unwrap(), &passphrase).unwrap();
    assert!(key.expose() == bench.key().expose());
}
