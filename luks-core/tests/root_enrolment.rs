//! Containers that are opened as they were enrolled, on real devices: needs root, loop devices, dm-crypt and dmsetup.
//!
//! A test whose needs are not met is marked as ignored, with the missing thing as its kind. Only loop devices that the test
//! made itself are touched.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "SCSI disks are for another test")]
mod devices;
mod forger;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use devices::Loop;
use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{
    CloseMode, Container, FormatOptions, Header, KeySlot, LuksVersion, MappingStatus, OpenError, OpenOptions,
    Secret, SecretKind, close, has_device_mapper, mapping_status,
};

const NAME: &str = "luks-core-enrolled";
const SECTOR: usize = 4096;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Mapping names and loop devices are the whole machine's.
    arguments.test_threads = Some(1);
    let program = |name: &str| Path::new("/sbin").join(name).exists();
    let missing = if !nix::unistd::Uid::effective().is_root() {
        Some("no-root")
    } else if !Loop::possible() {
        Some("no-loop-devices")
    } else if !has_device_mapper(Path::new("/")) {
        Some("no-device-mapper")
    } else if !program("dmsetup") {
        Some("no-dmsetup")
    } else {
        None
    };
    let modprobe = Command::new("/sbin/modprobe").args(["-q", "dm-integrity"]).status();
    let integrity = missing.or((!modprobe.is_ok_and(|status| status.success())).then_some("no-dm-integrity"));
    let trial = |name: &str, missing: Option<&str>, test: fn()| {
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some()).with_kind(missing.unwrap_or_default())
    };
    let trials = vec![
        trial("every_kind_of_container_opens_as_it_was_enrolled", missing, every_kind),
        trial("an_authenticated_container_opens_as_it_was_enrolled", integrity, authenticated),
        trial("a_header_exchanged_after_it_was_read_encrypts_nothing_less", missing, exchanged_header),
        trial("a_mapping_of_something_else_is_not_used", missing, another_mapping),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn key() -> Secret {
    Secret::from_bytes(vec![1; 4096])
}

fn small() -> FormatOptions {
    FormatOptions { keyslots_area_bytes: Some(1 << 20), ..FormatOptions::default() }
}

fn format(device: &Path, options: &FormatOptions) -> Container {
    Container::format(device, options, &key(), SecretKind::KeyFile, KeySlot::ONE).unwrap()
}

/// Reads the header as it is now as the enrolled one.
fn enrolled(device: &Path) -> Header {
    Header::read(device).unwrap().enrolment().read(device).unwrap()
}

/// Opens it, writes a sector, and closes it; the device must show something else there.
fn write_through(header: &Header, options: &OpenOptions) {
    let opened = header.open(NAME, &[&key()], options).unwrap();
    header.confirm_mapping(NAME).unwrap();
    let file = File::options().write(true).open(opened.mapping.path()).unwrap();
    file.write_all_at(&[0x5a; SECTOR], 0).unwrap();
    file.sync_all().unwrap();
    drop(file);
    close(NAME, CloseMode::Now).unwrap();
}

fn shows_plain_text(device: &Path) -> bool {
    let bytes = std::fs::read(device).unwrap();
    bytes.windows(64).any(|window| window == [0x5a; 64])
}

fn every_kind() {
    let luks1 = FormatOptions { version: LuksVersion::Luks1, ..FormatOptions::default() };
    let sector = FormatOptions { sector_size: Some(512), ..small() };
    for options in [luks1, small(), sector] {
        let device = Loop::new(4, 512);
        format(device.path(), &options);
        let header = enrolled(device.path());
        write_through(&header, &OpenOptions::default());
        assert!(!shows_plain_text(device.path()));
        let fast = OpenOptions {
            allow_discards: true,
            no_read_workqueue: true,
            no_write_workqueue: true,
            ..OpenOptions::default()
        };
        header.open(NAME, &[&key()], &fast).unwrap();
        let asked = header.confirm_mapping(NAME);
        assert!(matches!(asked, Err(OpenError::OtherMapping { .. })), "{asked:?}");
        close(NAME, CloseMode::Now).unwrap();
    }
}

fn authenticated() {
    let device = Loop::new(24, 512);
    let container = format(device.path(), &FormatOptions { authenticated: true, ..small() });
    container.write_tags(Path::new("/"), &key(), &mut |_, _| true).unwrap();
    write_through(&enrolled(device.path()), &OpenOptions::default());
    assert!(!shows_plain_text(device.path()));
    assert_eq!(mapping_status(&format!("{NAME}_dif")).unwrap(), MappingStatus::Absent);
}

/// A drive that shows another header to every read after the first: one that encrypts nothing, and one that any key opens
/// for a volume key of the forger's.
fn exchanged_header() {
    for forge in [encrypts_nothing, takes_any_key] {
        let device = Loop::new(4, 512);
        format(device.path(), &small());
        let header = enrolled(device.path());
        let good = std::fs::read(device.path()).unwrap();
        let mut forged = good.clone();
        forge(&mut forged);
        // Key material stays: a drive without the right one is not opened at all.
        forged[0x8000..].copy_from_slice(&good[0x8000..]);
        let file = File::options().write(true).open(device.path()).unwrap();
        file.write_all_at(&forged[..0x8000], 0).unwrap();
        file.sync_all().unwrap();
        drop(file);
        write_through(&header, &OpenOptions::default());
        assert!(!shows_plain_text(device.path()), "plain text was written");
        let again = header.enrolment().read(device.path());
        assert!(again.is_err(), "the forged header is the enrolled one");
    }
}

fn encrypts_nothing(image: &mut [u8]) {
    forger::change(image, |metadata| metadata["segments"]["0"]["encryption"] = "cipher_null-ecb".into());
}

fn takes_any_key(image: &mut [u8]) {
    forger::take_any_key(image, &[0x42; 64]);
}

/// The table in the kernel is another one than the header asks for.
fn another_mapping() {
    let device = Loop::new(4, 512);
    format(device.path(), &small());
    let header = enrolled(device.path());
    header.open(NAME, &[&key()], &OpenOptions::default()).unwrap();
    let dmsetup = |arguments: &[&str]| {
        let output = Command::new("/sbin/dmsetup").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = dmsetup(&["table", NAME]);
    let mut words: Vec<&str> = table.split_whitespace().collect();
    // START LENGTH crypt CIPHER KEY IV DEVICE OFFSET ...; the key in the kernel's keyring is luks-core's alone.
    let inline = "ab".repeat(32) + &"cd".repeat(32);
    words[4] = &inline;
    let (length, offset) = (words[1], words[7].parse::<u64>().unwrap());
    let shorter = (length.parse::<u64>().unwrap() - 8).to_string();
    let with = |place: usize, word: &str| {
        let mut changed: Vec<&str> = words.clone();
        changed[place] = word;
        changed.join(" ")
    };
    let later = (offset + 8).to_string();
    for (table, said) in [
        (format!("0 {length} linear {} {offset}", words[6]), "of the kind 'linear'"),
        (with(1, &shorter), "sectors"),
        (with(5, "8"), "IV offset"),
        (with(1, &shorter).replace(&format!(" {offset} "), &format!(" {later} ")), "offset"),
    ] {
        dmsetup(&["reload", NAME, "--table", &table]);
        dmsetup(&["resume", NAME]);
        let error = header.confirm_mapping(NAME).unwrap_err();
        assert!(
            matches!(error, OpenError::OtherMapping { .. }) && error.to_string().contains(said),
            "{error}"
        );
    }
    dmsetup(&["reload", NAME, "--table", &words.join(" ")]);
    dmsetup(&["resume", NAME]);
    header.confirm_mapping(NAME).unwrap();
    close(NAME, CloseMode::Now).unwrap();
}
