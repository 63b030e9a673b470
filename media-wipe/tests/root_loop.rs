//! Wipes of loop devices: what only the kernel can show.
//!
//! Needs root, loop devices and a mount namespace of its own; where they are missing, each test is reported as ignored.
#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

mod devices;
mod randomness;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use media_wipe::{Generator, Refusal, Target, TargetError, Verify, Wipe, WipeError, identify};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Uid;

use devices::{Loop, Mounted, Partition, system, tool};

type Outcome = Result<(), Failed>;

/// Loop devices are found by being free, so two tests must not look at the same time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn check(condition: bool, what: &str) -> Outcome {
    if condition { Ok(()) } else { Err(what.into()) }
}

fn a_loop_device_is_filled_and_verified() -> Outcome {
    // An odd number of sectors, so that the last request is a short one.
    for (sector, size) in [("512", (9 << 20) + 512 * 3), ("4096", (9 << 20) + 4096 * 3)] {
        let device = Loop::new(size, &["-b", sector])?;
        let target = device.open()?;
        let identity = target.identity().clone();
        check(identity.id == device.id() && identity.size_bytes == size, "identity")?;
        check(
            identity.logical_sector.to_string() == sector && identity.contents == "blank",
            "sector and contents",
        )?;
        let report = Wipe::new(target).run()?;
        check(report.direct, "past the page cache")?;
        check(report.verification.is_some_and(|verification| verification.ok), "verified")?;
        let bytes = fs::read(&device.file)?;
        let zeros = bytes.chunks(16).filter(|block| block.iter().all(|byte| *byte == 0)).count();
        check(bytes.len() as u64 == size && zeros == 0, "every block is filled")?;
    }
    Ok(())
}

fn a_mounted_device_is_refused() -> Outcome {
    let device = Loop::new(16 << 20, &[])?;
    tool("mkfs.ext4", &["-q", "-L", "photos", &device.device.to_string_lossy()])?;
    check(identify(&system(), &device.device)?.contents == "ext4 filesystem \"photos\"", "contents")?;
    let at = tempfile::tempdir()?;
    let mounted = Mounted::ext4(&device.device, at.path())?;
    let error = device.open().err().ok_or("a mounted device was opened")?;
    check(matches!(error, TargetError::Refused { .. }), "refused")?;
    check(error.to_string().contains(&at.path().to_string_lossy().into_owned()), "the mount point is named")?;
    check(device.kinds()? == ["mounted"], "nothing but mounted")?;
    drop(mounted);
    check(device.kinds()?.is_empty(), "free after unmounting")?;
    // A filesystem alone is no refusal: it is shown, and the id has to be confirmed.
    Wipe::new(device.open()?).verify(Verify::None).run()?;
    Ok(())
}

fn a_wrong_id_is_refused() -> Outcome {
    let device = Loop::new(1 << 20, &[])?;
    let error = Target::open(&system(), &device.device, "WX1").err().ok_or("opened with a wrong id")?;
    check(matches!(error, TargetError::WrongId { .. }), "wrong id")?;
    check(fs::read(&device.file)?.iter().all(|byte| *byte == 0), "nothing was written")
}

fn a_read_only_device_is_refused() -> Outcome {
    let device = Loop::new(1 << 20, &["-r"])?;
    check(device.kinds()?.contains(&"read-only"), "read-only")
}

fn a_device_opened_exclusively_is_refused() -> Outcome {
    let device = Loop::new(1 << 20, &[])?;
    let target = device.open()?;
    check(device.kinds()? == ["busy"], "busy while it is held")?;
    check(matches!(device.open(), Err(TargetError::Refused { .. })), "not opened twice")?;
    drop(target);
    check(device.kinds()?.is_empty(), "free afterwards")
}

fn a_partition_and_a_partitioned_disk() -> Outcome {
    let device = Loop::new(16 << 20, &[])?;
    let partition = Partition::add(&device.device)?;
    let kinds: Vec<_> = identify(&system(), &partition.node)?.refusals.iter().map(Refusal::kind).collect();
    check(kinds.contains(&"partition"), "a partition is refused")?;
    tool("mkfs.ext4", &["-q", &partition.node.to_string_lossy()])?;
    let at = tempfile::tempdir()?;
    let mounted = Mounted::ext4(&partition.node, at.path())?;
    check(device.kinds()? == ["mounted"], "a mounted partition keeps its disk")?;
    drop(mounted);
    drop(partition);
    check(device.kinds()?.is_empty(), "free afterwards")
}

fn a_device_under_a_loop_device_is_refused() -> Outcome {
    let device = Loop::new(16 << 20, &[])?;
    tool("mkfs.ext4", &["-q", &device.device.to_string_lossy()])?;
    let above = Loop::over(&device.device, &[])?;
    check(device.kinds()? == ["held"], "the loop device alone keeps it")?;
    check(above.kinds()? == ["loop-over"], "a second name is no drive of its own")?;
    let at = tempfile::tempdir()?;
    let mounted = Mounted::ext4(&above.device, at.path())?;
    check(device.kinds()? == ["held", "mounted"], "and what is mounted from it")?;
    let error = device.open().err().ok_or("a device under a mounted loop device was opened")?;
    check(error.to_string().contains(&above.device.to_string_lossy().into_owned()), &error.to_string())?;
    drop(mounted);
    drop(above);
    check(device.kinds()?.is_empty(), "free afterwards")?;

    // The same over a partition, through two loop devices, and with an offset into the whole.
    let partition = Partition::add(&device.device)?;
    let first = Loop::over(&partition.node, &[])?;
    let second = Loop::over(&first.device, &[])?;
    tool("mkfs.ext4", &["-q", &second.device.to_string_lossy()])?;
    let mounted = Mounted::ext4(&second.device, at.path())?;
    check(device.kinds()? == ["held", "mounted"], "a chain of loop devices over a partition")?;
    drop(mounted);
    drop(second);
    drop(first);
    let inside = Loop::over(&device.device, &["-o", "1048576"])?;
    check(device.kinds()? == ["held"], "an offset changes nothing")?;
    drop(inside);
    drop(partition);
    check(device.kinds()?.is_empty(), "free in the end")
}

fn the_partitions_of_what_was_filled_are_gone() -> Outcome {
    let device = Loop::new(16 << 20, &[])?;
    let partition = Partition::add(&device.device)?;
    let shown = Path::new("/sys/class/block").join(partition.node.file_name().unwrap_or_default());
    check(shown.exists(), "the kernel shows the partition")?;
    // Who only looks, as udev does, delays it.
    let looking = fs::File::open(&partition.node)?;
    let looked = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(looking);
    });
    Wipe::new(device.open()?).verify(Verify::None).run()?;
    looked.join().map_err(|_| "a thread died")?;
    check(!shown.exists(), "and no more when its table is overwritten")
}

fn the_systems_disk_is_refused() -> Outcome {
    // Whatever disk carries the root of this system, if one does.
    for disk in system().disks()? {
        let identity = identify(&system(), &disk)?;
        let mounted = identity.refusals.iter().any(|refusal| refusal.kind() == "mounted");
        let ours = identity.refusals.iter().any(|refusal| refusal.kind() == "system-disk");
        let root = fs::read_to_string("/proc/self/mountinfo")?;
        let carries = root.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(4) == Some(&"/") && line.contains(&format!(" {} ", disk.display()))
        });
        check(!carries || (mounted && ours), "the root's disk is refused")?;
    }
    Ok(())
}

fn a_flipped_bit_on_the_device_is_found() -> Outcome {
    let device = Loop::new(8 << 20, &[])?;
    let backing = fs::OpenOptions::new().read(true).write(true).open(&device.file)?;
    let mut flipped = false;
    let result = Wipe::new(device.open()?)
        .progress(|progress| {
            if progress.phase == media_wipe::Phase::Flushing && !flipped {
                let mut byte = [0];
                let done = backing.read_exact_at(&mut byte, 5_000_000);
                flipped = done.and_then(|()| backing.write_all_at(&[byte[0] ^ 0x10], 5_000_000)).is_ok();
            }
        })
        .run();
    let Err(WipeError::Verification { report, .. }) = result else { return Err("not found".into()) };
    let found =
        report.verification.as_ref().and_then(|verification| verification.mismatches.first().copied());
    check(found.is_some_and(|region| (region.offset, region.length) == (5_000_000, 1)), "its offset is named")
}

fn a_device_that_shrinks_under_the_wipe() -> Outcome {
    let device = Loop::new(32 << 20, &[])?;
    let backing = fs::OpenOptions::new().write(true).open(&device.file)?;
    let target = device.open()?;
    backing.set_len(8 << 20)?;
    tool("losetup", &["-c", &device.device.to_string_lossy()])?;
    let error = Wipe::new(target).run().err().ok_or("a short device passed")?;
    check(matches!(error, WipeError::Write { .. } | WipeError::Verification { .. }), &error.to_string())
}

fn several_devices_at_once() -> Outcome {
    let devices = [Loop::new(8 << 20, &[])?, Loop::new(12 << 20, &[])?, Loop::new(4 << 20, &[])?];
    let targets = devices.iter().map(Loop::open).collect::<Result<Vec<_>, _>>()?;
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            targets.into_iter().map(|target| scope.spawn(move || Wipe::new(target).run())).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| "a thread died")).collect()
    });
    for result in results {
        check(result??.is_complete(), "complete")?;
    }
    Ok(())
}

fn the_bytes_on_the_device_are_random() -> Outcome {
    let device = Loop::new(12 << 20, &[])?;
    let mut earlier: Option<Vec<u8>> = None;
    for generator in [Generator::Aes256Ctr, Generator::ChaCha20, Generator::Aes256Ctr] {
        Wipe::new(device.open()?).generator(generator).verify(Verify::None).run()?;
        let bytes = fs::read(&device.device)?;
        check(bytes.len() == 12 << 20, "the whole device is read")?;
        let found = randomness::suspicions(&bytes);
        check(found.is_empty(), &format!("{generator:?}: {found:?}"))?;
        // Of two wipes of one device neither tells anything of the other.
        if let Some(earlier) = &earlier {
            let mixed: Vec<u8> = bytes.iter().zip(earlier).map(|(a, b)| a ^ b).collect();
            let found = randomness::suspicions(&mixed);
            check(found.is_empty(), &format!("two wipes: {found:?}"))?;
        }
        earlier = Some(bytes);
    }
    // The statistics find what a wipe could do wrong: a page left out, a request written twice, a bit that sticks.
    let spoilt = earlier.ok_or("nothing was read")?;
    for (what, spoil) in [
        ("a page left out", (|bytes: &mut [u8]| bytes[8192..12_288].fill(0)) as fn(&mut [u8])),
        ("a request written twice", |bytes| bytes.copy_within(0..1 << 20, 7 << 20)),
        ("a bit that sticks in a hundredth", |bytes| {
            bytes.iter_mut().step_by(100).for_each(|byte| *byte |= 1);
        }),
        ("a counter in place of noise", |bytes| {
            bytes.iter_mut().zip(0_u32..).for_each(|(byte, n)| *byte = n.to_le_bytes()[0]);
        }),
    ] {
        let mut bytes = spoilt.clone();
        spoil(&mut bytes);
        check(!randomness::suspicions(&bytes).is_empty(), what)?;
    }
    Ok(())
}

fn what_is_no_drive_is_refused() -> Outcome {
    let dir = tempfile::tempdir()?;
    let base = dir.path().canonicalize()?;
    // A loop device shows whole sectors only: a file of less than one gives an empty device.
    let small = Loop::new(300, &[])?;
    check(small.kinds()? == ["empty"], "a device without a sector")?;
    let odd = Loop::new(4096 + 700, &[])?;
    let report = Wipe::new(odd.open()?).run()?;
    check(report.is_complete() && report.size_bytes == 4096 + 512, "a device of nine sectors")?;
    check(fs::read(&odd.file)?[4608..].iter().all(|byte| *byte == 0), "nothing behind its end is touched")?;

    let fifo = base.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU)?;
    for path in [fifo.as_path(), Path::new("/dev/null"), Path::new("/dev/zero"), &base] {
        let error = Target::open(&system(), path, "x").err().ok_or("opened")?;
        check(matches!(error, TargetError::Identify(_)), &format!("{}: {error}", path.display()))?;
    }
    // A link is followed once, to what it leads to; the id is that of the device.
    let device = Loop::new(1 << 20, &[])?;
    let link = base.join("link");
    std::os::unix::fs::symlink(&device.device, &link)?;
    let target = Target::open(&system(), &link, &device.id())?;
    check(target.identity().device == device.device, "links are resolved")?;
    let error =
        Target::open(&system(), &device.file, &device.id()).err().ok_or("opened behind the loop's back")?;
    check(matches!(error, TargetError::Refused { .. }), &error.to_string())
}

fn one_journal_and_another_device_of_the_same_size() -> Outcome {
    let dir = tempfile::tempdir()?;
    let journal = dir.path().join("journal");
    let (first, second) = (Loop::new(16 << 20, &[])?, Loop::new(16 << 20, &[])?);
    let stop = AtomicBool::new(true);
    let stopped = Wipe::new(first.open()?).journal(&journal).cancel(&stop).run();
    check(matches!(stopped, Err(WipeError::Cancelled { .. })), "stopped at once")?;
    let error =
        Wipe::new(second.open()?).journal(&journal).resume(true).run().err().ok_or("another's journal")?;
    check(
        error.to_string().contains(&first.id()) && error.to_string().contains(&second.id()),
        &error.to_string(),
    )?;
    check(fs::read(&second.file)?.iter().all(|byte| *byte == 0), "nothing was written")?;
    check(
        Wipe::new(first.open()?).journal(&journal).resume(true).run()?.is_complete(),
        "the right one goes on",
    )
}

/// This program is its own victim: with `--victim` it wipes, and is killed.
fn be_victim(device: &Path, id: &str, journal: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let target = Target::open(&system(), device, id)?;
    Wipe::new(target)
        .journal(journal)
        .resume(true)
        .checkpoint_every(Duration::from_millis(5))
        .keep_journal()
        .run()?;
    Ok(())
}

fn a_killed_wipe_of_a_device_goes_on() -> Outcome {
    let dir = tempfile::tempdir()?;
    let journal = dir.path().join("journal");
    let device = Loop::new(48 << 20, &[])?;
    let kept = |member: &str| -> Option<u64> {
        serde_json::from_slice::<serde_json::Value>(&fs::read(&journal).ok()?).ok()?.get(member)?.as_u64()
    };
    let mut reached = 0;
    for part in 1..=4 {
        let mut victim = Command::new(std::env::current_exe()?)
            .arg("--victim")
            .args([&device.device, &device.file, &journal])
            .stdin(Stdio::null())
            .spawn()?;
        // Three times while it writes, once while it verifies.
        let (member, enough) = if part < 4 { ("written", part * (8 << 20)) } else { ("verified", 8 << 20) };
        while kept(member).is_none_or(|at| at < enough) && victim.try_wait()?.is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        victim.kill()?;
        victim.wait()?;
        let written = kept("written").ok_or("no journal")?;
        check(written >= reached, &format!("fell back from {reached} to {written}"))?;
        reached = written;
        check(device.kinds()?.is_empty(), "the kernel let the device go")?;
    }
    let report = Wipe::new(device.open()?).journal(&journal).resume(true).run()?;
    check(report.is_complete() && report.resumed_from == Some(reached), &report.to_text())?;
    let bytes = fs::read(&device.device)?;
    check(bytes.chunks(16).all(|block| block.iter().any(|byte| *byte != 0)), "every block is filled")?;
    check(!journal.exists(), "no journal is left")
}

type Test = (&'static str, fn() -> Outcome);

const TESTS: [Test; 16] = [
    ("a_loop_device_is_filled_and_verified", a_loop_device_is_filled_and_verified),
    ("a_mounted_device_is_refused", a_mounted_device_is_refused),
    ("a_wrong_id_is_refused", a_wrong_id_is_refused),
    ("a_read_only_device_is_refused", a_read_only_device_is_refused),
    ("a_device_opened_exclusively_is_refused", a_device_opened_exclusively_is_refused),
    ("a_partition_and_a_partitioned_disk", a_partition_and_a_partitioned_disk),
    ("a_device_under_a_loop_device_is_refused", a_device_under_a_loop_device_is_refused),
    ("the_partitions_of_what_was_filled_are_gone", the_partitions_of_what_was_filled_are_gone),
    ("the_systems_disk_is_refused", the_systems_disk_is_refused),
    ("a_flipped_bit_on_the_device_is_found", a_flipped_bit_on_the_device_is_found),
    ("a_device_that_shrinks_under_the_wipe", a_device_that_shrinks_under_the_wipe),
    ("several_devices_at_once", several_devices_at_once),
    ("the_bytes_on_the_device_are_random", the_bytes_on_the_device_are_random),
    ("what_is_no_drive_is_refused", what_is_no_drive_is_refused),
    ("a_killed_wipe_of_a_device_goes_on", a_killed_wipe_of_a_device_goes_on),
    ("one_journal_and_another_device_of_the_same_size", one_journal_and_another_device_of_the_same_size),
];

/// Why the tests can't run here; `None` if they can.
fn obstacle() -> Option<&'static str> {
    if !Uid::effective().is_root() {
        return Some("needs root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("needs loop devices");
    }
    if unshare(CloneFlags::CLONE_NEWNS).is_err()
        || mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .is_err()
    {
        return Some("needs a mount namespace");
    }
    (tool("losetup", &["-V"]).is_err() || tool("mkfs.ext4", &["-V"]).is_err())
        .then_some("needs losetup and mkfs.ext4")
}

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().collect();
    if let [_, mode, device, id, journal] = words.as_slice()
        && mode == "--victim"
    {
        return match be_victim(device.as_ref(), &id.to_string_lossy(), journal.as_ref()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = Arguments::from_args();
    let obstacle = obstacle();
    let trials = TESTS
        .into_iter()
        .map(|(name, test)| {
            let run = move || {
                let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                test()
            };
            match obstacle {
                None => Trial::test(name, run),
                Some(reason) => Trial::test(name, run).with_kind(reason).with_ignored_flag(true),
            }
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
