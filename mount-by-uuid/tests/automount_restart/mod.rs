//! What outlives the process that serves an automount.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mount_by_uuid::{AutofsError, Automount, AutomountSettings, Stop, System};
use tempfile::tempdir;

use crate::automount_life::{Drive, FIRST, SECOND, is_mount_point};
use crate::daemon::{Daemon, PROMPT, Pace};
use crate::keepers::{Blanks, Drives};
use crate::sandbox::{Visitor, cat, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("after_kill_9_the_mounts_are_taken_over_and_kept", after_kill_9_the_mounts_are_kept),
    ("after_kill_9_those_who_waited_are_released", after_kill_9_those_who_waited_are_released),
    ("after_kill_9_in_the_midst_of_unmounting_all_is_well", after_kill_9_in_the_midst_of_unmounting),
    ("an_automount_in_use_is_not_taken_over", an_automount_in_use_is_not_taken_over),
    ("a_foreign_automount_is_not_touched", a_foreign_automount_is_not_touched),
    ("a_stop_that_keeps_the_mounts_can_be_taken_over", a_stop_that_keeps_the_mounts),
];

const LONG: Duration = Duration::from_secs(999);

fn after_kill_9_the_mounts_are_kept() {
    let (first, second) = (Drive::new(FIRST), Drive::new(SECOND));
    let devices = [(FIRST, first.path()), (SECOND, second.path())];
    let directory = tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut daemon = Daemon::start(directory.path(), &PROMPT, &devices);
    let holder = Visitor::start("exec 3<\"$1\"; read -r _; cat <&3", &path(FIRST).join("hello"));
    // Mounted alone isn't enough: until the daemon has told the kernel so, everyone waits.
    holder.wait_until_holding(&path(FIRST).join("hello"));
    daemon.kill();
    assert_eq!(cat(&path(FIRST).join("hello")).output, FIRST, "what is mounted stays usable");
    let visit = cat(&path(SECOND).join("hello"));
    assert!(!visit.ok && visit.took < Duration::from_secs(2), "the dead mount nothing: {visit:?}");

    let automount = Automount::mount(directory.path(), Duration::from_secs(1)).unwrap();
    assert_eq!(automount.mounted(), [FIRST]);
    let drives = Arc::new(Drives::of(&devices));
    automount.serve(drives.clone()).unwrap();
    assert_eq!(cat(&path(SECOND).join("hello")).output, SECOND, "requests are answered again");
    std::thread::sleep(Duration::from_secs(3));
    assert!(is_mount_point(&path(FIRST)), "a busy drive is left untouched");
    assert_eq!(holder.finish().output, FIRST);
    wait_for("idle drives to be unmounted", Duration::from_secs(8), || automount.mounted().is_empty());
    assert!(drives.unmounts() >= 2);
    automount.shutdown(Stop::Unmount).unwrap();
    assert!(!is_mount_point(directory.path()));
}

fn after_kill_9_those_who_waited_are_released() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let mut daemon =
        Daemon::start(directory.path(), &Pace { mount_takes: LONG, ..PROMPT }, &[(FIRST, drive.path())]);
    let path = directory.path().join(FIRST).join("hello");
    let mut waiter = Visitor::start("exec cat \"$1\"", &path);
    std::thread::sleep(Duration::from_millis(500));
    daemon.kill();
    assert!(waiter.is_waiting());
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    let visit = waiter.finish();
    assert!(visit.error.contains("No such file or directory"), "{visit:?}");
    assert!(automount.mounted().is_empty());
    automount.serve(Arc::new(Drives::of(&[(FIRST, drive.path())]))).unwrap();
    assert_eq!(cat(&path).output, FIRST);
    automount.shutdown(Stop::Unmount).unwrap();
}

fn after_kill_9_in_the_midst_of_unmounting() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let path = directory.path().join(FIRST).join("hello");
    let pace = Pace { idle: Duration::from_secs(1), unmount_takes: LONG, ..PROMPT };
    let mut daemon = Daemon::start(directory.path(), &pace, &[(FIRST, drive.path())]);
    assert!(cat(&path).ok);
    wait_for("unmounting to begin", Duration::from_secs(8), || daemon.order("unmounts") == "1");
    assert_eq!(cat(&path).output, FIRST, "until it is unmounted it can be used");
    daemon.kill();
    assert_eq!(cat(&path).output, FIRST);
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    assert_eq!(automount.mounted(), [FIRST]);
    automount.serve(Arc::new(Drives::of(&[(FIRST, drive.path())]))).unwrap();
    automount.unmount_now(FIRST).unwrap();
    assert_eq!(cat(&path).output, FIRST);
    automount.shutdown(Stop::Unmount).unwrap();
}

fn an_automount_in_use_is_not_taken_over() {
    let directory = tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path(), &PROMPT, &[]);
    match Automount::mount(directory.path(), LONG) {
        Err(AutofsError::InUse { owner, .. }) => {
            assert!(owner.contains(&daemon.pid().to_string()), "{owner}");
        }
        other => panic!("{other:?}"),
    }
    assert!(Visitor::start("ls \"$1/a/.\"", directory.path()).finish().ok, "it goes on to serve");
    daemon.kill();
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    automount.serve(Arc::new(Blanks)).unwrap();
    assert!(matches!(automount.serve(Arc::new(Blanks)), Err(AutofsError::NotIdle { .. })));
    automount.shutdown(Stop::Unmount).unwrap();
}

fn a_foreign_automount_is_not_touched() {
    let directory = tempdir().unwrap();
    let settings = AutomountSettings { source: "other".to_owned(), ..AutomountSettings::new(LONG) };
    let system = System::new(Path::new("/"));
    let foreign = Automount::mount_with(&system, directory.path(), &settings).unwrap();
    let error = Automount::mount(directory.path(), LONG).unwrap_err();
    assert!(matches!(&error, AutofsError::Foreign { owner, .. } if owner == "other"), "{error:?}");
    drop(foreign);
    assert!(!is_mount_point(directory.path()), "dropping an empty automount removes it");
}

fn a_stop_that_keeps_the_mounts() {
    let drive = Drive::new(FIRST);
    let directory = tempdir().unwrap();
    let path = directory.path().join(FIRST).join("hello");
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    automount.serve(drives.clone()).unwrap();
    assert!(cat(&path).ok);
    automount.shutdown(Stop::KeepMounts).unwrap();
    drop(automount);
    assert_eq!(cat(&path).output, FIRST);
    let visit = cat(&directory.path().join(SECOND));
    assert!(!visit.ok && visit.took < Duration::from_secs(1), "{visit:?}");
    let automount = Automount::mount(directory.path(), LONG).unwrap();
    assert_eq!(automount.mounted(), [FIRST]);
    automount.serve(drives.clone()).unwrap();
    automount.shutdown(Stop::Unmount).unwrap();
    assert_eq!((drives.mounts(), drives.unmounts()), (1, 1));
    assert!(!is_mount_point(directory.path()));
}
