//! A wipe that is killed at random moments, again and again, and goes on every time.
//!
//! This program is its own victim: with `--victim` it wipes, and the test kills it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use media_wipe::{Report, System, Target, Verify, Wipe};

const SIZE: u64 = (24 << 20) + 1234;

/// How often each wipe is killed, unless `WIPE_TEST_KILLS` says another number.
const KILLS: u32 = 25;

/// A file to wipe, its journal, and the root that the checks look at.
struct Place {
    _dirs: [tempfile::TempDir; 2],
    root: PathBuf,
    file: PathBuf,
    journal: PathBuf,
}

impl Place {
    fn new(run_on: &Path) -> Result<Self, Failed> {
        let dirs = [tempfile::tempdir()?, tempfile::tempdir_in(run_on)?];
        let base = dirs[0].path().canonicalize()?;
        let root = dirs[1].path().canonicalize()?;
        fs::create_dir_all(root.join("sys/block"))?;
        fs::create_dir_all(root.join("proc"))?;
        fs::write(root.join("proc/swaps"), "Filename Type Size Used Priority\n")?;
        let file = base.join("disk");
        fs::File::create(&file)?.set_len(SIZE)?;
        Ok(Self { root, journal: base.join("journal"), file, _dirs: dirs })
    }

    /// How far the journal says that the wipe is; zero without one.
    fn checkpoint(&self) -> u64 {
        let text = fs::read(&self.journal).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        json.get("written").and_then(serde_json::Value::as_u64).unwrap_or(0)
    }
}

fn wipe(
    root: &Path,
    file: &Path,
    journal: &Path,
) -> Result<Report, Box<dyn std::error::Error + Send + Sync>> {
    let target = Target::open(&System::new(root), file, &file.to_string_lossy())?;
    Ok(Wipe::new(target)
        .verify(Verify::Full)
        .journal(journal)
        .resume(true)
        .checkpoint_every(Duration::from_millis(5))
        .run()?)
}

fn killed_again_and_again(run_on: &Path, key_survives: bool) -> Result<(), Failed> {
    let place = Place::new(run_on)?;
    let kills = std::env::var("WIPE_TEST_KILLS").map_or(Ok(KILLS), |kills| kills.parse())?;
    let begun = Instant::now();
    wipe(&place.root, &place.file, &place.journal)?;
    let whole = begun.elapsed();
    let (mut interrupted, mut moments) = (0, 0_u32);
    let mut reached = 0;
    while interrupted < kills {
        moments += 1;
        if moments > 20 * kills {
            return Err("the victim is always done before it is killed".into());
        }
        let mut victim = Command::new(std::env::current_exe()?)
            .arg("--victim")
            .args([&place.root, &place.file, &place.journal])
            .stdout(Stdio::null())
            .spawn()?;
        // Multiples of the golden ratio are spread evenly over the time that a wipe takes.
        std::thread::sleep(whole.mul_f64((f64::from(moments) * 0.618_034).fract() * 0.6));
        victim.kill()?;
        let status = victim.wait()?;
        let checkpoint = place.checkpoint();
        if status.success() {
            reached = 0;
            continue;
        }
        if status.code().is_some() {
            return Err(format!("the victim failed by itself: {status}").into());
        }
        interrupted += u32::from(checkpoint > 0);
        // A victim that was done, all but for its exit, leaves no journal.
        if checkpoint > 0 && checkpoint < reached {
            return Err(format!("fell back from {reached} to {checkpoint}").into());
        }
        reached = checkpoint;
    }
    let report = wipe(&place.root, &place.file, &place.journal)?;
    let verification = report.verification.as_ref().ok_or("not verified")?;
    if !verification.ok || verification.bytes != SIZE || report.resumed_from != Some(reached) {
        return Err(report.to_text().into());
    }
    if (verification.by_checksum_bytes == 0) != key_survives {
        return Err(format!("{} bytes by checksum", verification.by_checksum_bytes).into());
    }
    let bytes = fs::read(&place.file)?;
    let blank = bytes.chunks_exact(16).filter(|block| block.iter().all(|byte| *byte == 0)).count();
    if blank > 0 || place.journal.exists() {
        return Err(format!("{blank} blank blocks").into());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let [_, mode, root, file, journal] = arguments.as_slice()
        && mode == "--victim"
    {
        return match wipe(root.as_ref(), file.as_ref(), journal.as_ref()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let memory = Path::new("/dev/shm");
    let with_key = Trial::test("resumes_with_the_same_stream", || killed_again_and_again(memory, true));
    let with_key = if memory.is_dir() {
        with_key
    } else {
        with_key.with_kind("needs a memory filesystem at /dev/shm").with_ignored_flag(true)
    };
    let disk = Path::new(env!("CARGO_MANIFEST_DIR"));
    let without = Trial::test("resumes_without_the_key", || killed_again_and_again(disk, false));
    libtest_mimic::run(&Arguments::from_args(), vec![with_key, without]).exit_code()
}
