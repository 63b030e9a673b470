//! Talking to Bacula's console; the only room that knows its words.

pub(crate) mod console;
pub(crate) mod dialogue;
pub(crate) mod running;
pub(crate) mod slots_in_catalog;
pub(crate) mod table;
