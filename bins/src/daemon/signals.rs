//! The signals that the daemon follows.

use std::io::Read as _;
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::base::failure::{Failure, OrFail as _};

/// Signals as bytes of a stream, so that they can be waited for beside the events.
pub(super) struct Signals {
    pub(super) stream: UnixStream,
    hangup: UnixStream,
    pub(super) waker: UnixStream,
}

impl Signals {
    pub(super) fn catch() -> Result<Self, Failure> {
        let failed = "cannot catch signals";
        let (stream, waker) = UnixStream::pair().or_fail(failed)?;
        let (hangup, marker) = UnixStream::pair().or_fail(failed)?;
        for end in [&stream, &hangup] {
            end.set_nonblocking(true).or_fail(failed)?;
        }
        // SIGHUP leaves its mark first, then wakes.
        signal_hook::low_level::pipe::register(SIGHUP, marker).or_fail(failed)?;
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            let waker = waker.try_clone().or_fail(failed)?;
            signal_hook::low_level::pipe::register(signal, waker).or_fail(failed)?;
        }
        Ok(Self { stream, hangup, waker })
    }

    /// The signal that came, SIGTERM standing for SIGINT too.
    pub(super) fn take(&self) -> Option<i32> {
        let mut byte = [0];
        let mut one = |mut end: &UnixStream| matches!(end.read(&mut byte), Ok(1));
        one(&self.stream).then(|| if one(&self.hangup) { SIGHUP } else { SIGTERM })
    }
}
