//! The account that Bacula's storage daemon and its changer run under.

use std::collections::BTreeSet;
use std::ffi::CString;

use nix::unistd::{Gid, Group, User, getgrouplist};

use super::description::Site;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::program::account::Account;

/// Looks up the user that site.toml names, with the groups that a unit of Bacula's has as well: the user's own, and
/// those of Bacula's files and of its devices.
pub fn bacula(site: &Site) -> Result<Account, Failure> {
    let accounts = &site.bacula.accounts;
    let name = accounts.user.as_str();
    let user = User::from_name(name).or_fail(format!("cannot look the user {name} up"))?.ok_or_else(|| {
        Failure::new(Exit::Failed, format!("there is no user {name}"))
            .hint("install Bacula's storage daemon (apt-get install bacula-sd), or set bacula.accounts.user in site.toml")
    })?;
    let group = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid);
    let own = CString::new(name).ok().and_then(|name| getgrouplist(&name, user.gid).ok()).unwrap_or_default();
    let named = [group(accounts.group.as_str()), group(accounts.storage_group.as_str())];
    let groups: BTreeSet<u32> =
        own.into_iter().chain([user.gid]).chain(named.into_iter().flatten()).map(Gid::as_raw).collect();
    Ok(Account {
        uid: user.uid.as_raw(),
        gid: group(accounts.storage_group.as_str()).unwrap_or(user.gid).as_raw(),
        groups: groups.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_is_not_there_is_named_with_the_remedy() {
        let toml = "[bacula.accounts]\nuser = \"no-such\"\n";
        let failure = bacula(&Site::parse(toml, "site.toml".as_ref()).unwrap()).unwrap_err();
        assert!(failure.message().contains("no-such"), "{failure}");
        assert!(failure.remedy().unwrap().contains("bacula.accounts.user"), "{failure}");
    }

    #[test]
    fn groups_that_this_machine_lacks_are_left_out() {
        let toml = "[bacula.accounts]\nuser = \"daemon\"\ngroup = \"no-such\"\nstorage_group = \"no-such\"\n";
        let account = bacula(&Site::parse(toml, "site.toml".as_ref()).unwrap()).unwrap();
        assert_eq!((account.uid, account.gid), (1, 1));
        assert!(account.groups.contains(&1));
    }
}
