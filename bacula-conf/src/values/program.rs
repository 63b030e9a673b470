//! The programs that read configuration files.

use serde::Serialize;

/// Which program reads a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Program {
    /// bacula-dir.
    Director,
    /// bacula-sd.
    Storage,
    /// bacula-fd.
    Client,
    /// bconsole.
    Console,
    /// The changer: vchanger.conf.
    Changer,
}
