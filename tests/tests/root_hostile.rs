//! What lies on a drive may have been written by a stranger: how the daemon mounts it, and what checks it. The real
//! daemon on the kernel's autofs; drives made of loop devices.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sys::stat::Mode;
use offsite_tests::host_daemon::{Daemon, LIMIT, at, list, offsite, wait, write_site};
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::trials::{self, Test};
use offsite_tests::{own_system, programs};

fn main() {
    let lacking = own_system::lacking()
        .or_else(|| programs::release("offsited").err().map(|error| format!("{error:#}")))
        .or_else(|| own_system::enter().err().map(|error| format!("{error:#}")));
    let tests: [Test; 6] = [
        ("a_superblock_s_wish_to_panic_is_not_granted", no_panic),
        ("a_checker_has_its_device_and_nothing_else", a_checker_s_rights),
        ("a_checker_that_tries_what_no_check_needs_is_ended_and_told", a_deceived_checker),
        ("a_filesystem_that_went_read_only_is_told_and_checked", went_read_only),
        ("without_a_watch_on_files_the_daemon_works", without_inotify),
        ("a_filesystem_of_an_unknown_kind_is_not_mounted", only_known_kinds),
    ];
    // One at a time: they share /etc/offsite and the mount root.
    trials::run(lacking.as_deref(), Some(1), tests);
}

fn no_panic() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    run(Command::new("/usr/sbin/tune2fs").args(["-e", "panic"]).arg(a.file()))?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let own = mounts.lines().find(|line| line.contains(&a.uuid())).context("it isn't mounted")?;
    ensure!(own.contains("errors=remount-ro") && !own.contains("panic"), "{own}");
    a.unplug(LIMIT)
}

/// In the place of e2fsck: says what it could reach, and waits until it was looked at. It starts nothing, since it can't.
const CURIOUS: &str = r#"#!/bin/sh
sound=0
for device in /dev/loop*; do { :; } <"$device" && echo "opened $device" && sound=8; done
for node in /dev/.offsite-check-*; do [ -e "$node" ] && echo "$node is left" && sound=8; done
read -r end </run/curious/held
exit $sound
"#;

/// In the place of e2fsck: what a deceived checker might try.
const INTRUDER: &str = "#!/bin/sh\necho trying\nexec /bin/touch /run/curious/made\n";

/// A program in the place of e2fsck; that is back when this is dropped.
struct InPlaceOfE2fsck(PathBuf);

impl InPlaceOfE2fsck {
    fn put(script: &str) -> Result<Self> {
        fs::create_dir_all("/run/curious")?;
        fs::set_permissions("/run/curious", fs::Permissions::from_mode(0o777))?;
        let real = fs::canonicalize("/usr/sbin/e2fsck")?;
        fs::write("/run/curious/script", script)?;
        fs::set_permissions("/run/curious/script", fs::Permissions::from_mode(0o755))?;
        nix::mount::mount(Some("/run/curious/script"), &real, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(Self(real))
    }
}

impl Drop for InPlaceOfE2fsck {
    fn drop(&mut self) {
        if let Err(error) = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("{} is still covered: {error}", self.0.display());
        }
    }
}

/// A drive whose filesystem has to be checked: as the kernel leaves it after an error.
fn to_be_checked() -> Result<LoopDrive> {
    let a = LoopDrive::ext4(16)?;
    run(Command::new("/usr/sbin/debugfs").args(["-w", "-R", "set_super_value state 2"]).arg(a.file()))?;
    Ok(a)
}

/// The process that is a checker, by its user.
fn checker() -> Result<Option<PathBuf>> {
    let is_checker = |process: &Path| {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next());
        uid.and_then(|uid| uid.parse().ok())
            .is_some_and(|uid: u32| (1_879_048_192..u32::MAX / 2).contains(&uid))
    };
    let processes = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    Ok(processes.into_iter().find(|process| is_checker(process)))
}

fn a_checker_s_rights() -> Result<()> {
    let mut a = to_be_checked()?;
    let covered = InPlaceOfE2fsck::put(CURIOUS)?;
    nix::unistd::mkfifo("/run/curious/held", Mode::from_bits_truncate(0o644))?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    let place = at(&a);
    let asker = std::thread::spawn(move || list(&place));
    let mut held = None;
    wait("the checker to be at the other end", || {
        let nonblocking = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        held = nix::fcntl::open("/run/curious/held", nonblocking, Mode::empty()).ok();
        Ok(held.is_some())
    })?;
    let process = checker()?.context("no checker runs")?;
    let status = fs::read_to_string(process.join("status"))?;
    for line in status.lines() {
        let (word, rest) = line.split_once('\t').unwrap_or((line, ""));
        let fine = match word {
            "Uid:" | "Gid:" => {
                rest.split('\t').all(|id| id.parse::<u32>().is_ok_and(|id| id >= 1_879_048_192))
            }
            "Groups:" => rest.trim().is_empty(),
            // what nobody can gain is no matter: CapBnd
            "CapInh:" | "CapPrm:" | "CapEff:" | "CapAmb:" => rest == "0000000000000000",
            "NoNewPrivs:" => rest == "1",
            "Seccomp:" => rest == "2",
            _ => true,
        };
        ensure!(fine, "{line:?} in: {status}");
    }
    ensure!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let limits = fs::read_to_string(process.join("limits"))?;
    let memory = limits.lines().find(|line| line.starts_with("Max address space")).unwrap_or_default();
    // One GiB, and one byte for 1024 of the drive's 16 MiB.
    ensure!(memory.split_whitespace().any(|word| word == "1073758208"), "{limits}");
    let mut own = 0;
    for descriptor in fs::read_dir(process.join("fd"))? {
        let target = fs::read_link(descriptor?.path())?.display().to_string();
        let device = target.starts_with("/dev/.offsite-check-") && target.ends_with("(deleted)");
        own += u32::from(device);
        // The shell has its script open, and what it waits for.
        let fine = device
            || target == "/dev/null"
            || target.starts_with("pipe:")
            || target.starts_with("/run/curious/")
            || Path::new(&target) == covered.0;
        ensure!(fine, "it has {target}");
    }
    ensure!(own == 1, "it has its device {own} times");
    drop(held);
    let Ok(listed) = asker.join() else { anyhow::bail!("the thread that looks panicked") };
    ensure!(listed.is_ok() && !offsite(&["status"])?.contains("problem"), "{}", offsite(&["status"])?);
    drop(covered);
    a.unplug(LIMIT)
}

fn a_deceived_checker() -> Result<()> {
    let mut a = to_be_checked()?;
    let covered = InPlaceOfE2fsck::put(INTRUDER)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    ensure!(list(&at(&a)).is_err(), "it is used all the same");
    let told = offsite(&["status"])?;
    for part in ["NOT USABLE", "e2fsck was ended: it tried what no check needs", "prepare it again"] {
        ensure!(told.contains(part), "no {part:?} in {told}");
    }
    ensure!(!Path::new("/run/curious/made").exists(), "it started a program");
    // The real one finds nothing wrong.
    drop(covered);
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    a.unplug(LIMIT)
}

fn went_read_only() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    let _daemon = Daemon::start(&[("A", &a)])?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    let held = fs::File::create(at(&a).join("volume"))?;
    // As the kernel does when it meets an error.
    run(Command::new("mount").args(["-o", "remount,ro,abort"]).arg(at(&a))).or_else(|_| {
        // What is open for writing keeps a remount from it, an error doesn't.
        let name = a.device().context("no device")?.file_name().context("no name")?.to_owned();
        fs::write(Path::new("/sys/fs/ext4").join(name).join("trigger_fs_error"), "met in a test\n")?;
        anyhow::Ok(String::new())
    })?;
    wait("it to be told", || {
        Ok(offsite(&["status"])?.contains("problem: the kernel met an error in its filesystem"))
    })?;
    drop(held);
    wait("it to be idle", || Ok(offsite(&["status"])?.contains("A  plugged, locked")))?;
    wait("it to be checked and used again", || Ok(list(&at(&a)).is_ok()))?;
    fs::write(at(&a).join("volume"), "again\n")?;
    ensure!(!offsite(&["status"])?.contains("problem"), "{}", offsite(&["status"])?);
    a.unplug(LIMIT)
}

fn without_inotify() -> Result<()> {
    const LIMIT_OF_WATCHES: &str = "/proc/sys/fs/inotify/max_user_instances";
    let mut a = LoopDrive::ext4(16)?;
    let before = fs::read_to_string(LIMIT_OF_WATCHES)?;
    fs::write(LIMIT_OF_WATCHES, "0\n")?;
    let daemon = Daemon::start(&[("A", &a)]);
    fs::write(LIMIT_OF_WATCHES, before)?;
    let _daemon = daemon?;
    a.plug()?;
    wait("the drive is there", || Ok(list(&at(&a)).is_ok()))?;
    fs::write(at(&a).join("volume"), "written\n")?;
    a.unplug(LIMIT) // as it is idle
}

fn only_known_kinds() -> Result<()> {
    let mut a = LoopDrive::ext4(16)?;
    run(Command::new("/usr/sbin/mkfs.vfat").arg(a.file()).env("PATH", "/usr/sbin:/sbin")).or_else(
        |error| {
            // A FAT filesystem's superblock is easily made where its program is missing.
            fat_superblock(&a).with_context(|| format!("{error:#}"))
        },
    )?;
    let said = run(Command::new("/usr/sbin/blkid").args(["-p", "-o", "value", "-s", "UUID"]).arg(a.file()))?;
    let site = format!(
        "idle_seconds = 2\n[[magazine]]\nname = \"A\"\nfs_uuid = \"{}\"\nfs_type = \"vfat\"\n",
        said.trim()
    );
    write_site(2, &[])?;
    fs::write("/etc/offsite/site.toml", site)?;
    let _daemon = Daemon::again()?;
    a.plug()?;
    wait("the drive is plugged", || Ok(offsite(&["status"])?.contains("A  plugged")))?;
    let refused = list(&Path::new("/srv/offsite").join(said.trim()));
    ensure!(refused.is_err(), "it was mounted");
    let status = offsite(&["status"])?;
    ensure!(
        status.contains("NOT USABLE") && status.contains("a vfat filesystem isn't mounted here"),
        "{status}"
    );
    a.unplug(LIMIT)
}

/// Writes a FAT boot sector that libblkid knows.
fn fat_superblock(drive: &LoopDrive) -> Result<String> {
    let mut image = vec![0_u8; 16 << 20];
    let mut put = |at: usize, bytes: &[u8]| {
        image.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
    };
    put(0, &[0xeb, 0x3c, 0x90]);
    put(3, b"mkfs.fat");
    put(11, &512_u16.to_le_bytes());
    put(13, &[4]); // sectors per cluster
    put(14, &4_u16.to_le_bytes()); // reserved
    put(16, &[2]); // FATs
    put(17, &512_u16.to_le_bytes()); // root entries
    put(19, &32_768_u16.to_le_bytes()); // sectors
    put(21, &[0xf8]);
    put(22, &32_u16.to_le_bytes()); // sectors per FAT
    put(36, &[0x80, 0, 0x29]);
    put(39, &0x7a1b_03c4_u32.to_le_bytes());
    put(43, b"NO NAME    FAT16   ");
    put(510, &[0x55, 0xaa]);
    for fat in [4 * 512, (4 + 32) * 512] {
        put(fat, &[0xf8, 0xff, 0xff, 0xff]);
    }
    fs::write(drive.file(), image)?;
    Ok(String::new())
}
