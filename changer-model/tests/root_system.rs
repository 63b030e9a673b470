//! What only root can try: becoming another user, and magazines that are really mounted, in a mount namespace of
//! their own.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use changer_model::{Environment, run_command_line};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use site::Site;

type Test = fn() -> Result<(), Failed>;

const RUN: &str = "CHANGER_TEST_RUN";

fn main() -> ExitCode {
    if let Some(line) = std::env::var_os(RUN) {
        // a process of its own, for its identity is changed for good
        let words: Vec<_> = line.to_string_lossy().split_whitespace().map(Into::into).collect();
        let outcome = run_command_line(&words, &Environment::new(Path::new("/")));
        print!("{}", outcome.stdout);
        eprint!("{}", outcome.stderr);
        return ExitCode::from(outcome.code);
    }
    let arguments = Arguments::from_args();
    let why = obstacle();
    let tests: [(&str, Test); 5] = [
        ("W20 what root makes can be used by the configured user", root_becomes_the_user),
        ("W9 an unknown user or group is refused", unknown_names_are_refused),
        ("W15 a mount point without its mount is absent", a_bare_mount_point_is_absent),
        ("W16 a read-only mount can be restored from", a_read_only_mount_serves_restores),
        ("a full work directory serves the storage daemon", a_full_work_directory_serves_the_daemon),
    ];
    let trials = tests.into_iter().map(|(name, test)| {
        let kind = why.clone().unwrap_or_default();
        Trial::test(name, test).with_kind(kind).with_ignored_flag(why.is_some())
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// What keeps these tests from running here.
fn obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
        return Some(format!("needs a mount namespace: {error}"));
    }
    let private = mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    private.err().map(|error| format!("needs private mounts: {error}"))
}

fn vchanger(site: &Site, line: &str) -> (Option<i32>, String) {
    let output = Command::new(std::env::current_exe().expect("has a path"))
        .env(RUN, line.replace("CONF", &site.path("c.conf").to_string_lossy()))
        .output()
        .expect("runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// A changer whose user is `nobody`, on directories that `nobody` can reach.
fn site_of_nobody(lines: &str) -> Site {
    let site = Site::with("m0", &format!("bconsole = \"\"\n{lines}"));
    fs::set_permissions(site.root(), fs::Permissions::from_mode(0o755)).expect("sets");
    fs::set_permissions(site.path("m0"), fs::Permissions::from_mode(0o777)).expect("sets");
    site
}

fn root_becomes_the_user() -> Result<(), Failed> {
    let site = site_of_nobody("User = nobody\nGroup = nogroup\n");
    let (code, text) = vchanger(&site, "CONF createvols 0 1");
    assert_eq!(code, Some(0), "{text}");
    let nobody = nix::unistd::User::from_name("nobody")?.ok_or("there is no nobody")?;
    for path in ["work", "work/state.json", "work/lock", "m0/c0_0000_0000"] {
        assert_eq!(fs::metadata(site.path(path))?.uid(), nobody.uid.as_raw(), "{path}");
    }
    assert_eq!(fs::metadata(site.path("work"))?.mode() & 0o7777, 0o750);
    // root, staying root, leaves nothing behind that the user could not replace
    site.answer("createvols 0 1");
    site.answer("load 1 dev 0");
    for entry in fs::read_dir(site.path("work"))? {
        let entry = entry?;
        if !entry.path().is_symlink() {
            assert_eq!(entry.metadata()?.uid(), nobody.uid.as_raw(), "{}", entry.path().display());
        }
    }
    assert_eq!(vchanger(&site, "CONF unload 1 dev 0"), (Some(0), String::new()));
    assert_eq!(vchanger(&site, "-u root -g root CONF loaded 1 dev 0"), (Some(0), "0\n".to_owned()));
    Ok(())
}

fn unknown_names_are_refused() -> Result<(), Failed> {
    let site = site_of_nobody("User = no-such-user-here\n");
    let (code, text) = vchanger(&site, "CONF list");
    if code != Some(1) {
        return Err(text.into());
    }
    assert!(text.contains("there is no user \"no-such-user-here\""), "{text}");
    let (code, text) = vchanger(&site, "-u nobody CONF -g no-such-group list");
    assert!(code == Some(1) && text.contains("there is no group \"no-such-group\""), "{text}");
    assert!(!site.path("work").exists(), "nothing was done as root");
    Ok(())
}

/// A file system on a directory, for as long as this lives.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn new(at: &Path) -> nix::Result<Self> {
        mount(Some("test"), at, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// A changer on the real mount table.
fn real_site() -> Site {
    let mut site = Site::new("m0");
    site.env.root = "/".into();
    site
}

fn a_bare_mount_point_is_absent() -> Result<(), Failed> {
    let site = real_site();
    let m0 = site.path("m0");
    let mounted = Mounted::new(&m0)?;
    site.volume("m0/a");
    assert!(site.answer("list").starts_with("1:a\n"));
    site.answer("load 1 dev 0");
    drop(mounted);
    assert!(m0.is_dir());
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
    assert!(!site.path("work/0").is_symlink());
    assert!(site.answer("list").starts_with("1:\n"));
    assert_eq!(site.answer("listmags"), "0:::\n");
    assert_eq!(site.run("createvols 0 1").code, 255);
    assert_eq!(fs::read_dir(&m0)?.count(), 0, "nothing is written below it");
    let _mounted = Mounted::new(&m0)?;
    site.volume("m0/new");
    site.volume("m0/a");
    assert!(site.answer("list").starts_with("1:a\n2:new\n"));
    Ok(())
}

fn a_read_only_mount_serves_restores() -> Result<(), Failed> {
    let site = real_site();
    let m0 = site.path("m0");
    let _mounted = Mounted::new(&m0)?;
    site.volume("m0/a");
    mount(None::<&str>, &m0, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>)?;
    assert!(site.answer("list").starts_with("1:a\n"));
    assert_eq!(site.answer("load 1 dev 0"), "");
    let refused = site.run("createvols 0 1");
    assert_eq!(refused.code, 255);
    assert!(refused.stderr.contains("Read-only file system"), "{}", refused.stderr);
    Ok(())
}

fn a_full_work_directory_serves_the_daemon() -> Result<(), Failed> {
    let site = real_site();
    fs::create_dir(site.path("work"))?;
    let _mounted = Mounted::new(&site.path("work"))?;
    site.volume("m0/a");
    site.volume("m0/b");
    site.answer("load 1 dev 0");
    let filler = site.path("work/filler");
    assert!(fs::write(&filler, vec![0; 2 << 20]).is_err(), "the file system is full");
    assert_eq!(site.answer("unload 1 dev 0"), "");
    assert_eq!(site.answer("loaded 1 dev 0"), "0\n");
    site.answer("load 2 dev 1");
    assert_eq!(site.answer("loaded 2 dev 1"), "2\n");
    // what is new cannot be noted, and is answered all the same
    site.volume("m0/c");
    for _ in 0..2 {
        assert_eq!(site.answer("slots 0 dev 0"), "10\n");
        assert!(site.answer("list 0 dev 0").starts_with("1:a\n2:b\n3:c\n"));
        assert!(site.answer("listall").ends_with("S:9:E\nS:10:E\n"));
    }
    site.answer("load 3 dev 0");
    assert_eq!(site.answer("loaded 3 dev 0"), "3\n");
    let refused = site.run("refresh");
    assert!(refused.code == 1 && refused.stderr.contains("No space left"), "{}", refused.stderr);
    fs::remove_file(filler)?;
    site.answer("refresh");
    assert!(site.answer("listall").starts_with("D:0:F:3:c\nD:1:F:2:b\nS:1:F:a\nS:2:E\nS:3:E\n"));
    Ok(())
}
