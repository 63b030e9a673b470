//! Keeping Bacula's catalog true, outside every call that bacula-sd makes.

pub(crate) mod ask_error;
pub(crate) mod asking;
pub(crate) mod catalog_volumes;
pub(crate) mod close_absent;
pub(crate) mod drop_in;
pub(crate) mod failed_volumes;
pub(crate) mod finished_jobs;
pub(crate) mod interrupted;
pub(crate) mod labelling;
pub(crate) mod refresh;
pub(crate) mod release;
pub(crate) mod wake;
