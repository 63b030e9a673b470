//! Flushing a drive as soon as a program has closed a file that it wrote.
//!
//! Bacula reports a job as done when it has closed the last volume. From then on the drive may be pulled, so what was
//! written must not wait in memory until the kernel or the idle time gets round to it. The storage daemon's own
//! `Sync On Close` does the same where the configuration is ours; this serves every other one too.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use mount_by_uuid::System;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::drive::Drive;
use super::journal::{say, warn};
use super::open;
use crate::base::paths::Root;

/// Watches mounted drives. A watch keeps nothing mounted, and goes with the mount.
#[derive(Debug, Clone)]
pub(super) struct Flusher(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    inotify: Inotify,
    watched: Mutex<HashMap<WatchDescriptor, (PathBuf, Arc<Drive>)>>,
}

/// Starts the thread that flushes. Where the kernel has no watch left for it, drives are flushed when they are idle.
pub(super) fn start(root: Root, system: System) -> Flusher {
    let inotify = match Inotify::init(InitFlags::IN_CLOEXEC) {
        Ok(inotify) => inotify,
        Err(error) => {
            warn(&format!(
                "drives are flushed only when they are idle, since files can't be watched: {error} (enlarge \
                 fs.inotify.max_user_instances with sysctl, then: systemctl restart offsited)"
            ));
            return Flusher(None);
        }
    };
    let shared = Arc::new(Shared { inotify, watched: Mutex::default() });
    let flusher = Flusher(Some(Arc::clone(&shared)));
    std::thread::spawn(move || {
        loop {
            match shared.inotify.read_events() {
                Ok(events) => {
                    let of = |mask: AddWatchFlags| {
                        events.iter().filter(move |e| e.mask.contains(mask)).map(|e| e.wd)
                    };
                    let lost = of(AddWatchFlags::IN_Q_OVERFLOW).next().is_some();
                    // One flush serves all files of a drive that were closed meanwhile.
                    let closed: HashSet<_> = of(AddWatchFlags::IN_CLOSE_WRITE).collect();
                    for (path, drive) in shared.drives(|d| lost || closed.contains(d)) {
                        if let Err(error) = system.flush(&path) {
                            open::not_flushed(&root, &system, &drive, &error);
                        }
                    }
                    shared.forget(of(AddWatchFlags::IN_IGNORED));
                }
                Err(Errno::EINTR) => {}
                Err(error) => return say(&format!("files are not watched any more: {error}")),
            }
        }
    });
    flusher
}

impl Flusher {
    /// Flushes the drive mounted at `at` whenever a file directly in it was written and closed, while it is mounted.
    pub(super) fn watch(&self, at: &Path, drive: &Arc<Drive>) {
        let Some(shared) = &self.0 else { return };
        let mut watched = shared.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.inotify.add_watch(at, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_ONLYDIR) {
            Ok(descriptor) => {
                watched.insert(descriptor, (at.to_owned(), Arc::clone(drive)));
            }
            Err(error) => say(&format!("{} is flushed only when it is idle: {error}", at.display())),
        }
    }
}

impl Shared {
    fn drives(&self, wanted: impl Fn(&WatchDescriptor) -> bool) -> Vec<(PathBuf, Arc<Drive>)> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.iter().filter(|(d, _)| wanted(d)).map(|(_, drive)| drive.clone()).collect()
    }

    fn forget(&self, descriptors: impl Iterator<Item = WatchDescriptor>) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        descriptors.for_each(|d| drop(watched.remove(&d)));
    }
}
