//! One changer: what it is like now, and the commands that bacula-sd calls.

pub(crate) mod commands;
pub(crate) mod create;
pub(crate) mod notices;
pub(crate) mod opened;
pub(crate) mod placeholder;
pub(crate) mod rename_magazines;
pub(crate) mod scan;
pub(crate) mod scope;
pub(crate) mod status;
pub(crate) mod told;
pub(crate) mod unused_files;
pub(crate) mod view;
