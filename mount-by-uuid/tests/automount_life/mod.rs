//! One automount from its first visitor to its end.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use mount_by_uuid::{
    Access, Asker, Automount, AutomountSettings, Keeper, MountTable, NameError, Refusal, Stop, StopError,
    System,
};
use tempfile::{TempDir, tempdir};

use crate::keepers::{Blanks, Drives, Scripted};
use crate::sandbox::{Loop, Visitor, cat, ext4_image, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_visitor_finds_the_drive_mounted", a_visitor_finds_the_drive_mounted),
    ("an_absent_drive_fails_at_once_and_is_there_once_plugged", an_absent_drive_fails_at_once),
    ("an_idle_drive_is_unmounted_and_its_directory_gone", an_idle_drive_is_unmounted),
    ("idle_drives_are_unmounted_at_the_same_time", idle_drives_are_unmounted_together),
    ("a_drive_that_is_only_polled_is_unmounted", a_drive_that_is_only_polled_is_unmounted),
    ("only_those_who_are_admitted_have_a_drive_mounted", only_those_who_are_admitted),
    ("a_file_held_open_keeps_the_drive", a_file_held_open_keeps_the_drive),
    ("many_waiters_on_one_name_share_one_mount", many_waiters_share_one_mount),
    ("a_failing_keeper_is_an_io_error", a_failing_keeper_is_an_io_error),
    ("what_a_keeper_mounted_but_refused_is_not_served", what_was_refused_is_not_served),
    ("two_names_are_mounted_at_the_same_time", two_names_are_mounted_at_the_same_time),
    ("the_owner_and_a_visitor_mount_once", the_owner_and_a_visitor_mount_once),
    ("eject_unmounts_at_once_or_tells_who_is_busy", eject_unmounts_at_once),
    ("a_visitor_during_an_eject_gets_the_drive_after_it", a_visitor_during_an_eject),
    ("a_clean_stop_leaves_nothing", a_clean_stop_leaves_nothing),
    ("a_busy_stop_is_refused_and_service_goes_on", a_busy_stop_is_refused),
    ("a_stop_lets_go_of_the_keeper", a_stop_lets_go_of_the_keeper),
    ("nothing_can_be_written_where_no_drive_is", nothing_can_be_written_where_no_drive_is),
];

pub(crate) const FIRST: &str = "11111111-aaaa-4bbb-8ccc-0123456789ab";
pub(crate) const SECOND: &str = "22222222-aaaa-4bbb-8ccc-0123456789ab";

/// An automount in a directory of its own.
pub(crate) struct Stage {
    pub(crate) automount: Automount,
    _directory: TempDir,
}

impl Stage {
    pub(crate) fn new(idle: Duration, keeper: Arc<dyn Keeper>) -> Stage {
        Stage::with(&AutomountSettings::new(idle), keeper)
    }

    pub(crate) fn with(settings: &AutomountSettings, keeper: Arc<dyn Keeper>) -> Stage {
        let directory = tempdir().unwrap();
        let system = System::new(Path::new("/"));
        let automount = Automount::mount_with(&system, directory.path(), settings).unwrap();
        automount.serve(keeper).unwrap();
        Stage { automount, _directory: directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.automount.dir().join(name)
    }

    pub(crate) fn is_mounted(&self, name: &str) -> bool {
        is_mount_point(&self.path(name))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in self.automount.mounted() {
            let _ = self.automount.detach(&name);
        }
        let _ = self.automount.shutdown(Stop::Unmount);
    }
}

pub(crate) fn is_mount_point(path: &Path) -> bool {
    MountTable::read(&System::new(Path::new("/"))).unwrap().at(path).is_some()
}

pub(crate) const LONG: Duration = Duration::from_secs(999);

/// A drive with a filesystem of the given UUID.
pub(crate) struct Drive {
    pub(crate) device: Loop,
    _directory: TempDir,
}

impl Drive {
    pub(crate) fn new(uuid: &str) -> Drive {
        let directory = tempdir().unwrap();
        Drive { device: Loop::attach(&ext4_image(directory.path(), uuid)), _directory: directory }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.device.path
    }
}

fn a_visitor_finds_the_drive_mounted() {
    let drive = Drive::new(FIRST);
    let stage = Stage::new(LONG, Arc::new(Drives::of(&[(FIRST, drive.path())])));
    let visit = cat(&stage.path(FIRST).join("hello"));
    assert_eq!((visit.ok, visit.output.as_str()), (true, FIRST), "{visit:?}");
    assert_eq!(stage.automount.mounted(), [FIRST]);
    let table = MountTable::read(&System::new(Path::new("/"))).unwrap();
    let top = table.at(&stage.path(FIRST)).unwrap();
    assert!(["nosuid", "nodev", "noexec"].iter().all(|option| top.option(option).is_some()), "{top}");
    let root = table.at(stage.automount.dir()).unwrap();
    assert_eq!((root.fs_type.as_str(), root.source.to_str()), ("autofs", Some("offsite")));
}

fn an_absent_drive_fails_at_once() {
    let drive = Drive::new(FIRST);
    let drives = Arc::new(Drives::default());
    let stage = Stage::new(LONG, drives.clone());
    for _ in 0..3 {
        let visit = cat(&stage.path(FIRST).join("hello"));
        assert!(!visit.ok && visit.error.contains("No such file or directory"), "{visit:?}");
        assert!(visit.took < Duration::from_secs(1), "{visit:?}");
    }
    assert!(std::fs::read_dir(stage.automount.dir()).unwrap().next().is_none());
    drives.plug(FIRST, drive.path());
    assert_eq!(cat(&stage.path(FIRST).join("hello")).output, FIRST);
}

fn an_idle_drive_is_unmounted() {
    let drive = Drive::new(FIRST);
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let stage = Stage::new(Duration::from_secs(1), drives.clone());
    assert!(cat(&stage.path(FIRST).join("hello")).ok);
    let gone = || std::fs::read_dir(stage.automount.dir()).unwrap().next().is_none();
    let took = wait_for("the drive to be unmounted", Duration::from_secs(8), gone);
    assert!(took > Duration::from_millis(700), "unmounted after {took:?}, before it was idle");
    assert!(took < Duration::from_secs(4), "unmounted only after {took:?}");
    assert!(!stage.is_mounted(FIRST));
    assert_eq!(drives.mounts(), 1);
    assert!(stage.automount.mounted().is_empty());
    assert!(cat(&stage.path(FIRST).join("hello")).ok, "it is mounted again for the next visitor");
}

fn idle_drives_are_unmounted_together() {
    /// Each unmount waits for the other to be under way.
    struct Together(Barrier);
    impl Keeper for Together {
        fn mount(&self, name: &std::ffi::OsStr, at: &Path) -> Result<(), Refusal> {
            Blanks.mount(name, at)
        }
        fn unmount(&self, name: &std::ffi::OsStr, at: &Path) -> Result<(), Refusal> {
            self.0.wait();
            Blanks.unmount(name, at)
        }
    }
    let stage = Stage::new(Duration::from_secs(1), Arc::new(Together(Barrier::new(2))));
    for name in ["a", "b"] {
        stage.automount.touch_mount(name).unwrap();
    }
    wait_for("both to be unmounted", Duration::from_secs(8), || stage.automount.mounted().is_empty());
}

fn a_drive_that_is_only_polled_is_unmounted() {
    let drive = Drive::new(FIRST);
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let stage = Stage::new(Duration::from_secs(1), drives.clone());
    // As df and node_exporter do, which look at what is mounted; that it is mounted again for this one doesn't matter.
    let script = "while :; do stat -f \"$1\"; stat \"$1\"; sleep 0.1; done >/dev/null 2>&1";
    let poller = Visitor::start(script, &stage.path(FIRST));
    wait_for("the drive to be unmounted under a poller", Duration::from_secs(15), || drives.unmounts() > 0);
    drop(poller);
}

fn only_those_who_are_admitted() {
    /// Admits root, and notes who asked.
    struct Roots(Mutex<Vec<Asker>>);
    impl Keeper for Roots {
        fn admit(&self, name: &std::ffi::OsStr, asker: &Asker) -> Result<(), Refusal> {
            assert_eq!(name, "a");
            self.0.lock().unwrap().push(*asker);
            match asker.uid {
                0 => Ok(()),
                _ => Err(Refusal::Forbidden { reason: "it isn't root".to_owned() }),
            }
        }
        fn mount(&self, name: &std::ffi::OsStr, at: &Path) -> Result<(), Refusal> {
            Blanks.mount(name, at)
        }
        fn unmount(&self, name: &std::ffi::OsStr, at: &Path) -> Result<(), Refusal> {
            Blanks.unmount(name, at)
        }
    }
    let keeper = Arc::new(Roots(Mutex::default()));
    let stage = Stage::new(LONG, keeper.clone());
    std::fs::set_permissions(stage.automount.dir().parent().unwrap(), PermissionsExt::from_mode(0o755))
        .unwrap();
    let script = "exec setpriv --reuid=65534 --regid=1234 --clear-groups ls \"$1\"";
    let visit = Visitor::start(script, &stage.path("a")).finish();
    assert!(visit.error.contains("Permission denied"), "{visit:?}");
    let asker = keeper.0.lock().unwrap().remove(0);
    assert_eq!((asker.uid, asker.gid), (65534, 1234));
    assert!(!stage.path("a").exists());

    // Who may not look into the directory doesn't even ask.
    stage.automount.set_access(&Access { uid: 77, gid: 1234, mode: 0o750 }).unwrap();
    let visit = Visitor::start(&script.replace("regid=1234", "regid=65534"), &stage.path("a")).finish();
    assert!(visit.error.contains("Permission denied"), "{visit:?}");
    assert!(keeper.0.lock().unwrap().is_empty());
    let root = std::fs::metadata(stage.automount.dir()).unwrap();
    assert_eq!((root.uid(), root.gid(), root.mode() & 0o7777), (77, 1234, 0o750));
    assert!(Visitor::start("ls \"$1/.\"", &stage.path("a")).finish().ok, "root is admitted");
    assert!(stage.is_mounted("a"));
}

fn a_file_held_open_keeps_the_drive() {
    let drive = Drive::new(FIRST);
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let stage = Stage::new(Duration::from_secs(1), drives.clone());
    let holder = Visitor::start("exec 3<\"$1\"; read -r _; cat <&3", &stage.path(FIRST).join("hello"));
    wait_for("the drive to be mounted", Duration::from_secs(5), || stage.is_mounted(FIRST));
    std::thread::sleep(Duration::from_secs(4));
    assert!(stage.is_mounted(FIRST));
    assert_eq!(drives.unmounts(), 0, "the kernel knows that it is in use");
    assert_eq!(holder.finish().output, FIRST);
    wait_for("the drive to be unmounted", Duration::from_secs(8), || !stage.is_mounted(FIRST));
}

fn many_waiters_share_one_mount() {
    let drive = Drive::new(FIRST);
    let drives = Drives::of(&[(FIRST, drive.path())]).slow(Duration::from_millis(500));
    let drives = Arc::new(drives);
    let stage = Stage::new(LONG, drives.clone());
    let path = stage.path(FIRST).join("hello");
    let visitors: Vec<_> = (0..40).map(|_| Visitor::start("cat \"$1\"", &path)).collect();
    for visitor in visitors {
        assert_eq!(visitor.finish().output, FIRST);
    }
    assert_eq!(drives.mounts(), 1);
}

fn a_failing_keeper_is_an_io_error() {
    let keeper = Scripted(|name: &std::ffi::OsStr, _: &Path| match name.to_str() {
        Some("broken") => Err(Refusal::Failed { reason: "wrong key".to_owned() }),
        Some("foreign") => Err(Refusal::Forbidden { reason: "not enrolled".to_owned() }),
        Some("panic") => panic!("a keeper's panic, as part of a test"),
        // Claims to have mounted something.
        _ => Ok(()),
    });
    let stage = Stage::new(LONG, Arc::new(keeper));
    for (name, message) in [
        ("broken", "Input/output error"),
        ("foreign", "Permission denied"),
        ("panic", "Input/output error"),
        ("liar", "Input/output error"),
    ] {
        let visit = cat(&stage.path(name));
        assert!(!visit.ok && visit.error.contains(message), "{name}: {visit:?}");
        assert!(visit.took < Duration::from_secs(2), "{visit:?}");
        assert!(!stage.path(name).exists(), "{name}");
    }
    match stage.automount.touch_mount("broken").unwrap_err() {
        NameError::Refused { source, .. } => assert_eq!(source.to_string(), "wrong key"),
        other => panic!("{other:?}"),
    }
}

fn what_was_refused_is_not_served() {
    let keeper = Scripted(|name: &std::ffi::OsStr, at: &Path| {
        Blanks.mount(name, at)?;
        Err(Refusal::Failed { reason: "the wrong filesystem".to_owned() })
    });
    let stage = Stage::new(LONG, Arc::new(keeper));
    assert!(cat(&stage.path("a")).error.contains("Input/output error"));
    assert!(!stage.is_mounted("a"));
    assert!(stage.automount.mounted().is_empty());
}

fn two_names_are_mounted_at_the_same_time() {
    // Each mount waits for the other to be under way: one after the other, neither would ever end.
    let both = Barrier::new(2);
    let keeper = Scripted(move |name: &std::ffi::OsStr, at: &Path| {
        both.wait();
        Blanks.mount(name, at)
    });
    let stage = Stage::new(LONG, Arc::new(keeper));
    let visitors = ["a", "b"].map(|name| Visitor::start("ls -A \"$1/.\"", &stage.path(name)));
    for visitor in visitors {
        assert!(visitor.finish().ok);
    }
}

fn the_owner_and_a_visitor_mount_once() {
    let drive = Drive::new(FIRST);
    let drives = Drives::of(&[(FIRST, drive.path())]).slow(Duration::from_millis(300));
    let drives = Arc::new(drives);
    let stage = Stage::new(LONG, drives.clone());
    std::thread::scope(|scope| {
        let owners = [(); 3].map(|()| scope.spawn(|| stage.automount.touch_mount(FIRST)));
        let visitor = Visitor::start("cat \"$1\"", &stage.path(FIRST).join("hello"));
        assert_eq!(visitor.finish().output, FIRST);
        for owner in owners {
            owner.join().unwrap().unwrap();
        }
    });
    stage.automount.touch_mount(FIRST).unwrap();
    assert_eq!(drives.mounts(), 1);
    let absent = stage.automount.touch_mount(SECOND).unwrap_err();
    assert!(matches!(absent, NameError::Refused { source: Refusal::Absent, .. }), "{absent:?}");
    assert!(matches!(stage.automount.touch_mount("../x"), Err(NameError::Name { .. })));
}

fn eject_unmounts_at_once() {
    let drive = Drive::new(FIRST);
    let stage = Stage::new(LONG, Arc::new(Drives::of(&[(FIRST, drive.path())])));
    stage.automount.unmount_now(FIRST).unwrap();
    let holder = Visitor::start("exec 3<\"$1\"; read -r _", &stage.path(FIRST).join("hello"));
    wait_for("the drive to be mounted", Duration::from_secs(5), || stage.is_mounted(FIRST));
    holder.wait_until_holding(&stage.path(FIRST).join("hello"));
    let busy = stage.automount.unmount_now(FIRST).unwrap_err();
    assert!(matches!(busy, NameError::Refused { source: Refusal::Busy, .. }), "{busy:?}");
    assert!(stage.is_mounted(FIRST));
    holder.finish();
    stage.automount.unmount_now(FIRST).unwrap();
    assert!(!stage.is_mounted(FIRST) && !stage.path(FIRST).exists());
}

fn a_visitor_during_an_eject() {
    struct SlowToUnmount(Mutex<Vec<&'static str>>);
    impl Keeper for SlowToUnmount {
        fn mount(&self, name: &std::ffi::OsStr, at: &Path) -> Result<(), Refusal> {
            self.0.lock().unwrap().push("mount");
            Blanks.mount(name, at)
        }
        fn unmount(&self, name: &std::ffi::OsStr, at: &Path) -> Result<(), Refusal> {
            self.0.lock().unwrap().push("unmount");
            Blanks.unmount(name, at)?;
            std::thread::sleep(Duration::from_millis(500));
            self.0.lock().unwrap().push("locked");
            Ok(())
        }
    }
    let keeper = Arc::new(SlowToUnmount(Mutex::default()));
    let stage = Stage::new(LONG, keeper.clone());
    stage.automount.touch_mount("a").unwrap();
    std::thread::scope(|scope| {
        let eject = scope.spawn(|| stage.automount.unmount_now("a"));
        wait_for("the eject to begin", Duration::from_secs(5), || !stage.is_mounted("a"));
        assert!(Visitor::start("ls \"$1/.\"", &stage.path("a")).finish().ok);
        eject.join().unwrap().unwrap();
    });
    assert_eq!(*keeper.0.lock().unwrap(), ["mount", "unmount", "locked", "mount"]);
    assert!(stage.is_mounted("a"));
}

fn a_clean_stop_leaves_nothing() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    automount.serve(Arc::new(Drives::of(&[(FIRST, drive.path())]))).unwrap();
    let path = directory.path().join(FIRST);
    assert!(cat(&path.join("hello")).ok);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| automount.wait());
        automount.shutdown(Stop::Unmount).unwrap();
        assert!(waiting.join().unwrap(), "the end was wished for");
    });
    assert!(!is_mount_point(&path) && !is_mount_point(directory.path()));
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none());
    automount.shutdown(Stop::Unmount).unwrap();
    assert!(matches!(automount.touch_mount(FIRST), Err(NameError::NotServed)));
}

fn a_busy_stop_is_refused() {
    let (first, second) = (Drive::new(FIRST), Drive::new(SECOND));
    let drives = Drives::of(&[(FIRST, first.path()), (SECOND, second.path())]);
    let stage = Stage::new(LONG, Arc::new(drives));
    let holder = Visitor::start("cd \"$1\"; read -r _; cat hello", &stage.path(FIRST));
    wait_for("the holder to be inside", Duration::from_secs(5), || {
        std::fs::read_link(format!("/proc/{}/cwd", holder.pid())).is_ok_and(|cwd| cwd == stage.path(FIRST))
    });
    match stage.automount.shutdown(Stop::Unmount) {
        Err(StopError::Busy { names, .. }) => assert_eq!(names, [(FIRST.into(), Refusal::Busy)]),
        other => panic!("{other:?}"),
    }
    assert_eq!(cat(&stage.path(SECOND).join("hello")).output, SECOND);
    assert_eq!(holder.finish().output, FIRST);
    stage.automount.shutdown(Stop::Unmount).unwrap();
}

fn a_stop_lets_go_of_the_keeper() {
    let keeper = Arc::new(Blanks);
    let stage = Stage::new(LONG, keeper.clone());
    stage.automount.touch_mount("a").unwrap();
    assert!(Arc::strong_count(&keeper) > 1);
    stage.automount.shutdown(Stop::Unmount).unwrap();
    wait_for("workers to end", Duration::from_secs(5), || Arc::strong_count(&keeper) == 1);
}

fn nothing_can_be_written_where_no_drive_is() {
    let stage = Stage::new(LONG, Arc::new(Drives::default()));
    for script in ["mkdir \"$1/x\"", "echo x > \"$1/x\"", "ln -s / \"$1/x\""] {
        assert!(!Visitor::start(script, stage.automount.dir()).finish().ok, "{script}");
    }
    assert!(std::fs::read_dir(stage.automount.dir()).unwrap().next().is_none());
}
