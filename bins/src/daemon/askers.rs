//! Who may have a drive unlocked by looking at its directory: root, Bacula's user, and the members of Bacula's groups.
//!
//! The same stand at the mount root's door: it is theirs, with mode 0750. What comes past it all the same (a descriptor
//! that was handed on, a capability) is known by the user and group that the kernel names in each request.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use mount_by_uuid::{Access, Asker};
use nix::unistd::{Group, User};

use crate::site::description::Site;

/// The mount root's permissions, those of a drive's own directory.
const MODE: u32 = 0o750;

/// One user's refusals are told once in this time.
const TELL_EVERY: Duration = Duration::from_mins(1);

/// Maximum number of users whose refusals are told apart.
const USERS_TOLD: usize = 64;

/// The users and groups that may have drives unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Askers {
    owner: u32,
    group: u32,
    uids: BTreeSet<u32>,
    gids: BTreeSet<u32>,
}

impl Askers {
    /// Looks up whom site.toml names. An account that this machine doesn't have admits nobody.
    pub(super) fn of(site: &Site) -> Self {
        let accounts = &site.bacula.accounts;
        let user = User::from_name(accounts.user.as_str()).ok().flatten().map(|user| user.uid.as_raw());
        let group = |name: &str| Group::from_name(name).ok().flatten();
        let (own, storage) = (group(accounts.group.as_str()), group(accounts.storage_group.as_str()));
        let members = own.iter().flat_map(|group| &group.mem);
        let members = members.filter_map(|name| Some(User::from_name(name).ok()??.uid.as_raw()));
        let gid = |group: &Option<Group>| group.as_ref().map(|group| group.gid.as_raw());
        Self {
            owner: user.unwrap_or(0),
            group: gid(&own).unwrap_or(0),
            uids: members.chain([0]).chain(user).collect(),
            gids: [gid(&own), gid(&storage)].into_iter().flatten().collect(),
        }
    }

    /// Whose the mount root is. Bacula's user owns it, since its storage daemon need not run in Bacula's group.
    pub(super) fn access(&self) -> Access {
        Access { uid: self.owner, gid: self.group, mode: MODE }
    }

    /// Whether this process may have a drive unlocked.
    pub(super) fn admit(&self, asker: &Asker) -> bool {
        self.uids.contains(&asker.uid) || self.gids.contains(&asker.gid)
    }
}

/// Which refusals were told; a loop of questions must not fill the journal.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<u32, Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    silent: u64,
}

impl Refusals {
    /// Notes that a user was refused at `now`. If that is to be told: how many refusals before it were not.
    pub(super) fn note(&mut self, uid: u32, now: Instant) -> Option<u64> {
        let full = self.0.len() >= USERS_TOLD;
        // Who comes when there is no more room shares the last place.
        let uid = if full && !self.0.contains_key(&uid) { u32::MAX } else { uid };
        match self.0.get_mut(&uid) {
            Some(told) if now.saturating_duration_since(told.at) < TELL_EVERY => {
                told.silent += 1;
                None
            }
            Some(told) => {
                told.at = now;
                Some(std::mem::take(&mut told.silent))
            }
            None => {
                self.0.insert(uid, Told { at: now, silent: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(uid: u32, gid: u32) -> Asker {
        Asker { uid, gid, pid: 1 }
    }

    #[test]
    fn root_baculas_user_and_the_groups_are_admitted() {
        let askers = Askers { owner: 77, group: 88, uids: [0, 77, 1000].into(), gids: [88, 26].into() };
        for (uid, gid) in [(0, 0), (77, 26), (77, 5), (1000, 1000), (2000, 88), (2000, 26)] {
            assert!(askers.admit(&asker(uid, gid)), "{uid} {gid}");
        }
        for (uid, gid) in [(65534, 65534), (2000, 2000), (88, 77), (u32::MAX, 0)] {
            assert!(!askers.admit(&asker(uid, gid)), "{uid} {gid}");
        }
        assert_eq!(askers.access(), Access { uid: 77, gid: 88, mode: 0o750 });
    }

    #[test]
    fn a_machine_without_bacula_admits_root_alone() {
        let toml =
            "[bacula.accounts]\nuser = \"no-such\"\ngroup = \"no-such\"\nstorage_group = \"no-such\"\n";
        let askers = Askers::of(&Site::parse(toml, "site.toml".as_ref()).unwrap());
        assert_eq!(askers.access(), Access { uid: 0, gid: 0, mode: 0o750 });
        assert!(askers.admit(&asker(0, 1)) && !askers.admit(&asker(1, 0)));
    }

    #[test]
    fn a_loop_of_questions_is_told_once_a_minute() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(refusals.note(65534, start), Some(0));
        assert_eq!(refusals.note(65534, after(1)), None);
        assert_eq!(refusals.note(65534, after(59)), None);
        assert_eq!(refusals.note(1000, after(59)), Some(0), "another user");
        assert_eq!(refusals.note(65534, after(60)), Some(2));
        assert_eq!(refusals.note(65534, after(61)), None);
        for uid in 0..10_000 {
            refusals.note(uid, after(70));
        }
        assert!(refusals.0.len() <= USERS_TOLD + 1);
    }
}
