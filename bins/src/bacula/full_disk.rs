//! A full disk under Bacula's or the changer's files: the cause of what else looks like a Director that doesn't run.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::base::paths::Root;
use crate::site::description::Site;

/// With less room than this the Director's database can't note anything, in bytes.
const LEAST_ROOM: u64 = 64 << 10;

/// The first of the directories that Bacula and the changer write to whose filesystem is full.
pub fn find(root: &Root, site: &Site) -> Option<PathBuf> {
    let paths = &site.bacula.paths;
    let log = site.bacula.messages.log.parent().unwrap_or(Path::new("/"));
    let changer = site.changer.work_dir();
    // Debian's database server, for a catalog that is not SQLite's.
    let database = Path::new("/var/lib/postgresql");
    let written = [paths.working.as_path(), &changer, log, database];
    written.into_iter().map(|path| root.join(path)).find(|path| is_full(path))
}

/// A failure of Bacula's or the changer's, with the disk that is the cause of it if one is full.
pub fn explain(message: &str, root: &Root, site: &Site) -> String {
    match find(root, site) {
        Some(path) => format!("{message} (the filesystem of {} is full)", path.display()),
        None => message.to_owned(),
    }
}

fn is_full(path: &Path) -> bool {
    statvfs(path).is_ok_and(|room| {
        let bytes = room.blocks_available().saturating_mul(room.fragment_size());
        // a filesystem that counts no files has as many as it likes
        bytes < LEAST_ROOM || room.files() > 0 && room.files_available() == 0
    })
}
