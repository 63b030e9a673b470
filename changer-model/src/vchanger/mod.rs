//! The command line of vchanger.

pub(crate) mod arguments;
pub(crate) mod command_line;
