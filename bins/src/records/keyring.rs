//! The keys of a site while one takes the place of another, and what a drive that comes home gets of them.
//!
//! site.toml says it all: `key_file` opens every drive. `next_key_file` is added to each drive that comes.
//! `old_key_files` still open drives that haven't come since the exchange, and are removed from each that comes, when
//! `key_file` was seen to open it. Whatever is interrupted goes on at the drive's next visit.

use std::path::{Path, PathBuf};

use luks_core::{Container, Fingerprint, KeySlot, LuksUuid, Secret, SecretKind, TestKeyError};
use serde::Serialize;

use super::{header_backups, header_changes};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::site::description::Site;
use crate::site::key_file;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It opens every drive.
    Current,
    /// It is being added.
    Next,
    /// It is being removed.
    Old,
}

/// One key of the site.
pub struct SiteKey {
    /// What it is for.
    pub role: Role,
    /// Its file.
    pub path: PathBuf,
    /// The key.
    pub secret: Secret,
}

/// All keys of the site that are there.
pub struct Keyring {
    keys: Vec<SiteKey>,
    /// Keys that can't be used, and why.
    pub problems: Vec<String>,
}

impl Keyring {
    /// Loads the site's keys; without the current one nothing works, the others may be missing.
    pub fn load(root: &Root, site: &Site) -> Result<Self, Failure> {
        let current = key_file::load(&root.join(&site.key_file))?;
        let mut keys = vec![SiteKey { role: Role::Current, path: site.key_file.clone(), secret: current }];
        let mut problems = Vec::new();
        let others = site.next_key_file.iter().map(|path| (Role::Next, path));
        for (role, path) in others.chain(site.old_key_files.iter().map(|path| (Role::Old, path))) {
            match key_file::load(&root.join(path)) {
                // The same key under another name opens nothing more, and must never be taken for an old one.
                Ok(secret) if keys.iter().any(|key| key.secret.fingerprint() == secret.fingerprint()) => {
                    problems.push(format!("{} holds the same key as another file", path.display()));
                }
                Ok(secret) => keys.push(SiteKey { role, path: path.clone(), secret }),
                Err(failure) => problems.push(failure.message().to_owned()),
            }
        }
        Ok(Self { keys, problems })
    }

    /// The key that opens every drive.
    pub fn current(&self) -> &Secret {
        #[expect(clippy::indexing_slicing, reason = "`load` puts the current key first")]
        &self.keys[0].secret
    }

    /// All keys as they are tried, the current one first; no other keys than the site's are ever tried.
    pub fn secrets(&self) -> Vec<&Secret> {
        self.keys.iter().map(|key| &key.secret).collect()
    }

    /// All keys, the current one first.
    pub fn keys(&self) -> &[SiteKey] {
        &self.keys
    }

    /// Whether one key takes the place of another.
    pub fn is_rotating(&self) -> bool {
        self.keys.len() > 1
    }

    /// The first key that opens a container; no other keys than the site's are ever tried.
    pub fn opening(&self, container: &Container) -> Result<&SiteKey, Failure> {
        for key in &self.keys {
            if opens(container, &key.secret)? {
                return Ok(key);
            }
        }
        Err(Failure::new(Exit::Failed, format!("no key of this site opens {}", container.device().display()))
            .hint("is it the right drive? `offsite key status` tells which drive takes which key"))
    }

    /// What to do about an enrolled drive that no key opens, when one opens its backup: its header is ruined, however
    /// sound it looks.
    pub fn remedy(&self, root: &Root, luks: LuksUuid, device: &Path) -> Option<String> {
        header_backups::registered(root, luks).ok()?.test_keys(&self.secrets()).ok()?;
        Some(format!(
            "a key opens the backup of its header; bring it back: offsite luks restore {}",
            device.display()
        ))
    }

    /// Gives a container the keys that it should have and takes away those that it shouldn't; tells what was done.
    ///
    /// A key is removed only after the current one opened the container as it is on the disk.
    pub fn settle(&self, root: &Root, container: &Container) -> Result<Vec<String>, Failure> {
        let mut done = Vec::new();
        if !self.is_rotating() {
            return Ok(done);
        }
        for wanted in self.keys.iter().filter(|key| key.role != Role::Old) {
            if !opens(container, &wanted.secret)? {
                let slot = self.add(root, container, &wanted.secret)?;
                done.push(format!("takes the key {} now, in slot {slot}", wanted.secret.fingerprint()));
            }
        }
        for old in self.keys.iter().filter(|key| key.role == Role::Old) {
            for slot in header_backups::slots_of(root, container, &old.secret)? {
                let ((), backed_up) = header_changes::guarded(
                    root,
                    container,
                    self.current(),
                    self.current(),
                    |()| vec![slot],
                    || {
                        container.kill_slot(slot, self.current()).or_fail(format!(
                            "the old key stays in slot {slot} of {}",
                            container.device().display()
                        ))
                    },
                )?;
                backed_up?;
                done.push(format!("takes the key {} no more (slot {slot})", old.secret.fingerprint()));
            }
        }
        Ok(done)
    }

    fn add(&self, root: &Root, container: &Container, new: &Secret) -> Result<KeySlot, Failure> {
        let auth = &self.opening(container)?.secret;
        let slot = free_slot(container)?;
        let (slot, backed_up) = header_changes::guarded(
            root,
            container,
            auth,
            auth,
            |slot| vec![*slot],
            || {
                container
                    .add_key(auth, new, SecretKind::KeyFile, slot)
                    .or_fail(format!("{} didn't take the new key", container.device().display()))
            },
        )?;
        backed_up.map(|()| slot)
    }
}

/// Slots 0 and 2 are where people look for a typed passphrase and the recovery key.
fn free_slot(container: &Container) -> Result<Option<KeySlot>, Failure> {
    let slots = container.slots().or_fail("cannot list the key slots")?;
    let free = slots.iter().find(|info| {
        info.state == luks_core::SlotState::Empty && ![KeySlot::ZERO, KeySlot::TWO].contains(&info.slot)
    });
    Ok(free.map(|info| info.slot))
}

/// Whether a key opens a container.
pub fn opens(container: &Container, key: &Secret) -> Result<bool, Failure> {
    match container.test_key(key) {
        Ok(_slot) => Ok(true),
        Err(TestKeyError::WrongKey { .. }) => Ok(false),
        Err(error) => Err(Failure::because(
            Exit::Failed,
            format!("cannot try a key on {}", container.device().display()),
            &error,
        )),
    }
}

/// Refuses a key that isn't the one which site.toml names.
pub fn check_fingerprint(expected: Option<Fingerprint>, found: Fingerprint) -> Result<(), Failure> {
    match expected {
        Some(expected) if expected != found => {
            Err(Failure::new(Exit::Refused, format!("it is the key {found}, and site.toml names {expected}"))
                .hint("look for the right copy; key_fingerprint in site.toml names the site's key"))
        }
        _ => Ok(()),
    }
}
