//! Ctrl-C, SIGTERM and a lost terminal as a flag that long work looks at, so that it stops at a place it can go on from.

use std::ffi::c_int;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::failure::{Failure, OrFail as _};

/// The flag, set by the first SIGINT, SIGTERM or SIGHUP; a second one of the first two ends the process at once.
///
/// A lost terminal sends SIGHUP more than once. A signal that was ignored when this was started stays ignored: nohup(1)
/// does so with SIGHUP, and a shell's script with SIGINT for what it runs in the background.
pub fn flag() -> Result<&'static AtomicBool, Failure> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let flag = Arc::new(AtomicBool::new(false));
    let watch =
        |signal| signal_hook::flag::register(signal, Arc::clone(&flag)).or_fail("cannot watch signals");
    for signal in [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| !ignored_from_the_start(*signal)) {
        if signal != SIGHUP {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
                .or_fail("cannot watch signals")?;
        }
        watch(signal)?;
    }
    Ok(FLAG.get_or_init(|| flag))
}

/// Whether this process was started with the signal ignored (proc_pid_status(5), `SigIgn`).
pub fn ignored_from_the_start(signal: c_int) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}
