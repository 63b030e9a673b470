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
//! # With an automounter of your own
//! A magazine may be a plain directory, a mount of fstab's, or lie below autofs(8) or a systemd unit. Who knows which
//! drives are plugged, and mounts one when it is looked into, announces them; then no question wakes a drive:
//! ```
//! # use std::{fs, path::Path};
//! use changer_model::{Changer, Config, Environment, remove_marker, write_marker};
//!
//! # let directory = tempfile::tempdir()?;
//! # let root = directory.path(); // `/` on a running system
//! # let at = "/auto/6c5b725d-50c4-4605-b750-4f23575b9b5f";
//! # fs::create_dir_all(root.join(&at[1..]))?;
//! # fs::create_dir_all(root.join("proc/self"))?;
//! # fs::write(root.join("proc/self/mountinfo"), format!("31 1 7:0 / {at} rw - ext4 /dev/loop0 rw\n"))?;
//! # fs::write(root.join(&at[1..]).join("c0_0001_0001"), "")?;
//! let uuid = "6c5b725d-50c4-4605-b750-4f23575b9b5f";
//! let text = format!("Storage Resource = c0\nWork Dir = /var/lib/c0\nbconsole = \"\"\nMagazine = UUID:{uuid}\n");
//! let changer = Changer::open(&Config::parse(Path::new("vchanger.conf"), &text)?, &Environment::new(root))?;
//!
//! // plugged: it is mounted there as soon as somebody looks, as refresh does with a drive that just came
//! write_marker(root, uuid, Path::new("/auto/6c5b725d-50c4-4605-b750-4f23575b9b5f"))?;
//! changer.refresh(false)?;
//! assert_eq!(changer.status()?.magazines[0].slots, "1");
//!
//! // pulled: the volume keeps its slot for the day when its magazine is back
//! remove_marker(root, uuid)?;
//! changer.refresh(false)?;
//! let status = changer.status()?;
//! assert_eq!((status.magazines[0].present, status.magazines[0].slots.as_str()), (Some(false), "1"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
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

mod catalog;
mod changer;
mod config;
mod director;
mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod library;
mod system;
mod vchanger;

pub use catalog::ask_error::AskError;
pub use catalog::asking::BaculaAnswer;
pub use catalog::catalog_volumes::CatalogVolume;
pub use catalog::drop_in::start_refresh;
pub use catalog::finished_jobs::FinishedJob;
pub use catalog::refresh::RefreshError;
pub use catalog::release::{JobDoing, RunningJob};
pub use catalog::wake::WaitingDrive;
pub use changer::commands::CommandError;
pub use changer::create::CreationError;
pub use changer::opened::{Changer, ChangerError};
pub use changer::rename_magazines::{TakeOver, TakeOverError, TakenOver};
pub use changer::status::{
    ChangerStatus, DriveStatus, MagazineStatus, PendingCatalog, VolumeState, VolumeStatus,
};
pub use config::environment::{Environment, Privileges};
pub use config::generation::Generation;
pub use config::{Config, ConfigError, ConfigProblem, ConsoleSetting, IgnoredLine, MagazineSource, Position};
pub use director::console::ConsoleError;
pub use files::lock::LockError;
pub use files::log::LogError;
pub use files::store::StateError;
pub use library::bays::BayLayout;
pub use library::identifiers::{DriveIndex, IllegalVolumeName, MagazineId, Slot, VolumeName};
pub use library::model::LoadRefusal;
pub use library::notice::Notice;
pub use system::drives::DriveError;
pub use system::identity::IdentityError;
pub use system::magazine::MagazineError;
pub use system::marker::{marker_path, note_checked, read_marker, remove_marker, write_marker};
pub use vchanger::arguments::ArgumentError;
pub use vchanger::command_line::{Outcome, run_command_line};
