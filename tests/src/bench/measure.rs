//! Programs run to their end under a stopwatch.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// What one run of a program took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// From before the start to after the end.
    pub(super) wall: Duration,
    /// Processor time of the program and of all that it waited for.
    pub(super) cpu: Duration,
    /// The most resident memory that was seen, in bytes.
    pub(super) peak_memory: u64,
}

impl Cost {
    /// The rate of a program that worked on that many bytes.
    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(super) fn megabytes_per_second(&self, bytes: u64) -> f64 {
        bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }

    /// Its processor time for 10^9 bytes.
    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(super) fn cpu_seconds_per_gigabyte(&self, bytes: u64) -> f64 {
        self.cpu.as_secs_f64() / (bytes as f64 / 1e9)
    }

    /// Its peak memory in MiB.
    #[expect(clippy::cast_precision_loss, reason = "memory needs no more than 53 bits")]
    pub(super) fn peak_mebibytes(&self) -> f64 {
        self.peak_memory as f64 / f64::from(1 << 20)
    }
}

/// Runs a program that must succeed and returns its wall time in milliseconds; what it says is dropped.
pub(super) fn milliseconds(command: &mut Command) -> Result<f64> {
    silence(command);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    let took = started.elapsed();
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(took.as_secs_f64() * 1e3)
}

/// Samples of ours and of the peer, taking turns, so that a noisy moment meets both.
pub(super) fn turns<T>(
    count: usize,
    mut ours: impl FnMut() -> Result<T>,
    mut peer: impl FnMut() -> Result<T>,
) -> Result<(Vec<T>, Vec<T>)> {
    let mut samples = (Vec::new(), Vec::new());
    for _ in 0..count {
        samples.0.push(ours().context("ours")?);
        samples.1.push(peer().context("the peer")?);
    }
    Ok(samples)
}

/// Runs a long-running program that must succeed.
pub(super) fn cost(command: &mut Command) -> Result<Cost> {
    silence(command);
    let before = children_cpu()?;
    let started = Instant::now();
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    let (status, peak_memory) = watch(&mut child)?;
    let wall = started.elapsed();
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(Cost { wall, cpu: children_cpu()?.saturating_sub(before), peak_memory })
}

/// Where a program lies, or a name for what is missing.
pub(super) fn find(program: &str) -> Result<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.is_file())
        .with_context(|| format!("no {program} here"))
}

fn silence(command: &mut Command) {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Waits for the end; the kernel's own high-water mark of memory is read until then.
fn watch(child: &mut Child) -> Result<(std::process::ExitStatus, u64)> {
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status_file).unwrap_or_default();
        let mark = text
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
        peak = peak.max(mark.unwrap_or(0_u64) << 10);
        if let Some(status) = child.try_wait()? {
            return Ok((status, peak));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn children_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros)?))
}
