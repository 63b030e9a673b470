//! A virtual tape library of removable magazines: vchanger's model, commands and state.
//!
//! Bacula's storage daemon knows tape libraries. A changer makes a set of removable disks ("magazines") with
//! volume files look like one: every volume has a slot, virtual drives are links to the loaded volumes. This crate
//! answers as Josh Fisher's vchanger 1.0.3 and 0.8.6 do and reads their configurations; beyond them, a volume keeps
//! its slot for ever, the state survives any crash, and questions never wake a drive.
//!
//! ```
//! use std::path::Path;
//! use changer_model::{Config, Environment, run_command_line};
//!
//! let config = Config::parse(Path::new("vchanger.conf"), "Storage Resource = c0\nMagazine = /mnt/m1\n")?;
//! assert_eq!(config.storage(), "c0");
//! let outcome = run_command_line(&["--help".into()], &Environment::new(Path::new("/")));
//! assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
//! # Ok::<(), changer_model::ConfigError>(())
//! ```
//!
//! What it does not do: mounting, unlocking, and telling Bacula from within a call that bacula-sd made (that
//! deadlocks on its changer lock). Whoever plugs drives runs `refresh`, which tells Bacula through its console;
//! what could not be told stays owed. Whoever mounts on demand announces plugged drives by [`write_marker`].
//!
//! Failure model: state files are replaced by rename; a damaged state gives way to the one before it; the lock is
//! the kernel's and ends with its holder; a magazine's content is untrusted. No privileges are needed beyond the
//! work directory's and the magazines'; started by root, [`run_command_line`] becomes the configured user. Linux
//! only (`/proc/self/mountinfo`, `/dev/disk/by-uuid`).

mod answers;
mod arguments;
mod changer;
mod command_line;
mod config;
mod console;
mod creation;
mod dialogue;
mod drives;
mod environment;
mod identifiers;
mod identity;
mod label;
mod legacy;
mod letting_go;
mod lock;
mod log;
mod magazine;
mod marker;
mod model;
mod mounts;
mod places;
mod presence;
mod shelf;
mod shelving;
mod standin;
mod state;
mod store;
mod survey;
mod takeover;
mod telling;
mod waiting;

pub use answers::CommandError;
pub use arguments::ArgumentError;
pub use changer::{
    Changer, ChangerError, ChangerStatus, DriveStatus, MagazineStatus, PendingCatalog, VolumeState,
    VolumeStatus,
};
pub use command_line::{Outcome, run_command_line};
pub use config::{
    BayLayout, Config, ConfigError, ConfigProblem, ConsoleSetting, Generation, MagazineSource, Position,
};
pub use console::ConsoleError;
pub use creation::CreationError;
pub use drives::DriveError;
pub use environment::{Environment, Privileges};
pub use identifiers::{DriveIndex, IllegalVolumeName, MagazineId, Slot, VolumeName};
pub use identity::IdentityError;
pub use letting_go::{JobDoing, RunningJob};
pub use lock::LockError;
pub use log::LogError;
pub use magazine::MagazineError;
pub use marker::{marker_path, remove_marker, write_marker};
pub use model::LoadRefusal;
pub use store::StateError;
pub use takeover::{TakeOver, TakeOverError, TakenOver};
pub use telling::RefreshError;
pub use waiting::WaitingDrive;
