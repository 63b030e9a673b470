//! The directories that Bacula's user can't make itself, and their owners.

use bacula_conf::ChangerInput;
use nix::unistd::{Group, User};

use super::description::Site;
use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;

/// The numbers of the user and the group that `what` belongs to.
pub(crate) fn owner(what: &str, user: &str, group: &str) -> Result<Owner, Failure> {
    let unknown = |kind: &str, name: &str| {
        Failure::new(Exit::Failed, format!("{what} belongs to the {kind} {name}, which doesn't exist here")).hint(
            "install Bacula first (apt-get install bacula-director-sqlite3 bacula-sd bacula-fd bacula-console), \
             or write elsewhere: --out DIR",
        )
    };
    let user = User::from_name(user).ok().flatten().ok_or_else(|| unknown("user", user))?;
    let group = Group::from_name(group).ok().flatten().ok_or_else(|| unknown("group", group))?;
    Ok(Owner { uid: user.uid.as_raw(), gid: group.gid.as_raw() })
}

/// Makes the directories in which the changer, run as Bacula's user, keeps its state and its log.
pub(crate) fn working_directories(root: &Root, site: &Site) -> Result<(), Failure> {
    let accounts = &site.bacula.accounts;
    let owner = owner("its state", accounts.user.as_str(), accounts.storage_group.as_str())?;
    let log = ChangerInput::new(Vec::new()).log_file;
    for directory in [Some(&*site.changer.work_dir()), log.parent()].into_iter().flatten() {
        atomic_file::directory_of(&root.join(directory), owner, 0o750)?;
    }
    Ok(())
}
