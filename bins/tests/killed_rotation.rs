//! Exchanging a key is killed before each of its system calls that changes a file, in `offsite key rotate` and in what
//! offsited does to a drive; run again it goes on, and at every moment a key that the site knows opens the drive.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../luks-core/tests/tracer/mod.rs"]
mod tracer;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{Container, FormatOptions, Header, KeySlot, SecretKind, load_key_file};
use offsite::base::paths::Root;
use offsite::records::enrolment::Enrolled;
use offsite::records::header_backups::{self, Kept};
use offsite::records::keyring::Keyring;
use offsite::site::description::Site;
use tracer::{End, kill_before};

const CHILD: &str = "--be-the-child";
const MOST_CALLS: usize = 600;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(CHILD) {
        comes_home(Path::new(&words.next().unwrap()));
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let possible = tracer::possible();
    let trial = |name: &str, test: fn()| {
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        let trial = Trial::test(name, run).with_ignored_flag(!possible);
        if possible { trial } else { trial.with_kind("no-ptrace") }
    };
    let trials = vec![
        trial("a_killed_command_goes_on", a_killed_command_goes_on),
        trial("a_killed_visit_of_a_drive_goes_on", a_killed_visit_goes_on),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A site with one drive in a file.
fn make(directory: &Path) {
    offsite(directory, &["init"]);
    let root = Root::new(directory);
    let drive = directory.join("drive");
    File::create(&drive).unwrap().set_len(3 << 20).unwrap();
    let key = load_key_file(&directory.join("etc/offsite/key")).unwrap();
    let options = FormatOptions { keyslots_area_bytes: Some(0x10_0000), ..FormatOptions::default() };
    let container = Container::format(&drive, &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
    header_backups::enrol(&root, &Header::read(&drive).unwrap(), &[&key]).unwrap();
    let site = directory.join("etc/offsite/site.toml");
    let text = format!(
        "{}\n[[magazine]]\nname = \"A\"\nluks_uuid = \"{}\"\nfs_uuid = \"{}\"\nfs_type = \"ext4\"\n",
        fs::read_to_string(&site).unwrap(),
        container.uuid(),
        container.uuid()
    );
    fs::write(site, text).unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("/bin/cp").args(["-a", "--sparse=always"]).arg(from.join(".")).arg(to).status();
    assert!(copied.unwrap().success());
}

fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_offsite"));
    command.arg("--root").arg(directory).args(arguments);
    command
}

fn offsite(directory: &Path, arguments: &[&str]) {
    let output = command(directory, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What offsited does when the drive is plugged.
fn comes_home(directory: &Path) {
    let root = Root::new(directory);
    let (container, _mended) = Container::load_repairing(&directory.join("drive")).unwrap();
    let keys = Keyring::load(&root, &Site::load(&root).unwrap()).unwrap();
    keys.settle(&root, &container).unwrap();
    let enrolled = Enrolled::of(&root, container.uuid()).unwrap().unwrap();
    let header = enrolled.read(&root, container.device()).unwrap();
    let kept = enrolled.keep(&root, &header, &keys.secrets()).unwrap();
    assert!(matches!(kept, Kept::AsItWas | Kept::Renewed), "{kept:?}");
}

/// A key of the site opens the drive, and its registered header.
fn opens(directory: &Path) {
    let root = Root::new(directory);
    let (container, _mended) = Container::load_repairing(&directory.join("drive")).unwrap();
    let keys = Keyring::load(&root, &Site::load(&root).unwrap()).unwrap();
    keys.opening(&container).unwrap();
    let backup = Container::load(&header_backups::path(&root, container.uuid())).unwrap();
    keys.opening(&backup).unwrap();
}

/// All is as after an exchange that nothing interrupted.
fn exchanged(directory: &Path) {
    let root = Root::new(directory);
    let site = Site::load(&root).unwrap();
    let key = |path: &Path| load_key_file(&root.join(path)).unwrap();
    let (new, old) = (key(&site.key_file), key(Path::new("/etc/offsite/key")));
    let container = Container::load(&directory.join("drive")).unwrap();
    let backup = Container::load(&header_backups::path(&root, container.uuid())).unwrap();
    for place in [&container, &backup] {
        assert_eq!(place.slots_opened_by(&new).unwrap().len(), 1, "the new key");
        assert_eq!(place.slots_opened_by(&old).unwrap(), [], "the old key");
        assert_eq!(place.slots().unwrap().iter().filter(|info| info.is_active()).count(), 1, "a dead slot");
    }
    assert_eq!(
        fs::read_dir(root.headers_dir()).unwrap().count(),
        1,
        "a copy with the old key was left behind"
    );
}

/// Runs something until it is no more killed; after each death what is left must be good.
fn matrix(start: &Path, run: impl Fn(&Path) -> Command, good: fn(&Path)) {
    for n in 1..MOST_CALLS {
        let directory = tempfile::tempdir().unwrap();
        copy(start, directory.path());
        let end = kill_before(run(directory.path()), n).unwrap();
        println!("before change {n}: {end:?}");
        good(directory.path());
        if let End::Exited(status) = end {
            assert_eq!(status, 0, "it failed by itself");
            assert!(n > 3, "only {n} changing calls: the tracer misses something");
            return;
        }
    }
    panic!("more than {MOST_CALLS} changing calls");
}

fn a_killed_command_goes_on() {
    let start = tempfile::tempdir().unwrap();
    make(start.path());
    matrix(
        start.path(),
        |directory| command(directory, &["key", "rotate", "--without-copy"]),
        |directory| {
            opens(directory);
            // Where it had come to its end already, there is nothing to exchange any more.
            if Site::load(&Root::new(directory)).unwrap().old_key_files.is_empty() {
                offsite(directory, &["key", "rotate", "--without-copy"]);
            }
            comes_home(directory);
            exchanged(directory);
            offsite(directory, &["key", "rotate"]);
            assert!(Site::load(&Root::new(directory)).unwrap().old_key_files.is_empty());
        },
    );
}

fn a_killed_visit_goes_on() {
    let start = tempfile::tempdir().unwrap();
    make(start.path());
    offsite(start.path(), &["key", "rotate", "--without-copy"]);
    matrix(
        start.path(),
        |directory| {
            let mut command = Command::new("/proc/self/exe");
            command.arg(CHILD).arg(directory);
            command
        },
        |directory| {
            opens(directory);
            comes_home(directory);
            exchanged(directory);
        },
    );
}
