//! `offsite init`: makes what every later step relies on, and nothing that is there already.

use std::path::Path;

use super::arguments::Init;
use crate::base::atomic_file;
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;
use crate::site::description::Site;
use crate::site::first_site::FIRST_SITE;
use crate::site::{edit, passwords};

/// Length of the site's key file in bytes, as in the tutorial.
const KEY_BYTES: usize = 4096;

/// Runs `offsite init`.
pub fn run(root: &Root, options: &Init) -> Result<(), Failure> {
    let act = !options.dry_run;
    let mut steps = Steps { act };
    steps.directory(&root.join("/etc/offsite"), 0o755)?;
    let site_toml = root.site_toml();
    steps.file(&site_toml, || atomic_file::replace(&site_toml, 0o644, FIRST_SITE.as_bytes()))?;
    let site = if site_toml.exists() { Site::load(root)? } else { Site::parse(FIRST_SITE, &site_toml)? };

    steps.directory(&root.state_dir(), 0o755)?;
    for private in [root.headers_dir(), root.journals_dir(), root.torn_dir()] {
        steps.directory(&private, 0o700)?;
    }
    steps.directory(&root.join(&site.mount_root), 0o755)?;
    let passwords_toml = root.passwords_toml();
    steps.file(&passwords_toml, || passwords::generate(root))?;
    let key_file = root.join(&site.key_file);
    steps.file(&key_file, || {
        let print = luks_core::generate_key_file(&key_file, KEY_BYTES).or_fail("no key file was made")?;
        println!("      its fingerprint: {print}");
        println!(
            "      KEEP A COPY IN A SAFE PLACE: without this key nothing on the drives can ever be read."
        );
        Ok(())
    })?;
    if act {
        // A key that was brought back belongs to this site from now on, as one that was made.
        let key = crate::site::key_file::load(&key_file)?;
        let site = Site::load(root)?;
        if site.key_fingerprint.is_none() {
            edit::set_keys(root, &Site { key_fingerprint: Some(key.fingerprint()), ..site })?;
        }
        println!("next: plug in a blank drive, then `offsite identify` and `offsite prepare`");
    }
    Ok(())
}

/// Makes things, or says that it would.
struct Steps {
    act: bool,
}

impl Steps {
    fn directory(&mut self, path: &Path, mode: u32) -> Result<(), Failure> {
        self.file(path, || atomic_file::directory(path, mode))
    }

    fn file(&mut self, path: &Path, make: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
        let shown = path.display();
        if path.exists() {
            println!("there  {shown}");
        } else if self.act {
            make()?;
            println!("made   {shown}");
        } else {
            println!("would make {shown}");
        }
        Ok(())
    }
}
