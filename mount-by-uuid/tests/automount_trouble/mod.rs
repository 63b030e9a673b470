//! Automounts under adverse conditions: drives torn out, hanging keepers, storms, other people's umounts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mount_by_uuid::{Automount, AutomountSettings, Keeper, NameError, Stop, UnmountMode, unmount};
use nix::mount::MsFlags;
use tempfile::tempdir;

use crate::automount_life::{Drive, FIRST, LONG, Stage, is_mount_point};
use crate::keepers::{Blanks, Drives, Scripted};
use crate::sandbox::{Visitor, cat, wait_for};

pub(crate) const TESTS: &[(&str, fn())] = &[
    ("a_torn_out_drive_leaves_a_clean_mount_point", a_torn_out_drive_leaves_a_clean_mount_point),
    ("tearing_out_releases_those_who_wait", tearing_out_releases_those_who_wait),
    ("a_storm_of_requests_ends_quietly", a_storm_of_requests_ends_quietly),
    ("hundreds_of_names", hundreds_of_names),
    ("a_lost_automount_can_be_mounted_anew", a_lost_automount_can_be_mounted_anew),
    ("a_service_in_another_mount_namespace_sees_and_keeps_the_drive", a_service_in_another_mount_namespace),
    ("a_killed_waiter_disturbs_nobody", a_killed_waiter_disturbs_nobody),
    ("a_hanging_keeper_does_not_hold_the_waiter", a_hanging_keeper_does_not_hold_the_waiter),
    ("someone_elses_umount_is_cleaned_up", someone_elses_umount_is_cleaned_up),
];

fn a_torn_out_drive_leaves_a_clean_mount_point() {
    let (drive, other) = (Drive::new(FIRST), Drive::new(FIRST));
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let stage = Stage::new(LONG, drives.clone());
    let mut holder = Visitor::start("exec 3<\"$1\"; echo open; read -r _", &stage.path(FIRST).join("hello"));
    holder.wait_until_holding(&stage.path(FIRST).join("hello"));
    assert_eq!(stage.automount.detach(FIRST).unwrap(), [stage.path(FIRST)]);
    assert!(!stage.path(FIRST).exists());
    assert!(stage.automount.mounted().is_empty());
    // The drive comes back under another name while the old one is still held.
    assert!(holder.is_waiting());
    drives.plug(FIRST, other.path());
    assert_eq!(cat(&stage.path(FIRST).join("hello")).output, FIRST);
    assert_eq!(drives.unmounts(), 0, "the keeper was not asked");
    holder.finish();
}

fn tearing_out_releases_those_who_wait() {
    let keeper = Scripted(|name: &std::ffi::OsStr, at: &Path| {
        std::thread::sleep(Duration::from_secs(3));
        Blanks.mount(name, at)
    });
    let stage = Stage::new(LONG, Arc::new(keeper));
    let mut visitor = Visitor::start("exec cat \"$1\"", &stage.path("a").join("x"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(visitor.is_waiting());
    stage.automount.detach("a").unwrap();
    let visit = visitor.finish();
    assert!(visit.error.contains("No such file or directory"), "{visit:?}");
    assert!(visit.took < Duration::from_secs(2), "{visit:?}");
}

/// Visitors, the owner, ejects and tear-outs on few names, all at once.
fn a_storm_of_requests_ends_quietly() {
    let stage = Stage::new(Duration::from_secs(1), Arc::new(Blanks));
    let script = "end=$(($(date +%s) + 4)); while [ $(date +%s) -lt $end ]; do
        for name in a b c; do ls \"$1/$name/.\" || echo \"failed: $name\" >&2; done; done; true";
    let visitors = [(); 6].map(|()| Visitor::start(script, stage.automount.dir()));
    std::thread::scope(|scope| {
        let until = std::time::Instant::now() + Duration::from_secs(4);
        let storm = |act: fn(&Automount, &str)| {
            let automount = &stage.automount;
            scope.spawn(move || {
                for name in ["a", "b", "c", "a", "c"].iter().cycle() {
                    act(automount, name);
                    if std::time::Instant::now() > until {
                        break;
                    }
                }
            })
        };
        // What each returns depends on who came first; that each returns is what counts.
        storm(|automount, name| drop(automount.touch_mount(name)));
        storm(|automount, name| drop(automount.unmount_now(name)));
        storm(|automount, name| drop(automount.detach(name)));
    });
    for visitor in visitors {
        let visit = visitor.finish();
        // A drive torn out before a visitor's eyes is an error to them, but only of these kinds.
        let known = ["failed: ", "No such file or directory", "Input/output error"];
        let odd = |line: &&str| !known.iter().any(|known| line.contains(known));
        assert_eq!(visit.error.lines().find(odd), None);
    }
    let left = || std::fs::read_dir(stage.automount.dir()).unwrap().next().is_some();
    wait_for("everything to be unmounted", Duration::from_secs(10), || !left());
    assert!(stage.automount.mounted().is_empty());
    assert!(Visitor::start("ls \"$1/a/.\"", stage.automount.dir()).finish().ok);
    stage.automount.shutdown(Stop::Unmount).unwrap();
    assert!(!is_mount_point(stage.automount.dir()));
}

fn hundreds_of_names() {
    const NAMES: usize = 300;
    let mounts = Arc::new(AtomicUsize::new(0));
    let counted = mounts.clone();
    let keeper = Scripted(move |name: &std::ffi::OsStr, at: &Path| {
        counted.fetch_add(1, Ordering::SeqCst);
        Blanks.mount(name, at)
    });
    let stage = Stage::new(LONG, Arc::new(keeper));
    let script = format!("for i in $(seq {NAMES}); do ls \"$1/n$i/.\" || exit 1; done");
    let visitors = [(); 8].map(|()| Visitor::start(&script, stage.automount.dir()));
    for visitor in visitors {
        let visit = visitor.finish();
        assert!(visit.ok, "{visit:?}");
    }
    assert_eq!(stage.automount.mounted().len(), NAMES);
    assert_eq!(mounts.load(Ordering::SeqCst), NAMES);
    stage.automount.shutdown(Stop::Unmount).unwrap();
    assert!(!is_mount_point(stage.automount.dir()));
}

fn a_lost_automount_can_be_mounted_anew() {
    let catatonic = "exec perl -e 'open(F, \"<\", $ARGV[0]) or die; ioctl(F, 0x9362, 0) or die' \"$1\"";
    for (how, stays) in [(catatonic, true), ("exec umount -l \"$1\"", false)] {
        let directory = tempdir().unwrap();
        let dir = directory.path();
        let automount = Automount::mount(dir, LONG).unwrap();
        automount.serve(Arc::new(Blanks)).unwrap();
        automount.touch_mount("a").unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| automount.wait());
            let done = Visitor::start(how, dir).finish();
            assert!(done.ok, "{done:?}");
            assert!(!waiting.join().unwrap(), "the end was not wished for");
        });
        assert!(matches!(automount.touch_mount("a"), Err(NameError::NotServed)));
        assert_eq!(is_mount_point(dir), stays);
        let anew = Automount::mount(dir, LONG).unwrap();
        let kept: &[&str] = if stays { &["a"] } else { &[] };
        assert_eq!(anew.mounted(), kept);
        drop(automount);
        assert!(is_mount_point(dir), "the lost one must not take the new one away");
        anew.serve(Arc::new(Blanks)).unwrap();
        assert!(Visitor::start("ls \"$1/b/.\"", dir).finish().ok);
        anew.shutdown(Stop::Unmount).unwrap();
    }
}

fn a_service_in_another_mount_namespace() {
    let drive = Drive::new(FIRST);
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    // As on a system where / is shared: what is mounted here shows up in namespaces that follow.
    let around = tempdir().unwrap();
    let (bind, shared) = (MsFlags::MS_BIND, MsFlags::MS_SHARED);
    nix::mount::mount(Some(around.path()), around.path(), None::<&str>, bind, None::<&str>).unwrap();
    nix::mount::mount(None::<&str>, around.path(), None::<&str>, shared, None::<&str>).unwrap();
    let dir = around.path().join("drives");
    std::fs::create_dir(&dir).unwrap();
    let automount = Automount::mount(&dir, Duration::from_secs(1)).unwrap();
    automount.serve(drives.clone()).unwrap();
    let script = "exec unshare --mount --propagation slave \
        sh -c 'exec 3<\"$1\"; echo open; read -r _; cat <&3' sh \"$1\"";
    let service = Visitor::start(script, &dir.join(FIRST).join("hello"));
    wait_for("the drive to be mounted", Duration::from_secs(5), || drives.mounts() == 1);
    std::thread::sleep(Duration::from_secs(4));
    assert!(is_mount_point(&dir.join(FIRST)), "a file held open in the other namespace is use");
    let visit = service.finish();
    assert!(visit.output.ends_with(FIRST), "{visit:?}");
    wait_for("the drive to be unmounted", Duration::from_secs(8), || !is_mount_point(&dir.join(FIRST)));
    automount.shutdown(Stop::Unmount).unwrap();
    unmount(around.path(), UnmountMode::Now).unwrap();
}

fn a_killed_waiter_disturbs_nobody() {
    let drive = Drive::new(FIRST);
    let drives = Drives::of(&[(FIRST, drive.path())]).slow(Duration::from_millis(700));
    let drives = Arc::new(drives);
    let stage = Stage::new(LONG, drives.clone());
    let path = stage.path(FIRST).join("hello");
    let mut visitors = [(); 2].map(|()| Visitor::start("exec cat \"$1\"", &path));
    wait_for("the keeper to be asked", Duration::from_secs(5), || drives.mounts() == 1);
    let [first, second] = &mut visitors;
    assert!(first.is_waiting() && second.is_waiting());
    first.kill();
    let [first, second] = visitors;
    assert!(first.finish().took < Duration::from_millis(700), "a killed waiter does not wait on");
    assert_eq!(second.finish().output, FIRST);
    assert_eq!(cat(&path).output, FIRST);
    assert_eq!(drives.mounts(), 1);
}

fn a_hanging_keeper_does_not_hold_the_waiter() {
    let keeper = Scripted(|name: &std::ffi::OsStr, at: &Path| {
        std::thread::sleep(Duration::from_secs(2));
        Blanks.mount(name, at)
    });
    let settings =
        AutomountSettings { answer_within: Duration::from_millis(300), ..AutomountSettings::new(LONG) };
    let stage = Stage::with(&settings, Arc::new(keeper));
    let visit = Visitor::start("ls \"$1/.\"", &stage.path("a")).finish();
    assert!(visit.error.contains("Connection timed out"), "{visit:?}");
    assert!(visit.took < Duration::from_millis(1500), "{visit:?}");
    wait_for("the mount to end all the same", Duration::from_secs(5), || stage.is_mounted("a"));
    assert!(Visitor::start("ls \"$1/.\"", &stage.path("a")).finish().ok);
}

fn someone_elses_umount_is_cleaned_up() {
    let drive = Drive::new(FIRST);
    let drives = Arc::new(Drives::of(&[(FIRST, drive.path())]));
    let stage = Stage::new(LONG, drives.clone());
    stage.automount.touch_mount(FIRST).unwrap();
    assert!(Visitor::start("umount \"$1\"", &stage.path(FIRST)).finish().ok);
    wait_for("the keeper to be told", Duration::from_secs(5), || drives.unmounts() == 1);
    wait_for("the directory to go", Duration::from_secs(5), || !stage.path(FIRST).exists());
    assert_eq!(cat(&stage.path(FIRST).join("hello")).output, FIRST);
}
