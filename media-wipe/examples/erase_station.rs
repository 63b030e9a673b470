//! A station that erases several drives at once and shows its own progress.
//!
//! ```text
//! erase_station DEVICE ID [DEVICE ID ...]
//! ```
//! Each drive is confirmed by the id that is printed for it, goes at its own speed, and has a line of its own. What happens to one
//! drive leaves the others alone.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use media_wipe::{Phase, Progress, System, Target, Wipe, identify};

fn main() -> ExitCode {
    let system = System::new(Path::new("/"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let jobs: Vec<(PathBuf, String)> = arguments
        .chunks_exact(2)
        .filter_map(|pair| Some((PathBuf::from(pair.first()?), pair.get(1)?.clone())))
        .collect();
    if jobs.is_empty() {
        println!("usage: erase_station DEVICE ID [DEVICE ID ...]; these drives are here:");
        for disk in system.disks().unwrap_or_default() {
            show(&system, &disk);
        }
        return ExitCode::from(2);
    }
    let lines = Mutex::new(vec![String::new(); jobs.len()]);
    let pages = Mutex::new(Vec::new());
    let failures: usize = thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .iter()
            .enumerate()
            .map(|(number, (device, id))| {
                let (system, lines, pages) = (&system, &lines, &pages);
                let show = move |line| draw(lines, number, line);
                scope.spawn(move || erase(system, device, id, pages, &show))
            })
            .collect();
        threads.into_iter().map(|thread| usize::from(!thread.join().unwrap_or(false))).sum()
    });
    // Below the lines of the drives: a page to file for each.
    println!("{}", "\n".repeat(jobs.len()));
    for page in pages.into_inner().unwrap_or_default() {
        println!("{page}");
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(system: &System, disk: &Path) {
    match identify(system, disk) {
        Ok(identity) => {
            println!(
                "  {}  id {:?}  {} bytes  {}",
                disk.display(),
                identity.id,
                identity.size_bytes,
                identity.contents
            );
            for refusal in identity.refusals {
                println!("      not to be erased: {refusal}");
            }
        }
        Err(error) => println!("  {error}"),
    }
}

fn erase(
    system: &System,
    device: &Path,
    id: &str,
    pages: &Mutex<Vec<String>>,
    draw: &(dyn Fn(String) + Sync),
) -> bool {
    let name = device.display().to_string();
    let target = match Target::open(system, device, id) {
        Ok(target) => target,
        Err(error) => {
            draw(format!("{name}: {error}"));
            return false;
        }
    };
    let result = Wipe::new(target).progress(|progress| draw(format!("{name}: {}", line(progress)))).run();
    match result {
        Ok(ref report) => draw(format!("{name}: erased and verified in {:.0} s", report.seconds)),
        Err(ref error) => draw(format!("{name}: {error}")),
    }
    let report = result.as_ref().map_or_else(|error| error.report(), Some);
    if let (Some(report), Ok(mut pages)) = (report, pages.lock()) {
        pages.push(report.to_text());
    }
    result.is_ok()
}

fn line(progress: &Progress) -> String {
    let what = match progress.phase {
        Phase::Writing => "writing",
        Phase::Flushing => "flushing",
        _ => "verifying",
    };
    let percent = u128::from(progress.done_bytes) * 100 / u128::from(progress.total_bytes.max(1));
    let stalled = progress.stalled.map(|silence| format!(", SILENT for {} s", silence.as_secs()));
    let left = progress.eta.map(|eta| format!(", {} s left", eta.as_secs()));
    let rate = progress.rate_now / 1e6;
    format!("{what} {percent:3} % at {rate:.0} MB/s{}", stalled.or(left).unwrap_or_default())
}

/// Shows all drives in one line each, where the cursor was when the first was drawn.
fn draw(lines: &Mutex<Vec<String>>, number: usize, text: String) {
    let Ok(mut lines) = lines.lock() else { return };
    if let Some(line) = lines.get_mut(number) {
        *line = text;
    }
    let page = format!("\x1b[2K{}\n", lines.join("\n\x1b[2K"));
    let mut out = std::io::stdout().lock();
    // A closed terminal is no reason to stop erasing.
    let _ = write!(out, "{page}\x1b[{}A", lines.len());
    let _ = out.flush();
}
