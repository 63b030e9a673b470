//! Drives that fail, and what a person is told: the real daemon on the kernel's autofs; drives made of loop devices.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use offsite_tests::host_daemon::{
    Daemon, LIMIT, at, is_mounted, list, offsite, try_offsite, wait, write_site,
};
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 7] = [
        ("a_drive_that_answers_nothing_is_told_while_it_is_ejected", silent_while_ejected),
        ("a_write_protected_drive_is_refused_with_its_own_remedy", write_protected),
        ("another_automounter_at_the_mount_root_is_named", another_automounter),
        ("who_mounts_a_drive_elsewhere_is_named", mounted_elsewhere),
        ("a_mount_root_behind_a_link_is_served_again_after_a_stop", behind_a_link),
        ("a_mark_that_finds_no_room_is_told_and_made_later", no_room_for_a_mark),
        ("a_drive_that_cannot_be_mounted_says_what_to_do", not_mountable),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

/// A mounted filesystem that can be frozen: a drive whose file lies on it answers nothing meanwhile.
struct Ground {
    directory: tempfile::TempDir,
    frozen: bool,
    drive: LoopDrive,
}

impl Ground {
    fn lay(mib: u64) -> Result<Self> {
        let (directory, mut drive) = (tempfile::tempdir()?, LoopDrive::ext4(mib)?);
        run(Command::new("mount").arg(drive.plug()?).arg(directory.path()))?;
        Ok(Self { directory, frozen: false, drive })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn freeze(&mut self, frozen: bool) -> Result<()> {
        let how = if frozen { "--freeze" } else { "--unfreeze" };
        run(Command::new("fsfreeze").arg(how).arg(self.path()))?;
        self.frozen = frozen;
        Ok(())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let thawed = if self.frozen { self.freeze(false) } else { Ok(()) };
        if let Err(error) = thawed.and_then(|()| run(Command::new("umount").arg(self.path())).map(drop)) {
            eprintln!("{error:#}");
        }
        if let Err(error) = self.drive.unplug(LIMIT) {
            eprintln!("{error:#}");
        }
    }
}

fn silent_while_ejected() -> Result<()> {
    let mut ground = Ground::lay(200)?;
    let mut a = LoopDrive::ext4_below(ground.path(), 100)?;
    let daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    ground.freeze(true)?;
    fs::write(at(&a).join("volume"), vec![7; 20 << 20])?;
    let mut eject = Command::new(programs::release("offsite")?)
        .args(["eject", "A"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let said = (|| -> Result<String> {
        let mut lines = BufReader::new(eject.stderr.take().context("its words")?).lines();
        let silent = "waiting: A: the drive has answered nothing for ";
        let told = lines.by_ref().map_while(Result::ok).find(|line| line.starts_with(silent));
        let status = offsite(&["status"])?;
        ensure!(status.contains("A  in use") && status.contains("it answers nothing"), "{status}");
        ground.freeze(false)?;
        lines.for_each(drop);
        told.context("it was silent")
    })();
    let mut message = String::new();
    eject.stdout.take().context("its words")?.read_to_string(&mut message)?;
    let ended = eject.wait()?;
    let said = said?;
    ensure!(said.contains(" s; given up in "), "{said}");
    ensure!(ended.success() && message.contains("A is locked; safe to remove"), "{ended}: {message}");
    ensure!(!is_mounted(&a)?, "called safe while it is mounted");
    drop(daemon);
    a.unplug(LIMIT)?;
    drop(a);
    drop(ground);
    Ok(())
}

fn write_protected() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    // Before the daemon sees it, as by the drive's own switch.
    let device = a.plug()?.display().to_string();
    run(Command::new("blockdev").args(["--setro", &device]))?;
    wait("the drive to be seen", || Ok(!offsite(&["status"])?.contains("A  away")))?;
    ensure!(list(&at(&a)).is_err(), "a drive that takes no writes was opened");
    let refused = try_offsite(&["unlock", "A"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(1), "{}: {said}", refused.status);
    for text in [said, offsite(&["status"])?] {
        ensure!(text.contains(&format!("A is write-protected: {device} takes no writes")), "{text}");
        ensure!(
            text.contains("set the switch on the drive, its enclosure or its adapter to write"),
            "{text}"
        );
    }
    ensure!(offsite(&["status"])?.contains("A  plugged, NOT USABLE"), "{}", offsite(&["status"])?);
    // The switch is set, and the drive plugged again.
    a.unplug(LIMIT)?;
    run(Command::new("blockdev").args(["--setrw", &device]))?;
    wait("the drive to be away", || Ok(offsite(&["status"])?.contains("A  away")))?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    ensure!(!offsite(&["status"])?.contains("problem"), "{}", offsite(&["status"])?);
    a.unplug(LIMIT)
}

/// An autofs that this process serves, or rather doesn't; unmounted when dropped.
struct Autofs {
    at: PathBuf,
    _pipe: PipeReader,
}

impl Autofs {
    fn mount(source: &str, at: &Path) -> Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        let options = format!("fd={},minproto=5,maxproto=5,indirect", writer.as_raw_fd());
        mount(Some(source), at, Some("autofs"), MsFlags::empty(), Some(options.as_str()))?;
        Ok(Self { at: at.to_owned(), _pipe: reader })
    }
}

impl Drop for Autofs {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.at, MntFlags::MNT_DETACH) {
            eprintln!("{}: {error}", self.at.display());
        }
    }
}

fn another_automounter() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(3600, &[("A", &a)])?;
    let mount_root = Path::new("/srv/offsite");
    fs::create_dir_all(mount_root)?;
    let fstab = fs::read_to_string("/etc/fstab").unwrap_or_default();
    fs::write("/etc/fstab", "UUID=x /srv/offsite ext4 noauto,x-systemd.automount 0 2\n")?;
    let me = format!("(process {})", std::process::id());
    {
        let _other = Autofs::mount("systemd-1", mount_root)?;
        let refused = Command::new(programs::release("offsited")?).output()?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(3), "{}: {said}", refused.status);
        for word in
            ["another automounter serves /srv/offsite", &me, "srv-offsite.automount", "line 1 of /etc/fstab"]
        {
            ensure!(said.contains(word), "no {word:?}: {said}");
        }
    }
    fs::write("/etc/fstab", fstab)?;
    // One that comes later, over ours.
    let _daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    {
        let _other = Autofs::mount("/etc/auto.drives", mount_root)?;
        let status = offsite(&["status"])?;
        for word in ["another automounter serves /srv/offsite", &me, "its name is /etc/auto.drives"] {
            ensure!(status.contains(word), "no {word:?}: {status}");
        }
    }
    ensure!(!offsite(&["status"])?.contains("another automounter"), "{}", offsite(&["status"])?);
    offsite(&["lock", "A"])?;
    a.unplug(LIMIT)
}

fn mounted_elsewhere() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    let elsewhere = Path::new("/run/media/bob/A");
    fs::create_dir_all(elsewhere)?;
    run(Command::new("mount").arg(a.plug()?).arg(elsewhere))?;
    let told = (|| -> Result<()> {
        wait("it to be seen", || Ok(offsite(&["status"])?.contains("in use, but not by offsited")))?;
        let status = offsite(&["status"])?;
        for word in ["it is mounted at /run/media/bob/A", "umount /run/media/bob/A", "UDISKS_IGNORE"] {
            ensure!(status.contains(word), "no {word:?}: {status}");
        }
        Ok(())
    })();
    run(Command::new("umount").arg(elsewhere))?;
    told?;
    wait("it to be free", || Ok(!offsite(&["status"])?.contains("not by offsited")))?;
    a.unplug(LIMIT)
}

fn behind_a_link() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    write_site(3600, &[("A", &a)])?;
    // What an earlier test left there is an empty directory.
    if Path::new("/srv/offsite").exists() {
        fs::remove_dir("/srv/offsite")?;
    }
    fs::create_dir("/srv/elsewhere")?;
    std::os::unix::fs::symlink("/srv/elsewhere", "/srv/offsite")?;
    let daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    ensure!(daemon.stop()?.success(), "it did not end well");
    let without = offsite(&["status"])?;
    ensure!(without.contains("A  in use"), "a mounted drive is called safe to pull: {without}");
    let daemon = Daemon::again()?;
    ensure!(offsite(&["status"])?.contains("A  in use"), "{}", offsite(&["status"])?);
    offsite(&["lock", "A"])?;
    drop(daemon);
    a.unplug(LIMIT)?;
    fs::remove_file("/srv/offsite")?;
    Ok(fs::remove_dir("/srv/elsewhere")?)
}

fn no_room_for_a_mark() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    let marks = Path::new("/run/offsite/magazines");
    mount(Some("tiny"), marks, Some("tmpfs"), MsFlags::empty(), Some("size=16k,mode=0755"))?;
    let told = (|| -> Result<()> {
        let full = fs::write(marks.join("fill"), vec![0; 1 << 20]);
        ensure!(full.is_err(), "there is room");
        a.plug()?;
        wait("it to be told", || Ok(offsite(&["status"])?.contains("Bacula can't see whether it is here")))?;
        ensure!(offsite(&["status"])?.contains("df -h /run"), "{}", offsite(&["status"])?);
        fs::remove_file(marks.join("fill"))?;
        let mark = marks.join(a.uuid());
        wait("the mark to be made", || Ok(fs::read(&mark).is_ok_and(|text| !text.is_empty())))?;
        wait("the word to go", || Ok(!offsite(&["status"])?.contains("can't see whether")))?;
        list(&at(&a)).map(drop)
    })();
    umount2(marks, MntFlags::MNT_DETACH)?;
    told?;
    a.unplug(LIMIT)
}

fn not_mountable() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    // All but the superblock is noise.
    let noise: Vec<u8> =
        (0..2_u32 << 20).flat_map(|at| at.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::File::options().write(true).open(a.file())?.write_all_at(&noise, 4096)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    wait("the drive to be seen", || Ok(!offsite(&["status"])?.contains("A  away")))?;
    ensure!(list(&at(&a)).is_err(), "a damaged filesystem was mounted");
    let status = offsite(&["status"])?;
    ensure!(status.contains("A  plugged, NOT USABLE"), "{status}");
    ensure!(status.contains("make a copy of the drive, then run e2fsck on it by hand"), "{status}");
    a.unplug(LIMIT)
}
