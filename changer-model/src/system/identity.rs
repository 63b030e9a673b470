//! Becoming the user that Bacula's storage daemon is, when root started the changer.

use std::ffi::CString;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, fchown};
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{
    Gid, Group, Uid, User, getgrouplist, getgroups, setegid, seteuid, setgid, setgroups, setuid,
};

use crate::config::environment::Environment;
use crate::config::{Account, Config};

/// Why the identity was not changed. The changer then does nothing at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no such user.
    #[error("there is no user {name:?}; name one with User = in the configuration or with -u")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// There is no such group.
    #[error("there is no group {name:?}; name one with Group = in the configuration or with -g")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// The system refused.
    #[error("cannot become user {user:?}")]
    Refused {
        /// The user.
        user: String,
        /// What the system said.
        #[source]
        source: nix::Error,
    },
}

/// Becomes the configured user for good; `user` and `group` from the command line come first. Does nothing unless
/// root asks.
pub(crate) fn assume(
    config: &Config,
    env: &Environment,
    user: Option<&str>,
    group: Option<&str>,
) -> Result<(), IdentityError> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let asked = |given: Option<&str>, configured: &Account| match given {
        Some(name) => Account { name: name.to_owned(), explicit: true },
        None => configured.clone(),
    };
    let (user, gid) = resolve(&asked(user, &config.user), &asked(group, &config.group))?;
    // the user could not make it in a directory of root's; if this fails, using it will say why
    let _ = prepare_work_dir(&env.path(config.work_dir()), user.uid, gid);
    let refused = |source| IdentityError::Refused { user: user.name.clone(), source };
    if !user.uid.is_root() {
        setgroups(&groups(&user, gid).map_err(refused)?).map_err(refused)?;
    }
    setgid(gid).map_err(refused)?;
    setuid(user.uid).map_err(refused)
}

/// Does something with the configured user's rights, for a process of root's that has other work too.
pub(crate) fn acting<T>(config: &Config, work: impl FnOnce() -> T) -> Result<T, IdentityError> {
    if !Uid::effective().is_root() {
        return Ok(work());
    }
    let (user, gid) = resolve(&config.user, &config.group)?;
    let refused = |source| IdentityError::Refused { user: user.name.clone(), source };
    let before = Own { groups: getgroups().map_err(refused)?, gid: Gid::effective() };
    setgroups(&groups(&user, gid).map_err(refused)?).map_err(refused)?;
    setegid(gid).map_err(refused)?;
    seteuid(user.uid).map_err(refused)?;
    let done = work();
    before.restore().map_err(refused)?;
    Ok(done)
}

/// The groups of a user who runs with the group `gid`. Its own group is among them: the files that it may read, such
/// as its console's configuration, are often that group's.
fn groups(user: &User, gid: Gid) -> nix::Result<Vec<Gid>> {
    let name = CString::new(user.name.as_str()).map_err(|_| nix::Error::EINVAL)?;
    let mut groups = getgrouplist(&name, user.gid)?;
    if !groups.contains(&gid) {
        groups.push(gid);
    }
    Ok(groups)
}

/// What root was before it acted as another user.
struct Own {
    groups: Vec<Gid>,
    gid: Gid,
}

impl Own {
    fn restore(&self) -> nix::Result<()> {
        seteuid(Uid::from_raw(0))?;
        setegid(self.gid)?;
        setgroups(&self.groups)
    }
}

/// Makes the work directory for the user, where it is missing.
fn prepare_work_dir(path: &Path, user: Uid, group: Gid) -> io::Result<()> {
    DirBuilder::new().mode(0o750).create(path)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let handle = open(path, flags, Mode::empty())?;
    fchown(handle, Some(user.as_raw()), Some(group.as_raw()))
}

/// Finds the accounts. Only the default group may be missing: the user's own then takes its place.
pub(crate) fn resolve(user: &Account, group: &Account) -> Result<(User, Gid), IdentityError> {
    let name = &user.name;
    let by_number = || name.parse().ok().and_then(|uid| User::from_uid(Uid::from_raw(uid)).ok().flatten());
    let found = User::from_name(name).ok().flatten().or_else(by_number);
    let found = found.ok_or_else(|| IdentityError::UnknownUser { name: name.clone() })?;
    let name = &group.name;
    let by_number = || name.parse().ok().and_then(|gid| Group::from_gid(Gid::from_raw(gid)).ok().flatten());
    let gid = match Group::from_name(name).ok().flatten().or_else(by_number) {
        Some(group) => group.gid,
        None if group.explicit => return Err(IdentityError::UnknownGroup { name: name.clone() }),
        None => found.gid,
    };
    Ok((found, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, explicit: bool) -> Account {
        Account { name: name.to_owned(), explicit }
    }

    #[test]
    fn a_user_keeps_its_own_group() {
        let daemon = User::from_name("daemon").expect("looks up").expect("every system has it");
        let other = Gid::from_raw(65_533);
        let groups = groups(&daemon, other).expect("groups");
        assert!(groups.contains(&daemon.gid) && groups.contains(&other), "{groups:?}");
    }

    #[test]
    fn unknown_names_are_errors_and_only_the_default_group_may_be_missing() {
        let root = account("root", true);
        let nobody = account("no-such-name-here", true);
        assert!(matches!(resolve(&nobody, &root), Err(IdentityError::UnknownUser { .. })));
        assert!(matches!(resolve(&root, &nobody), Err(IdentityError::UnknownGroup { .. })));
        let (user, gid) = resolve(&root, &account("no-such-name-here", false)).expect("falls back");
        assert_eq!((user.uid.as_raw(), gid), (0, user.gid));
    }
}
