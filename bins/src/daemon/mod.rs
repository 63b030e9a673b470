//! `offsited`: a small parent, and the worker that does everything else.

mod adopt_mounts;
mod askers;
mod catalog;
mod check;
mod checker;
mod control;
mod director;
mod director_thread;
mod drive;
mod eject;
mod ejected_mark;
mod fleet;
mod flush;
mod health;
pub(crate) mod journal;
mod key_maintenance;
mod notifier;
mod open;
mod reload;
mod signals;
mod signs;
mod since;
mod stopped_writing;
pub mod supervise;
mod users;
mod waiting;
pub(crate) mod worker;
