//! Why Bacula can't be asked.

use crate::changer::opened::ChangerError;
use crate::director::console::ConsoleError;

/// Why Bacula's answer is not known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// The changer's own state cannot be read.
    #[error(transparent)]
    Changer(#[from] ChangerError),
    /// The Director gave no answer, or not the one that was asked for.
    #[error(transparent)]
    Console(#[from] ConsoleError),
}
