//! Block devices and device-mapper: needs root, loop devices, and for some tests dm-crypt and scsi_debug.
//!
//! A test whose needs are not met is marked as ignored, with the missing thing as its kind. Only loop devices and SCSI
//! disks that the test made itself are touched.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod devices;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread::sleep;
use std::time::{Duration, Instant};

use devices::{Loop, ScsiDisk};
use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{
    BackupError, CloseError, CloseMode, Closed, Container, FormatError, FormatOptions, KeySlot,
    MappingStatus, OpenError, OpenOptions, Secret, SecretKind, close, has_device_mapper, mapping_status,
    mappings_of,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Mapping names and loop devices are the whole machine's.
    arguments.test_threads = Some(1);
    let root = nix::unistd::Uid::effective().is_root();
    if root {
        // Before any thread starts: mounts made here are nobody else's.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    }
    let block = if !root {
        Some("no-root")
    } else if !Loop::possible() {
        Some("no-loop-devices")
    } else {
        None
    };
    let mapping = block.or((!has_device_mapper(Path::new("/"))).then_some("no-device-mapper"));
    let integrity = mapping.or((!has_target("dm-integrity")).then_some("no-dm-integrity"));
    let scsi = mapping.or((!ScsiDisk::possible()).then_some("no-scsi-debug"));
    let udevd = mapping.or((!Path::new("/run/udev/control").exists()).then_some("no-udevd"));
    // Some kernels have loop devices and no partitions.
    let gpt =
        block
            .or((!cfg!(feature = "gpt")).then_some("no-gpt-feature"))
            .or((!Path::new("/run/udev/control").exists()).then_some("no-udevd"));
    let trial = |name: &str, missing: Option<&str>, test: fn()| {
        let run = move || {
            test();
            Ok::<(), Failed>(())
        };
        Trial::test(name, run).with_ignored_flag(missing.is_some()).with_kind(missing.unwrap_or_default())
    };
    let trials = vec![
        trial("a_block_device_becomes_a_container", block, a_block_device_becomes_a_container),
        trial("the_devices_own_blocks_decide_the_sector_size", block, own_blocks_decide_the_sector_size),
        trial("a_full_disk_leaves_the_old_backup", if root { None } else { Some("no-root") }, full_disk),
        trial("a_drive_gets_one_partition_for_its_container", gpt, one_partition),
        trial("a_backup_shows_what_lies_on_its_drive", mapping, a_backup_shows_what_lies_on_its_drive),
        trial("changed_data_of_an_authenticated_container_are_errors", integrity, authenticated),
        trial("a_held_authenticated_mapping_closes_by_force", integrity, authenticated_by_force),
        trial("a_detached_header_opens_its_data", mapping, a_detached_header_opens_its_data),
        trial("a_mounted_device_is_not_formatted", block, a_mounted_device_is_not_formatted),
        trial("data_goes_through_the_mapping_encrypted", mapping, data_goes_through_the_mapping_encrypted),
        trial("a_luks1_container_opens", mapping, a_luks1_container_opens),
        trial("a_name_is_never_taken_over", mapping, a_name_is_never_taken_over),
        trial("a_wrong_key_opens_nothing", mapping, a_wrong_key_opens_nothing),
        trial("read_only_is_read_only", mapping, read_only_is_read_only),
        trial("an_open_container_is_not_formatted", mapping, an_open_container_is_not_formatted),
        trial("a_held_mapping_closes_deferred", mapping, a_held_mapping_closes_deferred),
        trial("a_held_mapping_closes_by_force", mapping, a_held_mapping_closes_by_force),
        trial("waiting_for_udev_gives_its_links_too", udevd, waiting_for_udev_gives_its_links_too),
        trial("a_file_opens_through_a_loop_device", mapping, a_file_opens_through_a_loop_device),
        trial("a_pulled_drive_leaves_nothing_and_comes_back", scsi, a_pulled_drive_comes_back),
        trial("a_pulled_drive_in_use_comes_back_too", scsi, a_pulled_drive_in_use_comes_back),
        trial(
            "a_pulled_drive_that_is_mounted_comes_back_too",
            scsi,
            a_pulled_drive_that_is_mounted_comes_back,
        ),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether the kernel has a module, loaded now if it can be.
fn has_target(module: &str) -> bool {
    Command::new("/sbin/modprobe").args(["-q", module]).status().is_ok_and(|status| status.success())
}

const NAME: &str = "luks-core-test";
const SECTOR: usize = 4096;

fn key(byte: u8) -> Secret {
    Secret::from_bytes(vec![byte; 4096])
}

fn format(device: &Path) -> Container {
    Container::format(device, &small(), &key(1), SecretKind::KeyFile, KeySlot::ONE).unwrap()
}

fn small() -> FormatOptions {
    FormatOptions { keyslots_area_bytes: Some(1 << 20), ..FormatOptions::default() }
}

fn open(container: &Container) -> Opened {
    Opened::new(container, NAME, &OpenOptions::default()).unwrap()
}

/// A mapping that is closed however the test ends.
struct Opened {
    mapping: luks_core::Mapping,
}

impl Opened {
    fn new(container: &Container, name: &str, options: &OpenOptions) -> Result<Self, OpenError> {
        container.open(name, &key(1), options).map(|mapping| Self { mapping })
    }

    fn path(&self) -> &Path {
        self.mapping.path()
    }

    fn write_sector(&self, byte: u8) {
        let mut file = File::options().write(true).open(self.path()).unwrap();
        file.write_all(&[byte; SECTOR]).unwrap();
        file.sync_all().unwrap();
    }

    fn read_sector(&self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        File::open(self.path()).unwrap().read_exact(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let _absent_when_the_test_closed_it = close(self.mapping.name(), CloseMode::Force);
    }
}

fn make_ext4(device: &Path) {
    let made = Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4"]).arg(device).status().unwrap();
    assert!(made.success());
}

fn wait_until_absent(name: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while mapping_status(name).unwrap() != MappingStatus::Absent {
        assert!(Instant::now() < deadline, "mapping {name} stays");
        sleep(Duration::from_millis(50));
    }
}

fn a_block_device_becomes_a_container() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
    assert_eq!(Container::load(device.path()).unwrap(), container);
    let tiny = Loop::new(1, 512);
    let result = Container::format(tiny.path(), &small(), &key(1), SecretKind::KeyFile, KeySlot::ONE);
    assert!(matches!(result, Err(FormatError::TooSmall { .. })), "{result:?}");
}

/// The backup that is there stays, and nothing half-written beside it.
fn full_disk() {
    let (drives, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let size = Some("size=6m");
    mount(Some("tmpfs"), place.path(), Some("tmpfs"), MsFlags::MS_NOSUID, size).unwrap();
    let full = || {
        let drive = drives.path().join("drive");
        File::create(&drive).unwrap().set_len(8 << 20).unwrap();
        let options = FormatOptions { keyslots_area_bytes: Some(4 << 20), ..FormatOptions::default() };
        let container =
            Container::format(&drive, &options, &key(1), SecretKind::KeyFile, KeySlot::ONE).unwrap();
        let backup = place.path().join("backup");
        container.renew_backup(&backup).unwrap();
        container.add_key(&key(1), &key(2), SecretKind::KeyFile, None).unwrap();
        let error = container.renew_backup(&backup).unwrap_err();
        assert!(matches!(error, BackupError::Failed { .. } | BackupError::Save { .. }), "{error}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "something was left behind");
        assert!(!container.is_backed_up_by(&backup).unwrap());
        assert_eq!(Container::load(&backup).unwrap().test_key(&key(1)).unwrap(), KeySlot::ONE);
    };
    let result = std::panic::catch_unwind(full);
    nix::mount::umount(place.path()).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(not(feature = "gpt"))]
fn one_partition() {}

#[cfg(feature = "gpt")]
fn one_partition() {
    let device = Loop::with_partitions(32);
    let place = luks_core::make_partition(Path::new("/"), device.path(), "A").unwrap();
    let shown = luks_core::partitions(Path::new("/"), device.path()).unwrap();
    assert_eq!(shown, std::slice::from_ref(&place));
    let container = format(&place);
    assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
    assert!(!luks_core::is_luks(device.path()).unwrap());
    let kind =
        Command::new("/sbin/blkid").args(["-p", "-o", "value", "-s", "PART_ENTRY_TYPE"]).arg(&place).output();
    let kind = String::from_utf8(kind.unwrap().stdout).unwrap();
    assert_eq!(kind.trim(), "ca7d7ccb-63ed-4c53-861c-1742536059cc");
}

fn a_backup_shows_what_lies_on_its_drive() {
    let (device, other) = (Loop::new(4, 512), Loop::new(4, 512));
    let container = format(device.path());
    format(other.path());
    let opened = open(&container);
    opened.write_sector(0x5a);
    assert_eq!(close(NAME, CloseMode::Now).unwrap(), Closed::Gone);
    let directory = tempfile::tempdir().unwrap();
    let backup = directory.path().join("backup");
    container.backup_header(&backup).unwrap();
    File::options().write(true).open(device.path()).unwrap().write_all(&vec![0; 1 << 20]).unwrap();
    assert!(Container::load(device.path()).is_err());
    let copy = Container::load(&backup).unwrap();
    for (place, right) in [(&device, true), (&other, false)] {
        let options = OpenOptions { read_only: true, ..OpenOptions::default() };
        let mapping = copy.open_on(place.path(), NAME, &key(1), &options).unwrap();
        let opened = Opened { mapping };
        assert_eq!(opened.read_sector() == [0x5a; SECTOR], right);
        let (major, minor) = place.number();
        assert!(mapping_status(NAME).unwrap().is_backed_by(major, minor));
        assert_eq!(close(NAME, CloseMode::Now).unwrap(), Closed::Gone);
    }
}

fn a_detached_header_opens_its_data() {
    let device = Loop::new(4, 512);
    let directory = tempfile::tempdir().unwrap();
    let (header, key_file) = (directory.path().join("header"), directory.path().join("key"));
    File::create(&header).unwrap().set_len(16 << 20).unwrap();
    fs::write(&key_file, key(1).expose()).unwrap();
    let made = Command::new("/sbin/cryptsetup")
        .args(["-q", "luksFormat", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--header"])
        .args([&header, device.path(), &key_file])
        .status();
    assert!(made.unwrap().success());
    let container = Container::load_detached(&header).unwrap();
    let mapping = container.open_on(device.path(), NAME, &key(1), &OpenOptions::default()).unwrap();
    let opened = Opened { mapping };
    opened.write_sector(0x5a);
    assert_eq!(opened.read_sector(), [0x5a; SECTOR]);
    let (major, minor) = device.number();
    assert!(mapping_status(NAME).unwrap().is_backed_by(major, minor));
}

fn make_authenticated(device: &Path) -> Container {
    let options = FormatOptions { authenticated: true, ..small() };
    let container = Container::format(device, &options, &key(1), SecretKind::KeyFile, KeySlot::ONE).unwrap();
    assert!(container.is_authenticated());
    let mut last = (0, 0);
    let mut progress = |done, total| {
        last = (done, total);
        true
    };
    container.write_tags(Path::new("/"), &key(1), &mut progress).unwrap();
    assert!(last.1 > 0 && last.0 == last.1, "{last:?}");
    container
}

fn authenticated() {
    let device = Loop::new(24, 512);
    let container = make_authenticated(device.path());
    let stopped = container.write_tags(Path::new("/"), &key(1), &mut |_, _| false);
    assert!(matches!(stopped, Err(luks_core::TagError::Stopped { .. })), "{stopped:?}");
    container.write_tags(Path::new("/"), &key(1), &mut |_, _| true).unwrap();
    let opened = open(&container);
    let (major, minor) = device.number();
    assert!(mapping_status(NAME).unwrap().is_backed_by(major, minor), "{:?}", mapping_status(NAME));
    let mut all = Vec::new();
    File::open(opened.path()).unwrap().read_to_end(&mut all).unwrap();
    assert!(!all.is_empty() && all.iter().all(|byte| *byte == 0), "a sector has no tag, or isn't blank");
    opened.write_sector(0x5a);
    assert_eq!(opened.read_sector(), [0x5a; SECTOR]);
    assert_eq!(close(NAME, CloseMode::Now).unwrap(), Closed::Gone);
    assert_eq!(mapping_status(&format!("{NAME}_dif")).unwrap(), MappingStatus::Absent);

    // Everything behind the header and dm-integrity's own superblock and journal is data and tags.
    let mut raw = File::options().read(true).write(true).open(device.path()).unwrap();
    let end = raw.seek(SeekFrom::End(0)).unwrap();
    for offset in (container.data_offset_bytes() + (8 << 20)..end).step_by(SECTOR) {
        raw.seek(SeekFrom::Start(offset)).unwrap();
        raw.write_all(&[0xa5; 16]).unwrap();
    }
    raw.sync_all().unwrap();
    let opened = open(&container);
    let damaged = File::open(opened.path()).unwrap().read_to_end(&mut Vec::new());
    assert!(damaged.is_err(), "changed data were read");
}

fn authenticated_by_force() {
    let device = Loop::new(24, 512);
    let container = make_authenticated(device.path());
    let opened = open(&container);
    let holder = File::open(opened.path()).unwrap();
    assert_eq!(close(NAME, CloseMode::Force).unwrap(), Closed::WhenReleased);
    wait_until_absent(&format!("{NAME}_dif"));
    let second = Opened::new(&container, "luks-core-test-2", &OpenOptions::default()).unwrap();
    second.read_sector();
    drop(holder);
    wait_until_absent(NAME);
}

fn own_blocks_decide_the_sector_size() {
    let device = Loop::new(4, 4096);
    let options = FormatOptions { sector_size: Some(512), ..small() };
    let result = Container::format(device.path(), &options, &key(1), SecretKind::KeyFile, KeySlot::ONE);
    assert!(matches!(result, Err(FormatError::Option { option: "sector size", .. })), "{result:?}");
    assert_eq!(format(device.path()).sector_size(), 4096);
}

fn a_mounted_device_is_not_formatted() {
    let device = Loop::new(8, 512);
    make_ext4(device.path());
    let place = tempfile::tempdir().unwrap();
    mount(Some(device.path()), place.path(), Some("ext4"), MsFlags::MS_NOSUID, None::<&str>).unwrap();
    let through_device =
        Container::format(device.path(), &small(), &key(1), SecretKind::KeyFile, KeySlot::ONE);
    let through_file = Container::format(device.file(), &small(), &key(1), SecretKind::KeyFile, KeySlot::ONE);
    nix::mount::umount(place.path()).unwrap();
    assert!(matches!(through_device, Err(FormatError::InUse { .. })), "{through_device:?}");
    assert!(matches!(through_file, Err(FormatError::InUse { .. })), "{through_file:?}");
    format(device.path());
}

fn data_goes_through_the_mapping_encrypted() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let opened = open(&container);
    assert_eq!(opened.path(), Path::new("/dev/mapper").join(NAME));
    let status = mapping_status(NAME).unwrap();
    assert_eq!(mappings_of(container.uuid()).unwrap(), [NAME]);
    let (major, minor) = device.number();
    assert!(status.is_backed_by(major, minor), "{status:?}");
    assert!(
        matches!(status, MappingStatus::Active { luks_uuid: Some(uuid), in_use: false, .. } if uuid == container.uuid()),
        "{status:?}"
    );
    opened.write_sector(0x5a);
    assert_eq!(opened.read_sector(), [0x5a; SECTOR]);
    let mut raw = [0; SECTOR];
    let mut below = File::open(device.path()).unwrap();
    below.seek(SeekFrom::Start(container.data_offset_bytes())).unwrap();
    below.read_exact(&mut raw).unwrap();
    assert_ne!(raw, [0x5a; SECTOR], "plain text on the device");
    assert_ne!(raw, [0; SECTOR], "nothing reached the device");
    assert_eq!(close(NAME, CloseMode::Now).unwrap(), Closed::Gone);
    assert!(!opened.path().exists(), "the node stays");
    assert_eq!(close(NAME, CloseMode::Now).unwrap(), Closed::WasAbsent);
    let again = open(&container);
    assert_eq!(again.read_sector(), [0x5a; SECTOR]);
}

fn a_luks1_container_opens() {
    let device = Loop::new(4, 512);
    let options = FormatOptions { version: luks_core::LuksVersion::Luks1, ..FormatOptions::default() };
    let container =
        Container::format(device.path(), &options, &key(1), SecretKind::KeyFile, KeySlot::ONE).unwrap();
    let opened = open(&container);
    opened.write_sector(7);
    let status = mapping_status(NAME).unwrap();
    assert!(
        matches!(status, MappingStatus::Active { luks_uuid: Some(uuid), .. } if uuid == container.uuid())
    );
}

fn a_name_is_never_taken_over() {
    let (one, two) = (Loop::new(4, 512), Loop::new(4, 512));
    let (first, second) = (format(one.path()), format(two.path()));
    let _opened = open(&first);
    let again = first.open(NAME, &key(1), &OpenOptions::default());
    assert!(matches!(again, Err(OpenError::AlreadyOpen { .. })), "{again:?}");
    let other = second.open(NAME, &key(1), &OpenOptions::default());
    assert!(matches!(other, Err(OpenError::Stale { .. })), "{other:?}");
    let twice = first.open("luks-core-test-2", &key(1), &OpenOptions::default());
    assert!(matches!(twice, Err(OpenError::Busy { .. })), "{twice:?}");
    assert_eq!(mapping_status("luks-core-test-2").unwrap(), MappingStatus::Absent);
}

fn a_wrong_key_opens_nothing() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let result = container.open(NAME, &key(2), &OpenOptions::default());
    assert!(matches!(result, Err(OpenError::WrongKey { .. })), "{result:?}");
    assert_eq!(mapping_status(NAME).unwrap(), MappingStatus::Absent);
}

fn read_only_is_read_only() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let options = OpenOptions { read_only: true, no_read_workqueue: true, ..OpenOptions::default() };
    let opened = Opened::new(&container, NAME, &options).unwrap();
    let written =
        File::options().write(true).open(opened.path()).and_then(|mut file| file.write_all(&[1; SECTOR]));
    assert!(written.is_err());
    opened.read_sector();
}

fn an_open_container_is_not_formatted() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let _opened = open(&container);
    for path in [device.path(), device.file()] {
        let result = Container::format(path, &small(), &key(2), SecretKind::KeyFile, KeySlot::ONE);
        assert!(matches!(result, Err(FormatError::InUse { .. })), "{result:?}");
    }
    assert_eq!(container.test_key(&key(1)).unwrap(), KeySlot::ONE);
}

fn a_held_mapping_closes_deferred() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let opened = open(&container);
    let mut holder = File::open(opened.path()).unwrap();
    assert!(matches!(mapping_status(NAME).unwrap(), MappingStatus::Active { in_use: true, .. }));
    let result = close(NAME, CloseMode::Now);
    assert!(matches!(result, Err(CloseError::Busy { .. })), "{result:?}");
    assert_eq!(close(NAME, CloseMode::Deferred).unwrap(), Closed::WhenReleased);
    holder.read_exact(&mut [0; SECTOR]).unwrap();
    drop(holder);
    wait_until_absent(NAME);
}

fn a_held_mapping_closes_by_force() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let opened = open(&container);
    let mut holder = File::options().read(true).write(true).open(opened.path()).unwrap();
    let started = Instant::now();
    assert_eq!(close(NAME, CloseMode::Force).unwrap(), Closed::WhenReleased);
    assert!(started.elapsed() < Duration::from_secs(3), "closing by force took {:?}", started.elapsed());
    let written = holder.write_all(&[1; SECTOR]).and_then(|()| holder.sync_all());
    assert!(written.is_err(), "writes go through a mapping that was closed by force");
    let (major, minor) = device.number();
    assert!(!mapping_status(NAME).unwrap().is_backed_by(major, minor));
    // The device is free again although the holder lives.
    let second = Opened::new(&container, "luks-core-test-2", &OpenOptions::default()).unwrap();
    second.read_sector();
    drop(holder);
    wait_until_absent(NAME);
}

fn waiting_for_udev_gives_its_links_too() {
    let device = Loop::new(4, 512);
    let container = format(device.path());
    let options = OpenOptions { wait_for_udev: true, ..OpenOptions::default() };
    let opened = Opened::new(&container, NAME, &options).unwrap();
    let link = fs::read_link(opened.path()).unwrap();
    assert!(link.starts_with("../"), "{} is no link of udev's: {}", opened.path().display(), link.display());
    assert!(Path::new("/dev/disk/by-id").join(format!("dm-name-{NAME}")).exists());
    opened.write_sector(1);
    // Closing doesn't wait, so udev may still look at what was written.
    close(NAME, CloseMode::Deferred).unwrap();
    wait_until_absent(NAME);
}

fn a_file_opens_through_a_loop_device() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("drive");
    File::create(&file).unwrap().set_len(4 << 20).unwrap();
    let container = format(&file);
    let opened = open(&container);
    opened.write_sector(3);
    let result = Container::format(&file, &small(), &key(2), SecretKind::KeyFile, KeySlot::ONE);
    assert!(matches!(result, Err(FormatError::InUse { .. })), "{result:?}");
    assert_eq!(close(NAME, CloseMode::Now).unwrap(), Closed::Gone);
}

fn a_pulled_drive_comes_back() {
    let mut disk = ScsiDisk::plug();
    let container = format(&disk.path());
    let opened = open(&container);
    opened.write_sector(0x11);
    let (major, minor) = disk.number();
    assert!(mapping_status(NAME).unwrap().is_backed_by(major, minor));
    disk.unplug();
    let status = mapping_status(NAME).unwrap();
    assert!(!status.is_backed_by(major, minor), "{status:?}");
    assert_eq!(close(NAME, CloseMode::Force).unwrap(), Closed::Gone);
    disk.replug();
    let container = Container::load(&disk.path()).unwrap();
    let again = open(&container);
    assert_eq!(again.read_sector(), [0x11; SECTOR]);
}

fn a_pulled_drive_in_use_comes_back() {
    let mut disk = ScsiDisk::plug();
    let container = format(&disk.path());
    let opened = open(&container);
    let mut holder = File::options().read(true).write(true).open(opened.path()).unwrap();
    holder.write_all(&[0x22; SECTOR]).unwrap();
    holder.sync_all().unwrap();
    let old = disk.path();
    disk.unplug();
    let written = holder.write_all(&[0x33; SECTOR]).and_then(|()| holder.sync_all());
    assert!(written.is_err(), "a write to a drive that is gone succeeded");
    assert_eq!(close(NAME, CloseMode::Force).unwrap(), Closed::WhenReleased);
    disk.replug();
    println!("{} came back as {}", old.display(), disk.path().display());
    let container = Container::load(&disk.path()).unwrap();
    let taken = container.open(NAME, &key(1), &OpenOptions::default());
    assert!(matches!(taken, Err(OpenError::Stale { .. })), "{taken:?}");
    let second = Opened::new(&container, "luks-core-test-2", &OpenOptions::default()).unwrap();
    assert_eq!(second.read_sector(), [0x22; SECTOR]);
    drop(holder);
    wait_until_absent(NAME);
    assert!(fs::metadata(second.path()).is_ok());
}

fn a_pulled_drive_that_is_mounted_comes_back() {
    let mut disk = ScsiDisk::plug();
    let container = format(&disk.path());
    let place = tempfile::tempdir().unwrap();
    let mount_at_place =
        |device: &Path| mount(Some(device), place.path(), Some("ext4"), MsFlags::MS_NOSUID, None::<&str>);
    {
        let opened = open(&container);
        make_ext4(opened.path());
        mount_at_place(opened.path()).unwrap();
        fs::write(place.path().join("safe"), b"on the disk").unwrap();
        nix::unistd::sync();
        let mut job = File::create(place.path().join("job")).unwrap();
        job.write_all(&[1; 8_000]).unwrap();
        disk.unplug();
        // What a daemon does: detach the mount from the tree, then the mapping from the drive.
        nix::mount::umount2(place.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        let started = Instant::now();
        assert_eq!(close(NAME, CloseMode::Force).unwrap(), Closed::WhenReleased);
        assert!(started.elapsed() < Duration::from_secs(3), "closing by force took {:?}", started.elapsed());
        assert!(job.write_all(&[2; 8_000]).and_then(|()| job.sync_all()).is_err(), "the job goes on");
        disk.replug();
        let again =
            Opened::new(&Container::load(&disk.path()).unwrap(), "luks-core-test-2", &OpenOptions::default());
        let again = again.unwrap();
        mount_at_place(again.path()).unwrap();
        assert_eq!(fs::read(place.path().join("safe")).unwrap(), b"on the disk");
        nix::mount::umount(place.path()).unwrap();
        drop(job);
    }
    wait_until_absent(NAME);
}
