//! Each operation is killed before each of its system calls that changes a file, and what is left must be good.
//!
//! Between two such calls the disk doesn't change, so this covers a kill between any two system calls. (A power cut may
//! lose writes that were not flushed as well; that needs a device that forgets.)
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod tracer;

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{
    Container, FormatOptions, KeySlot, LuksVersion, Secret, SecretKind, generate_key_file, load_key_file,
};
use tracer::{End, kill_before};

const CHILD: &str = "--be-the-child";
const MOST_CALLS: usize = 500;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(CHILD) {
        let (operation, directory) = (words.next().unwrap(), words.next().unwrap());
        operate(&operation, Path::new(&directory));
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
        trial("adding_a_key_luks1", || matrix("add", &luks1(), |directory| opens(directory, 1))),
        trial("adding_a_key_luks2", || matrix("add", &luks2(), |directory| opens(directory, 1))),
        trial("removing_a_key_luks1", || matrix("kill", &luks1(), |directory| opens(directory, 2))),
        trial("removing_a_key_luks2", || matrix("kill", &luks2(), |directory| opens(directory, 2))),
        trial("exchanging_a_key", || matrix("rotate", &luks2(), rotation_goes_on)),
        trial("mending_a_header", || matrix("repair", &luks2(), |directory| opens(directory, 1))),
        trial("backing_a_header_up", || matrix("backup", &luks2(), backup_is_whole_or_absent)),
        trial("renewing_a_backup", || matrix("renew", &luks2(), backup_is_the_old_or_the_new_one)),
        trial("restoring_a_header", || matrix("restore", &luks2(), restoring_goes_on)),
        trial("restoring_a_header_luks1", || matrix("restore", &luks1(), restoring_goes_on)),
        trial("generating_a_key_file", || matrix("generate", &luks2(), key_file_is_whole_or_absent)),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn key(byte: u8) -> Secret {
    Secret::from_bytes(vec![byte; 64])
}

fn luks1() -> FormatOptions {
    FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() }
}

fn luks2() -> FormatOptions {
    FormatOptions { keyslots_area_bytes: Some(0x10_0000), ..FormatOptions::default() }
}

const THREE: Option<KeySlot> = KeySlot::new(3);

/// What the child does, on `drive` in a directory.
fn operate(operation: &str, directory: &Path) {
    let drive = directory.join("drive");
    match operation {
        "add" => {
            Container::load(&drive).unwrap().add_key(&key(1), &key(3), SecretKind::KeyFile, THREE).unwrap();
        }
        "kill" => Container::load(&drive).unwrap().kill_slot(KeySlot::ONE, &key(2)).unwrap(),
        "rotate" => {
            Container::load(&drive).unwrap().rotate_key(&key(1), &key(3), SecretKind::KeyFile).unwrap();
        }
        "repair" => {
            Container::load_repairing(&drive).unwrap();
        }
        "backup" => Container::load(&drive).unwrap().backup_header(&directory.join("backup")).unwrap(),
        "renew" => Container::load(&drive).unwrap().renew_backup(&directory.join("backup")).unwrap(),
        "restore" => restore(directory).unwrap(),
        "generate" => {
            generate_key_file(&directory.join("key"), 4096).unwrap();
        }
        other => panic!("no operation {other}"),
    }
}

fn restore(directory: &Path) -> Result<(), String> {
    let backup = directory.join("backup");
    let uuid = Container::load(&backup).map_err(|error| error.to_string())?.uuid();
    Container::restore_header(Path::new("/"), &directory.join("drive"), &backup, uuid, &key(1))
        .map(drop)
        .map_err(|error| error.to_string())
}

/// A drive with keys 1 and 2 in slots 1 and 2, damaged when it is to be mended, and a backup of its header where one is
/// to be used.
fn image(operation: &str, options: &FormatOptions) -> Image {
    let directory = tempfile::tempdir().unwrap();
    let drive = directory.path().join("drive");
    File::create(&drive).unwrap().set_len(3 << 20).unwrap();
    let container = Container::format(&drive, options, &key(1), SecretKind::KeyFile, KeySlot::ONE).unwrap();
    let backup = directory.path().join("backup");
    if operation == "renew" {
        container.backup_header(&backup).unwrap();
    }
    container.add_key(&key(1), &key(2), SecretKind::KeyFile, Some(KeySlot::TWO)).unwrap();
    if operation == "restore" {
        container.backup_header(&backup).unwrap();
    }
    let mut drive = fs::read(&drive).unwrap();
    let damaged = match operation {
        "repair" => 8192,
        "restore" => 65536,
        _ => 0,
    };
    drive.iter_mut().take(damaged).for_each(|byte| *byte = 0xa5);
    Image { drive, backup: fs::read(backup).ok() }
}

struct Image {
    drive: Vec<u8>,
    backup: Option<Vec<u8>>,
}

fn matrix(operation: &str, options: &FormatOptions, good: fn(&Path) -> Result<(), String>) {
    let image = image(operation, options);
    for n in 1..MOST_CALLS {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("drive"), &image.drive).unwrap();
        if let Some(backup) = &image.backup {
            fs::write(directory.path().join("backup"), backup).unwrap();
        }
        let mut command = Command::new("/proc/self/exe");
        command.arg(CHILD).arg(operation).arg(directory.path());
        let end = kill_before(command, n).unwrap();
        good(directory.path()).unwrap_or_else(|harm| panic!("killed before change {n}: {harm}"));
        match end {
            End::Killed => {}
            End::Exited(status) => {
                assert_eq!(status, 0, "{operation} failed by itself");
                println!("{operation}: {} states", n - 1);
                assert!(n > 3, "only {n} changing calls: the tracer misses something");
                return;
            }
        }
    }
    panic!("{operation} makes more than {MOST_CALLS} changing calls");
}

fn opens(directory: &Path, byte: u8) -> Result<(), String> {
    let (container, _mended) =
        Container::load_repairing(&directory.join("drive")).map_err(|error| error.to_string())?;
    container.test_key(&key(byte)).map_err(|error| error.to_string())?;
    Ok(())
}

fn rotation_goes_on(directory: &Path) -> Result<(), String> {
    opens(directory, 1).or_else(|_old| opens(directory, 3))?;
    opens(directory, 2)?;
    let container = Container::load(&directory.join("drive")).map_err(|error| error.to_string())?;
    container.rotate_key(&key(1), &key(3), SecretKind::KeyFile).map_err(|error| error.to_string())?;
    opens(directory, 3)?;
    match opens(directory, 1) {
        Ok(()) => Err("the old key still opens it".to_owned()),
        Err(_refused) => Ok(()),
    }
}

fn backup_is_whole_or_absent(directory: &Path) -> Result<(), String> {
    opens(directory, 1)?;
    let backup = directory.join("backup");
    if !backup.exists() {
        return Ok(());
    }
    let copy = Container::load(&backup).map_err(|error| error.to_string())?;
    copy.test_key(&key(1)).map(|_slot| ()).map_err(|error| error.to_string())
}

fn backup_is_the_old_or_the_new_one(directory: &Path) -> Result<(), String> {
    let copy = Container::load(&directory.join("backup")).map_err(|error| error.to_string())?;
    copy.test_key(&key(1)).map(|_slot| ()).map_err(|error| error.to_string())?;
    opens(directory, 2)
}

/// The header is ruined before; the backup must stay usable, and restoring again must succeed.
fn restoring_goes_on(directory: &Path) -> Result<(), String> {
    restore(directory)?;
    opens(directory, 1)?;
    opens(directory, 2)
}

fn key_file_is_whole_or_absent(directory: &Path) -> Result<(), String> {
    let path = directory.join("key");
    if !path.exists() {
        return Ok(());
    }
    let names = fs::metadata(&path).map_err(|error| error.to_string())?.nlink();
    if names != 1 {
        return Err(format!("the key has {names} names"));
    }
    let len = load_key_file(&path).map_err(|error| error.to_string())?.len();
    if len == 4096 { Ok(()) } else { Err(format!("the key file has {len} bytes")) }
}
