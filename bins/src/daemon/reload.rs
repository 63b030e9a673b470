//! Reading site.toml anew while drives are in use.

use std::sync::{Arc, PoisonError};

use super::drive::Drive;
use super::fleet::Fleet;
use super::journal::{say, warn};
use super::key_maintenance;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::protocol::site_status::Problem;
use crate::records::enrolment::Known;
use crate::records::keyring::Keyring;
use crate::site::description::Site;

/// Fails when the site has encrypted drives and no key that opens them.
pub(super) fn check_key(root: &Root, site: &Site) -> Result<(), Failure> {
    if site.magazines.iter().any(|magazine| magazine.luks_uuid.is_some()) {
        Keyring::load(root, site)?;
    }
    Ok(())
}

impl Fleet {
    /// Reads site.toml again. One that can't be used leaves the previous one in force, and `status` says so.
    pub(super) fn reload(self: &Arc<Self>) -> Result<String, Failure> {
        let result = self.reload_site();
        let outdated = result.as_ref().err().map(|failure| Problem {
            message: format!("keeping the previous configuration: {}", failure.message()),
            remedy: failure
                .remedy()
                .unwrap_or("correct site.toml, then: systemctl reload offsited")
                .to_owned(),
        });
        match (&result, &outdated) {
            (Ok(message), _) => say(message),
            (Err(_), Some(problem)) => warn(&problem.message),
            (Err(_), None) => {}
        }
        *self.outdated.lock().unwrap_or_else(PoisonError::into_inner) = outdated;
        result
    }

    /// A drive that stays keeps its state, whatever is said of it now; one that was taken out while it was in use is
    /// known until it is at rest.
    fn reload_site(self: &Arc<Self>) -> Result<String, Failure> {
        let site = Site::load(self.root())?;
        if site.mount_root != self.site().mount_root {
            return Err(Failure::new(Exit::Usage, "mount_root can't change while offsited runs")
                .hint("restart it: systemctl restart offsited"));
        }
        check_key(self.root(), &site)?;
        self.automount.set_idle(site.idle()).or_fail("cannot set the idle time")?;
        let message = format!("site.toml read: {} drives enrolled", site.magazines.len());
        let dropped = self.change_drives(|drives| {
            let mut old = std::mem::take(drives);
            for magazine in &site.magazines {
                let drive = match old.iter().position(|drive| drive.is(magazine)) {
                    Some(at) => old.remove(at),
                    None => Arc::new(Drive::new(magazine.clone())),
                };
                drive.describe(magazine.clone());
                drive.note(|seen| seen.leaving = false);
                drives.push(drive);
            }
            let at_work = |drive: &Arc<Drive>| {
                drive.note(|seen| {
                    seen.leaving = true;
                    seen.is_at_work()
                })
            };
            drives.extend(old.iter().filter(|drive| at_work(drive)).cloned());
            old
        });
        self.replace_site(site);
        for drive in dropped {
            self.publish(&drive, false);
        }
        self.rescan();
        self.settle_keys();
        Ok(message)
    }

    /// Takes a drive that leaves out of the list when nothing of it is in place any more.
    pub(super) fn forget_if_left(&self, drive: &Arc<Drive>) {
        let seen = drive.seen();
        if seen.leaving && !seen.is_at_work() {
            self.change_drives(|drives| drives.retain(|known| !Arc::ptr_eq(known, drive)));
        }
    }

    /// Gives the drives that are plugged the keys that they should have; those that come later get them when they are
    /// unlocked.
    fn settle_keys(self: &Arc<Self>) {
        let site = self.site();
        if site.next_key_file.is_none() && site.old_key_files.is_empty() {
            return;
        }
        let fleet = Arc::clone(self);
        std::thread::spawn(move || {
            for drive in fleet.drives() {
                let _work = drive.work();
                let seen = drive.seen();
                let (Some(luks), Some(plugged), None) =
                    (drive.magazine().luks_uuid, seen.plugged, seen.doubled)
                else {
                    continue;
                };
                let (root, magazine) = (fleet.root(), drive.magazine());
                let settled = Known::of(root, &magazine, luks).and_then(|known| {
                    key_maintenance::read(root, &magazine, luks, &known, &plugged.path)?;
                    key_maintenance::settle(root, &plugged.path, &Keyring::load(root, &fleet.site())?);
                    Ok(())
                });
                if let Err(failure) = settled {
                    drive.warn(&format!("{magazine}: {}", failure.message()));
                }
            }
        });
    }

    /// The drive that a person means: an enrolled one, or one that leaves.
    pub(super) fn drive(&self, word: &str) -> Result<Arc<Drive>, Failure> {
        let site = self.site();
        let drives = self.drives();
        let leaves =
            |drive: &&Arc<Drive>| drive.seen().leaving && drive.magazine().name.eq_ignore_ascii_case(word);
        let meant = match site.magazine(word) {
            Ok(magazine) => drives.iter().find(|drive| drive.is(magazine)),
            Err(failure) => Some(drives.iter().find(leaves).ok_or(failure)?),
        };
        meant.cloned().ok_or_else(|| {
            Failure::new(Exit::NotThere, format!("{word} was taken out of site.toml just now"))
        })
    }
}
