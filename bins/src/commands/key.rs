//! `offsite key`: the custody of the key that opens every drive.

mod escrow;
mod mangled;
mod proof;
mod rotate;
mod status;

use luks_core::generate_key_file;

use super::arguments::{Key, KeyCommand};
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;
use crate::records::key_copies::{self, Done};
use crate::site::description::Site;
use crate::site::key_file::load;

/// Runs `offsite key`.
pub fn run(root: &Root, options: &Key) -> Result<(), Failure> {
    keep_out_of_core_dumps()?;
    match &options.command {
        KeyCommand::Generate { path, size } => {
            let print = generate_key_file(path, *size).or_fail("no key file was made")?;
            println!("{}: {size} random bytes, fingerprint {print}", path.display());
            println!("Keep a copy of it in a safe place: without it nothing on the drives can be read.");
            Ok(())
        }
        KeyCommand::Fingerprint { path } => {
            let path = match path {
                Some(path) => path.clone(),
                None => root.join(Site::load(root)?.key_file),
            };
            println!("{}", load(&path)?.fingerprint());
            Ok(())
        }
        KeyCommand::Test { copy, identity, json, .. } => proof::run(root, copy, identity.as_deref(), *json),
        KeyCommand::Status { json } => status::run(root, *json),
        KeyCommand::Rotate { copy, identity, without_copy, dry_run } => {
            rotate::run(root, copy, identity.as_deref(), *without_copy, *dry_run)
        }
        KeyCommand::Export { to, key_file, recipient, passphrase, split } => {
            let key_file = match key_file {
                Some(path) => path.clone(),
                None => root.join(Site::load(root)?.key_file),
            };
            let key = load(&key_file)?;
            match split {
                Some(split) => escrow::split(&key, to, split),
                None => escrow::export(&key, to, recipient, *passphrase),
            }?;
            key_copies::note(root, key.fingerprint(), Done::Exported);
            Ok(())
        }
        KeyCommand::Import { from, identity, to, fingerprint } => {
            escrow::import(root, from, identity.as_deref(), to.as_deref(), fingerprint.as_deref())
        }
    }
}

/// The libraries that seal and split a key keep their own buffers.
fn keep_out_of_core_dumps() -> Result<(), Failure> {
    nix::sys::prctl::set_dumpable(false).or_fail("cannot forbid core dumps of this program")
}
