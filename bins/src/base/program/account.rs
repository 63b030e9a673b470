//! The user that a program runs as.

/// The user as whom a program runs, for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's first group.
    pub gid: u32,
    /// The numbers of all its groups.
    pub groups: Vec<u32>,
}
