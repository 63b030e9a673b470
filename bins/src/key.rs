//! `offsite key`: making key files and telling them apart.

use luks_core::{generate_key_file, load_key_file};

use crate::cli::{Key, KeyCommand};
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::site::Site;

/// Runs `offsite key`.
pub fn run(root: &Root, options: &Key) -> Result<(), Failure> {
    match &options.command {
        KeyCommand::Generate { path, size } => {
            let print = generate_key_file(path, *size).or_fail("no key file was made")?;
            println!("{}: {size} random bytes, fingerprint {print}", path.display());
            println!("Keep a copy of it in a safe place: without it nothing on the drives can be read.");
        }
        KeyCommand::Fingerprint { path } => {
            let path = match path {
                Some(path) => path.clone(),
                None => root.join(Site::load(root)?.key_file),
            };
            println!("{}", load(&path)?.fingerprint());
        }
    }
    Ok(())
}

/// Loads a key file, or says what is wrong with it.
pub fn load(path: &std::path::Path) -> Result<luks_core::Secret, Failure> {
    load_key_file(path).map_err(|error| {
        let missing = !path.exists();
        let failure = Failure::because(Exit::Usage, "the key file can't be used", &error);
        if missing {
            failure.hint("`offsite init` makes one; an existing site's key comes from its safe copy")
        } else {
            failure
        }
    })
}
