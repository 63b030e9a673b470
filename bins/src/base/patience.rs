//! Telling a person at the terminal what is waited for.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// Does something, and says on stderr every so often what it waits for and how long.
pub fn patiently<T>(what: &str, every: Duration, work: impl FnOnce() -> T) -> T {
    let (end, ended) = mpsc::channel::<()>();
    std::thread::scope(|threads| {
        threads.spawn(move || {
            let started = Instant::now();
            while ended.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                eprintln!("waiting: for {what} ({} s)", started.elapsed().as_secs());
            }
        });
        let done = work();
        drop(end);
        done
    })
}
