//! Ctrl-C and SIGTERM as a flag that long work looks at, so that it stops at a place it can go on from.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::failure::{Failure, OrFail as _};

/// The flag, set by the first SIGINT or SIGTERM; a second one ends the process at once.
pub fn flag() -> Result<&'static AtomicBool, Failure> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    if let Some(flag) = FLAG.get() {
        return Ok(flag);
    }
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))
            .or_fail("cannot watch signals")?;
        signal_hook::flag::register(signal, Arc::clone(&flag)).or_fail("cannot watch signals")?;
    }
    Ok(FLAG.get_or_init(|| flag))
}
