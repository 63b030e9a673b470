//! The machine that a configuration is installed on, below an injected root.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bacula_conf::{Account, Entry, Host, Mount, Program};
use mount_by_uuid::{MountTable, System};
use nix::sys::statvfs::statvfs;

use super::live;
use crate::base::paths::Root;

/// Where packages and administrators put units.
const UNITS: [&str; 3] = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// The machine below a root.
pub(crate) struct Machine<'a> {
    root: &'a Root,
    mounts: Option<MountTable>,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        Self { root, mounts: MountTable::read(&System::new(root.kernel())).ok() }
    }

    /// Where a path is to be looked at; none where looking would mount a drive, below an automount point.
    fn place(&self, path: &Path) -> Option<PathBuf> {
        let place = self.root.join(path);
        let asks = |mounts: &MountTable| {
            mounts
                .containing(&place)
                .is_some_and(|mount| mount.fs_type == "autofs" && mount.mount_point != place)
        };
        (!self.mounts.as_ref().is_some_and(asks)).then_some(place)
    }

    fn read(&self, path: impl AsRef<Path>) -> String {
        live::text(&self.root.join(path)).unwrap_or_default()
    }

    /// What the daemon's unit says, the last word last.
    fn unit(&self, names: &[&str]) -> Vec<(String, String)> {
        let units = || {
            UNITS
                .iter()
                .flat_map(|directory| names.iter().map(move |name| format!("{directory}/{name}.service")))
        };
        let unit = units().map(|path| self.read(path)).find(|text| !text.is_empty()).unwrap_or_default();
        let dropped =
            units().flat_map(|path| self.list(Path::new(&format!("{path}.d")))).map(|path| self.read(path));
        std::iter::once(unit).chain(dropped).flat_map(|text| settings(&text)).collect()
    }

    fn user(&self, name: &str) -> Option<(u32, u32)> {
        let passwd = self.read("/etc/passwd");
        passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
            match fields.as_slice() {
                [user, _, uid, gid, ..] if *user == name || *uid == name => {
                    Some((uid.parse().ok()?, gid.parse().ok()?))
                }
                _ => None,
            }
        })
    }

    fn group(&self, name: &str) -> Option<u32> {
        let groups = self.read("/etc/group");
        groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).find_map(|fields| {
            match fields.as_slice() {
                [group, _, gid, ..] if *group == name || *gid == name => gid.parse().ok(),
                _ => None,
            }
        })
    }

    /// The groups that list a user as a member.
    fn memberships(&self, user: &str) -> Vec<u32> {
        let groups = self.read("/etc/group");
        let member = |line: &str| {
            let fields: Vec<_> = line.split(':').collect();
            let named = fields.get(3)?.split(',').any(|member| member == user);
            named.then(|| fields.get(2)?.parse().ok()).flatten()
        };
        groups.lines().filter_map(member).collect()
    }
}

fn settings(unit: &str) -> Vec<(String, String)> {
    let lines = unit.lines().filter_map(|line| line.trim().split_once('='));
    lines.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// How many blocks a filesystem keeps for root. What ext4 keeps for itself, whatever is set by mkfs or tune2fs, is not
/// for root: 2 percent, but no more than 4096 blocks (`ext4_calculate_resv_clusters`).
fn kept_for_root(fs_type: &str, blocks: u64, free: u64, available: u64) -> u64 {
    let own = if fs_type == "ext4" { (blocks / 50).min(4096) } else { 0 };
    free.saturating_sub(available).saturating_sub(own)
}

impl Host for Machine<'_> {
    fn entry(&self, path: &Path) -> Option<Entry> {
        let metadata = std::fs::metadata(self.place(path)?).ok()?;
        Some(Entry {
            directory: metadata.is_dir(),
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        })
    }

    fn account(&self, program: Program) -> Option<Account> {
        let (names, user, group): (&[&str], _, _) = match program {
            Program::Director => {
                (&["bacula-director", "bacula-dir", "bareos-director", "bareos-dir"], "bacula", "bacula")
            }
            Program::Storage => (&["bacula-sd", "bareos-storage", "bareos-sd"], "bacula", "tape"),
            _ => return None,
        };
        let unit = self.unit(names);
        let last = |key: &str| unit.iter().rfind(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let user = last("User").unwrap_or(user);
        let (uid, own) = self.user(user)?;
        let group = last("Group").or((!unit.iter().any(|(key, _)| key == "User")).then_some(group));
        let mut gids = BTreeSet::from([group.and_then(|group| self.group(group)).unwrap_or(own)]);
        gids.extend(self.memberships(user));
        let more = unit
            .iter()
            .filter(|(key, _)| key == "SupplementaryGroups")
            .flat_map(|(_, value)| value.split_whitespace());
        gids.extend(more.filter_map(|group| self.group(group)));
        Some(Account { user: user.to_owned(), uid, gids: gids.into_iter().collect() })
    }

    fn text(&self, path: &Path) -> Option<String> {
        live::text(&self.place(path)?).ok()
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        let entries =
            self.place(directory).and_then(|place| place.read_dir().ok()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| directory.join(entry.file_name())).collect();
        names.sort();
        names
    }

    fn mount(&self, path: &Path) -> Option<Mount> {
        let place = self.root.join(path);
        let found = self.mounts.as_ref()?.at(&place)?;
        let fs_type = found.fs_type.clone();
        if fs_type == "autofs" {
            // Asking further would mount it.
            return Some(Mount { fs_type, bytes: 0, reserved: 0 });
        }
        let room = statvfs(&place).ok()?;
        let unit = room.fragment_size();
        let reserved = kept_for_root(&fs_type, room.blocks(), room.blocks_free(), room.blocks_available());
        Some(Mount { fs_type, bytes: room.blocks() * unit, reserved: reserved * unit })
    }

    /// Counts only what is mounted anyway: no question of a check wakes a locked drive.
    fn volumes(&self, magazine: &Path) -> Option<u32> {
        self.mount(magazine).filter(|mount| mount.fs_type != "autofs")?;
        let entries = self.root.join(magazine).read_dir().ok()?.flatten();
        let volumes = entries.filter(|entry| {
            entry.file_type().is_ok_and(|kind| kind.is_file())
                && !entry.file_name().to_string_lossy().starts_with('.')
        });
        u32::try_from(volumes.count()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ext4_keeps_for_itself_is_not_kept_for_root() {
        // 384 MiB in blocks of 4 KiB, made with -m 0: 7864 KiB are kept.
        assert_eq!(kept_for_root("ext4", 98_304, 90_000, 90_000 - 1966), 0);
        assert_eq!(kept_for_root("ext4", 244_000_000, 9_000_000, 9_000_000 - 4096), 0);
        assert_eq!(kept_for_root("ext4", 98_304, 90_000, 90_000 - 1966 - 4915), 4915);
        assert_eq!(kept_for_root("ext3", 98_304, 90_000, 90_000 - 4915), 4915);
        assert_eq!(kept_for_root("xfs", 98_304, 90_000, 90_000), 0);
    }

    #[test]
    fn below_an_automount_point_only_what_is_mounted_is_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        for path in ["/proc/self", "/sys/block", "/srv/offsite/locked", "/srv/offsite/open"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
            std::fs::write(root.join(path).join("file"), "text").unwrap();
        }
        let at = root.join("/srv/offsite").display().to_string();
        let table = format!(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / {at} rw - autofs offsite rw\n\
             3 2 8:17 / {at}/open rw - ext4 /dev/sdb1 rw\n"
        );
        std::fs::write(root.join("/proc/self/mountinfo"), table).unwrap();
        let machine = Machine::new(&root);
        let seen = |path: &str| {
            let (directory, file) = (Path::new(path), Path::new(path).join("file"));
            [
                machine.entry(&file).is_some(),
                machine.text(&file).is_some(),
                !machine.list(directory).is_empty(),
            ]
        };
        assert_eq!(seen("/srv/offsite/open"), [true; 3]);
        assert_eq!(seen("/srv/offsite/locked"), [false; 3]);
        assert!(machine.entry(Path::new("/srv/offsite")).is_some());
        assert_eq!(machine.list(Path::new("/srv/offsite")).len(), 2);
    }

    #[test]
    fn the_unit_tells_as_whom_a_daemon_runs() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("/etc/passwd", "root:x:0:0::/:\nbacula:x:105:110::/:\nother:x:7:8::/:\n");
        write("/etc/group", "root:x:0:\nbacula:x:110:\ntape:x:26:\ndisk:x:6:x,bacula\nother:x:8:\n");
        let machine = Machine::new(&root);
        let account = |program| machine.account(program).unwrap();
        assert_eq!((account(Program::Director).uid, account(Program::Director).gids), (105, vec![6, 110]));
        assert_eq!(account(Program::Storage).gids, [6, 26]);
        write(
            "/lib/systemd/system/bacula-sd.service",
            "[Service]\nUser=bacula\nGroup=tape\nSupplementaryGroups=bacula\n",
        );
        assert_eq!(account(Program::Storage).gids, [6, 26, 110]);
        write("/etc/systemd/system/bacula-sd.service.d/own.conf", "[Service]\nUser=other\nGroup=other\n");
        let account = account(Program::Storage);
        assert_eq!((account.user.as_str(), account.uid, account.gids), ("other", 7, vec![8, 110]));
        assert_eq!(machine.account(Program::Client), None);
    }
}
