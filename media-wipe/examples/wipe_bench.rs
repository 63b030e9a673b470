//! Measures the generators and the wiping of one device or file, for comparisons in one run.
//!
//! ```text
//! wipe_bench generator
//! wipe_bench fill DEVICE ID [THREADS [REQUEST_BYTES]]      (no verification)
//! wipe_bench verify DEVICE ID [THREADS [REQUEST_BYTES]]    (with full verification)
//! ```
//! It prints one JSON object; `cpu_seconds` and `peak_memory_bytes` are those of the whole process.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use media_wipe::{Generator, System, Target, Verify, Wipe};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::json;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments.as_slice() {
        ["generator"] => {
            let measure = |generator: Generator| generator.measure(Duration::from_secs(2));
            json!({
                "fastest": Generator::fastest(),
                "aes256ctr_bytes_per_second": measure(Generator::Aes256Ctr),
                "chacha20_bytes_per_second": measure(Generator::ChaCha20),
            })
        }
        [mode @ ("fill" | "verify"), device, id, tuning @ ..] => {
            let target = Target::open(&System::new(Path::new("/")), Path::new(device), id)?;
            let verify = if *mode == "fill" { Verify::None } else { Verify::Full };
            let mut wipe = Wipe::new(target).verify(verify);
            if let Some(threads) = tuning.first() {
                wipe = wipe.threads(threads.parse()?);
            }
            if let Some(bytes) = tuning.get(1) {
                wipe = wipe.request_bytes(bytes.parse()?);
            }
            let report = wipe.run()?;
            let usage = getrusage(UsageWho::RUSAGE_SELF)?;
            let cpu = usage.user_time() + usage.system_time();
            json!({
                "bytes": report.bytes_written,
                "direct": report.direct,
                "seconds": report.seconds,
                "write_bytes_per_second": report.mean_bytes_per_second,
                "verify_bytes_per_second":
                    report.verification.as_ref().map(|verification| verification.mean_bytes_per_second),
                "cpu_seconds": Duration::from_micros(u64::try_from(cpu.num_microseconds())?).as_secs_f64(),
                "peak_memory_bytes": usage.max_rss() * 1024,
            })
        }
        _ => {
            return Err(
                "usage: wipe_bench generator | fill DEVICE ID [THREADS [REQUEST_BYTES]] | verify DEVICE ID [THREADS [REQUEST_BYTES]]".into(),
            );
        }
    };
    println!("{result}");
    Ok(())
}
