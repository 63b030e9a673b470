//! Finding, mounting and following loop devices. Needs root; mounts stay in a namespace of their own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod sandbox;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use mount_by_uuid::{
    DeviceUser, Event, FindError, FsUuid, Hotplug, MountError, MountOptions, MountTable, MountUuidError,
    Refused, System, Tag, UnmountMode, Usage, detach, detach_device, device_users, flush, is_held, is_in_use,
    mount, mount_uuid, unmount,
};
use sandbox::{Lacking, Loop, Visitor, ext4_image, wait_for};
use tempfile::tempdir;

fn main() -> ExitCode {
    let lacking: Lacking = sandbox::enter();
    let tests: &[(&'static str, fn())] = &[
        ("a_device_is_found_by_the_uuid_it_carries", a_device_is_found_by_the_uuid_it_carries),
        ("two_devices_with_one_uuid_are_both_named_and_neither_is_used", two_devices_with_one_uuid),
        ("a_device_without_content_has_no_tag", a_device_without_content_has_no_tag),
        ("mounts_are_nosuid_nodev_noexec_and_keep_their_options", mounts_are_safe),
        ("a_busy_mount_is_told_and_left_alone", a_busy_mount_is_told_and_left_alone),
        ("a_wrong_type_is_told_apart_from_a_missing_device", a_wrong_type_is_told),
        ("detach_takes_every_mount_of_the_device", detach_takes_every_mount_of_the_device),
        ("detach_names_a_covered_mount", detach_names_a_covered_mount),
        ("users_of_a_device_are_named_wherever_they_are", users_are_named_wherever_they_are),
        ("luks_containers_are_known_by_their_own_uuid", luks_containers_are_known),
        ("a_failed_flush_is_told", a_failed_flush_is_told),
        ("events_tell_of_a_loop_device", events_tell_of_a_loop_device),
        ("an_overflow_of_events_is_told", an_overflow_of_events_is_told),
    ];
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), sandbox::trials(lacking, tests)).exit_code()
}

fn system() -> System {
    System::new(Path::new("/"))
}

fn fresh_uuid() -> (String, FsUuid) {
    let uuid = uuid::Uuid::new_v4().to_string();
    let parsed = uuid.parse().unwrap();
    (uuid, parsed)
}

fn a_device_is_found_by_the_uuid_it_carries() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &text));
    let found = system().find(&Tag::Filesystem(uuid.clone())).unwrap();
    assert_eq!(found.path, device.path);
    assert_eq!(found.fs_type.as_deref(), Some("ext4"));
    assert_eq!(found.label.as_deref(), Some("vault"));
    assert_eq!(found.size_bytes, 8 << 20);
    assert!(found.diskseq.is_some(), "Linux 5.15 gives each appearance a number");
    assert_eq!(system().probe(&device.path).unwrap(), found);
    drop(device);
    // Another test that looks at all devices may hold it for a moment.
    let gone = || matches!(system().find(&Tag::Filesystem(uuid.clone())), Err(FindError::NotFound { .. }));
    wait_for("the device to be gone", Duration::from_secs(5), gone);
}

fn two_devices_with_one_uuid() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let image = ext4_image(directory.path(), &text);
    let copy = directory.path().join("copy.img");
    fs::copy(&image, &copy).unwrap();
    let devices = [Loop::attach(&image), Loop::attach(&copy)];
    let mount_point = tempdir().unwrap();
    match mount_uuid(&system(), &uuid, mount_point.path()) {
        Err(MountUuidError::Find { source: error @ FindError::Ambiguous { .. } }) => {
            let message = error.to_string();
            for device in &devices {
                assert!(message.contains(device.path.to_str().unwrap()), "{message}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert!(MountTable::read(&system()).unwrap().at(mount_point.path()).is_none());
}

fn a_device_without_content_has_no_tag() {
    let directory = tempdir().unwrap();
    let image = directory.path().join("blank.img");
    fs::File::create(&image).unwrap().set_len(1 << 20).unwrap();
    let device = Loop::attach(&image);
    let probed = system().probe(&device.path).unwrap();
    assert_eq!((probed.tag, probed.fs_type, probed.label), (None, None, None));
}

fn mounts_are_safe() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &text));
    let at = tempdir().unwrap();
    assert_eq!(mount_uuid(&system(), &uuid, at.path()).unwrap().path, device.path);
    let options = |wanted: &[&str]| {
        let table = MountTable::read(&system()).unwrap();
        let top = table.at(at.path()).unwrap();
        for option in wanted {
            assert!(top.option(option).is_some(), "{option} is not in {top}");
        }
    };
    options(&["rw", "nosuid", "nodev", "noexec"]);
    fs::write(at.path().join("new"), "x").unwrap();
    flush(at.path()).unwrap();
    unmount(at.path(), UnmountMode::Now).unwrap();
    let extra = vec!["errors=panic".to_owned(), "noatime".to_owned()];
    let error = mount(&device.path, at.path(), "ext4", &MountOptions { extra, ..MountOptions::default() });
    assert!(matches!(error, Err(MountError::Mount { .. })), "noatime is no option of ext4 itself: {error:?}");
    let careful = MountOptions { sync: true, read_only: true, extra: vec!["errors=continue".to_owned()] };
    mount(&device.path, at.path(), "ext4", &careful).unwrap();
    options(&["ro", "sync", "nosuid", "nodev", "noexec"]);
    assert!(at.path().join("new").exists());
    unmount(at.path(), UnmountMode::Now).unwrap();
    let error = unmount(at.path(), UnmountMode::Now).unwrap_err();
    assert!(matches!(error, MountError::NotMounted { .. }), "{error:?}");
}

fn a_busy_mount_is_told_and_left_alone() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let _device = Loop::attach(&ext4_image(directory.path(), &text));
    let at = tempdir().unwrap();
    mount_uuid(&system(), &uuid, at.path()).unwrap();
    let file = fs::File::open(at.path().join("hello")).unwrap();
    let error = unmount(at.path(), UnmountMode::Now).unwrap_err();
    assert!(matches!(error, MountError::Busy { .. }), "{error:?}");
    assert_eq!(fs::read_to_string(at.path().join("hello")).unwrap(), text);
    drop(file);
    unmount(at.path(), UnmountMode::Now).unwrap();
}

fn a_wrong_type_is_told() {
    let directory = tempdir().unwrap();
    let (text, _) = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &text));
    let at = tempdir().unwrap();
    let meaning =
        |device: &Path, at: &Path, fs_type| match mount(device, at, fs_type, &MountOptions::default())
            .unwrap_err()
        {
            MountError::Mount { meaning, .. } => meaning,
            other => panic!("{other:?}"),
        };
    assert_eq!(meaning(&device.path, at.path(), "xfs"), Refused::NoSuchFilesystem);
    assert_eq!(meaning(&device.path, at.path(), "nosuchfs"), Refused::UnknownType);
    assert_eq!(meaning(&device.path, &at.path().join("none"), "ext4"), Refused::NoMountPoint);
    assert_eq!(meaning(Path::new("/dev/none"), at.path(), "ext4"), Refused::NoMountPoint);
}

fn detach_takes_every_mount_of_the_device() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let _device = Loop::attach(&ext4_image(directory.path(), &text));
    let (at, bind) = (tempdir().unwrap(), tempdir().unwrap());
    let devnum = mount_uuid(&system(), &uuid, at.path()).unwrap().devnum;
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(at.path()), bind.path(), None::<&str>, flags, None::<&str>).unwrap();
    let holder = Visitor::start("exec 3<\"$1\"; echo open; read -r _; cat <&3", &at.path().join("hello"));
    holder.wait_until_holding(&at.path().join("hello"));
    let mut detached = detach(&system(), bind.path()).unwrap();
    detached.sort();
    let mut expected = [at.path().to_owned(), bind.path().to_owned()];
    expected.sort();
    assert_eq!(detached, expected);
    assert_eq!(MountTable::read(&system()).unwrap().mounts_of(devnum).count(), 0);
    // The device is still there in this test, so the open file goes on to work.
    assert!(holder.finish().output.ends_with(&text));
    for nothing in [at.path(), &at.path().join("none")] {
        assert!(detach(&system(), nothing).unwrap().is_empty());
    }
}

fn detach_names_a_covered_mount() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let _device = Loop::attach(&ext4_image(directory.path(), &text));
    let at = tempdir().unwrap();
    let devnum = mount_uuid(&system(), &uuid, at.path()).unwrap().devnum;
    let none = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("cover"), at.path(), Some("tmpfs"), none, None::<&str>).unwrap();
    let error = detach_device(&system(), devnum).unwrap_err();
    assert!(matches!(&error, MountError::Covered { at: covered, .. } if covered == at.path()), "{error:?}");
    unmount(at.path(), UnmountMode::Now).unwrap();
    assert_eq!(detach_device(&system(), devnum).unwrap(), [at.path()]);
}

fn users_are_named_wherever_they_are() {
    let directory = tempdir().unwrap();
    let (text, uuid) = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &text));
    let number = system().find(&Tag::Filesystem(uuid.clone())).unwrap().devnum;
    assert!(!is_held(&system(), number) && device_users(&system(), number, None).is_empty());
    let (at, bind) = (tempdir().unwrap(), tempdir().unwrap());
    mount_uuid(&system(), &uuid, at.path()).unwrap();
    assert_eq!(device_users(&system(), number, Some(at.path())), []);

    // As containers do it: a bind mount, and a namespace of their own.
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(at.path()), bind.path(), None::<&str>, flags, None::<&str>).unwrap();
    let container = "exec unshare --mount --propagation private sh -c 'echo in; exec sleep 600'";
    let container = Visitor::start(container, at.path());
    let holder = Visitor::start("exec 3<\"$1\"; read -r _", &bind.path().join("hello"));
    holder.wait_until_holding(&bind.path().join("hello"));
    let named = |user: &DeviceUser, at: &Path, pid: Option<u32>| {
        let seen = |user: &DeviceUser| match user {
            DeviceUser::Mount { at, seen_by } => {
                Some((at.clone(), seen_by.as_ref().map(|process| process.pid)))
            }
            _ => None,
        };
        seen(user) == Some((at.to_owned(), pid))
    };
    let there =
        |at: &Path, pid| device_users(&system(), number, None).iter().any(|user| named(user, at, pid));
    wait_for("the container to be seen", Duration::from_secs(20), || there(at.path(), Some(container.pid())));
    assert!(there(bind.path(), None) && there(at.path(), None));

    let uses = || {
        device_users(&system(), number, None).into_iter().find_map(|user| match user {
            DeviceUser::Process { process, usage } if process.pid == holder.pid() => Some(usage),
            _ => None,
        })
    };
    assert_eq!(uses(), Some(Usage::File(bind.path().join("hello"))));
    drop(container);
    for at in [at.path(), bind.path()] {
        unmount(at, UnmountMode::Lazy).unwrap();
    }
    // No path leads there any more, and yet it is used.
    assert_eq!(uses(), Some(Usage::File("/hello".into())));
    assert!(is_held(&system(), number) && is_in_use(&device.path));
    holder.finish();
    wait_for("the filesystem's end", Duration::from_secs(20), || !is_held(&system(), number));
    assert!(device_users(&system(), number, None).is_empty());
    let raw = Visitor::start("exec 3<\"$1\"; read -r _", &device.path);
    raw.wait_until_holding(&device.path);
    let open = device_users(&system(), number, None);
    assert!(
        open.iter().any(|user| user.to_string().ends_with(&format!("has {} open", device.path.display()))),
        "{open:?}"
    );
    raw.finish();
}

fn luks_containers_are_known() {
    for version in [1u8, 2] {
        let directory = tempdir().unwrap();
        let (text, _) = fresh_uuid();
        // The start of both versions' headers: magic, version, and the UUID at byte 168.
        let mut header = vec![0; 1 << 20];
        header.splice(0..8, [b'L', b'U', b'K', b'S', 0xba, 0xbe, 0, version]);
        header.splice(168..204, text.bytes());
        let image = directory.path().join("luks.img");
        fs::write(&image, header).unwrap();
        let device = Loop::attach(&image);
        let found = system().find(&Tag::Luks(text.parse().unwrap())).unwrap();
        assert_eq!(
            (found.path.as_path(), found.fs_type.as_deref()),
            (device.path.as_path(), Some("crypto_LUKS"))
        );
    }
}

/// The image lies on a filesystem that is too small for it, so that the device fails to take what is written.
fn a_failed_flush_is_told() {
    let small = tempdir().unwrap();
    let options = Some("size=2m");
    nix::mount::mount(Some("small"), small.path(), Some("tmpfs"), nix::mount::MsFlags::empty(), options)
        .unwrap();
    let (text, uuid) = fresh_uuid();
    let device = Loop::attach(&ext4_image(small.path(), &text));
    let at = tempdir().unwrap();
    mount_uuid(&system(), &uuid, at.path()).unwrap();
    flush(at.path()).unwrap();
    fs::write(at.path().join("large"), vec![1; 4 << 20]).unwrap();
    let error = flush(at.path()).unwrap_err();
    assert!(matches!(error, MountError::Flush { .. }), "{error:?}");
    unmount(at.path(), UnmountMode::Lazy).unwrap();
    drop(device);
    unmount(small.path(), UnmountMode::Lazy).unwrap();
}

fn events_tell_of_a_loop_device() {
    let directory = tempdir().unwrap();
    let (text, _) = fresh_uuid();
    let image = ext4_image(directory.path(), &text);
    let mut hotplug = Hotplug::listen(&system()).unwrap();
    let device = Loop::attach(&image);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        match hotplug.next(Some(Duration::from_secs(1))).unwrap() {
            // Other tests attach devices as well.
            Some(Event::Changed { device: changed }) if changed.path == device.path => {
                assert_eq!(system().probe(&changed.path).unwrap().devnum, changed.devnum);
                return;
            }
            _ => {}
        }
    }
    panic!("attaching a file to {} was not told", device.path.display());
}

fn an_overflow_of_events_is_told() {
    let directory = tempdir().unwrap();
    let (text, _) = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &text));
    let name = device.path.file_name().unwrap().to_str().unwrap().to_owned();
    let uevent = format!("/sys/class/block/{name}/uevent");
    let mut hotplug = Hotplug::listen(&system()).unwrap();
    // As small as the kernel allows: two events don't fit.
    nix::sys::socket::setsockopt(&hotplug, nix::sys::socket::sockopt::RcvBuf, &1).unwrap();
    for _ in 0..50 {
        fs::write(&uevent, "change").unwrap();
    }
    let mut overflowed = false;
    while let Some(event) = hotplug.next(Some(Duration::from_millis(200))).unwrap() {
        overflowed |= event == Event::Overflow;
    }
    assert!(overflowed);
    // After an overflow events come again.
    fs::write(&uevent, "change").unwrap();
    let next = hotplug.next(Some(Duration::from_secs(5))).unwrap();
    assert!(next.is_some_and(|event| event.device().is_some()));
}
