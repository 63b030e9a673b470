//! Fill a block device with a verifiable random stream, safely.
//!
//! Before an encrypted container is made on a drive, the drive is filled with random data, so that nobody can tell used
//! from unused blocks, and nothing is left of what was there. This crate does that as fast as the device takes it:
//! - [`identify`] tells which drive it is, what is on it, and what speaks against overwriting it;
//! - [`Target::open`] refuses what is mounted, used, the system's own, or unexplained, and wants the drive's serial number
//!   confirmed; then it holds the drive exclusively;
//! - [`Wipe`] writes a random stream past the page cache, flushes, reads everything back and compares it,
//!   with progress, cancellation, and a journal to resume from.
//!
//! ```no_run
//! use std::path::Path;
//! use media_wipe::{System, Target, Verify, Wipe};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let system = System::new(Path::new("/"));
//! let target = Target::open(&system, Path::new("/dev/sdx"), "WX21A8C4")?;
//! let report = Wipe::new(target)
//!     .verify(Verify::Full)
//!     .progress(|progress| eprintln!("{} of {} bytes", progress.done_bytes, progress.total_bytes))
//!     .run()?;
//! println!("{}", report.to_text());
//! # Ok(())
//! # }
//! ```
//!
//! # What the stream is
//! AES-256 in counter mode with the processor's AES instructions, or ChaCha20 where there are none. The key comes from
//! the kernel and is used for one wipe. It, the ciphers, and the stacks of the threads that run them lie in memory that is
//! locked against swapping (as far as `RLIMIT_MEMLOCK` allows), left out of core dumps, and overwritten in the end. A position in the stream is a position on the drive, so every
//! byte can be made again to compare it, and nothing repeats within 2^64 bytes.
//!
//! # What resuming guarantees
//! With [`Wipe::journal`], a checkpoint every few seconds flushes the drive and then notes how far it is.
//! - The key never lies on a disk: it is kept below `/run` while the wipe lasts, and only where that is a memory filesystem
//!   and nothing swaps. So after the process died, the wipe goes on with the same stream, and all is compared with it.
//! - After a power cut the key is gone. The wipe goes on with a new key from the last checkpoint; what lies before
//!   is read back too, but compared with checksums (CRC-32 for each request of 1 MiB) that lie beside the journal. They
//!   find every flaw of a drive that isn't made to deceive this check. Until the wipe is over and they are removed, they
//!   would show somebody who has both the journal and the drive which requests were never overwritten since.
//! - A wipe that is over leaves no journal, unless [`Wipe::keep_journal`] was called: then a caller that dies before it has
//!   filed the report resumes a wipe of which everything is written and verified. [`forget_journal`] ends that.
//! - What was written since the last checkpoint is written again, and so is what a drive lost before it: the last
//!   requests are compared with their checksums. A drive that holds nothing of what the journal tells, or that was
//!   used since, is begun anew.
//!
//! # Failure model
//! A failed flush is a failure. A region that can't be written is named, and the wipe never counts as a success. A drive
//! that loses writes, flips bits, or shows more space than it has, is found by reading back, since that
//! begins only after everything was written. A drive that goes away is told from one that is bad. What a drive remapped or keeps in spare cells is out of reach of any writer: an
//! SSD's own secure erase is the complement. Mounts in other mount namespaces are found by opening exclusively.
//!
//! # Needs
//! Linux, root for block devices, `/proc` and `/sys`; libblkid. Memory: 1 MiB for each of the four requests in flight, unless set otherwise.

mod identity;
mod io;
mod report;
mod stream;
mod system;
mod target;
mod wipe;

pub use identity::examine::{IdentifyError, Identity, identify};
pub use identity::refusal::Refusal;
pub use io::profile::Zone;
pub use io::progress::{Phase, Progress, ProgressSink};
pub use io::region::Region;
pub use report::health::Health;
pub use report::mark::FillMark;
pub use report::outcome::{Outcome, Report, Verification};
pub use report::verify::Verify;
pub use stream::keystream::Generator;
pub use system::root::{DisksError, System};
pub use target::open::{Target, TargetError};
pub use wipe::builder::Wipe;
pub use wipe::error::WipeError;
pub use wipe::fill::BadRegions;
pub use wipe::journal::{JournalError, forget_journal};
