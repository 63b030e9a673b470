//! What stands behind a directive: names, passwords, sizes, periods, schedules.

pub(crate) mod keyword;
pub(crate) mod name;
pub(crate) mod password;
pub(crate) mod program;
pub(crate) mod schedule;
pub(crate) mod units;
pub(crate) mod words;
