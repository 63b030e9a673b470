//! An automount as its owner has it.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::unistd::getpgrp;

use super::attach::{self, AutofsError};
use super::errors::{NameError, StopError};
use super::keeper::Keeper;
use super::link::Link;
use super::locking::lock;
use super::names::Want;
use super::packet;
use super::serve::{Service, Threads};
use super::settings::{Access, AutomountSettings, Stop};
use super::teardown::unmount_root;
use crate::device::system::System;
use crate::mount::detach::detach;

/// A directory whose names are mounted when someone looks at them, and unmounted when nobody has for a while.
///
/// The kernel knows the serving process by its process group: members of that group never trigger a mount, they see the
/// plain directory. So the process needs a group of its own, as a service has, and programs that it starts to use the
/// mounts must be given another group. It must not change its group after [`Automount::mount`].
///
/// A process that dies leaves the mounts below in place. Those who were waiting for a name then wait on, at least until
/// the next [`Automount::mount`] on the same directory takes over, and with many kernels for ever; later ones fail at once.
/// A process that may die holds a [`Relay`](crate::Relay) in a parent, and serves with [`Automount::join`].
///
/// Dropping an `Automount` stops it: with [`Stop::KeepMounts`] if anything is mounted below it, else with
/// [`Stop::Unmount`]. One that was taken away ([`Automount::wait`]) is left alone.
pub struct Automount {
    pub(super) system: System,
    service: Arc<Service>,
    pub(super) group: nix::unistd::Pid,
    threads: Mutex<Option<Threads>>,
    pub(super) pipe: Mutex<Option<OwnedFd>>,
}

impl Automount {
    /// Mounts an automount on the directory `dir` of the running system with the usual settings
    /// ([`AutomountSettings::new`]), or takes over the one that an earlier process left there.
    ///
    /// Whatever is mounted below an automount taken over stays mounted, see [`Automount::mounted`]. Requests are
    /// answered from [`Automount::serve`] on. Needs `CAP_SYS_ADMIN`; the mount is propagated as the directory's
    /// surroundings are.
    ///
    /// # Errors
    /// [`AutofsError::InUse`] if a living process serves it.
    pub fn mount(dir: &Path, idle: Duration) -> Result<Automount, AutofsError> {
        Automount::mount_with(&System::new(Path::new("/")), dir, &AutomountSettings::new(idle))
    }

    /// Does the same with other settings; /proc and /dev are those of `system`.
    ///
    /// # Errors
    /// See [`Automount::mount`].
    pub fn mount_with(
        system: &System,
        dir: &Path,
        settings: &AutomountSettings,
    ) -> Result<Automount, AutofsError> {
        let attached = attach::attach(system, dir, &settings.source)?;
        Automount::new(system, attached, None, settings)
    }

    /// Takes part in the automount that the parent process keeps by a [`Relay`](crate::Relay); `link` comes from [`Relay::connect`](crate::Relay::connect).
    ///
    /// Whatever is mounted below it stays mounted. [`Automount::shutdown`] leaves the automount itself to the relay,
    /// and what it doesn't unmount can be taken over by the next server. When the relay ends, so does this, see
    /// [`Automount::wait`]; those who wait get `EAGAIN`.
    ///
    /// # Errors
    /// [`AutofsError::NotRelayed`] if the relay didn't mount it with the same source, [`AutofsError::ProcessGroup`] if this
    /// process is not in the relay's process group.
    pub fn join(
        system: &System,
        dir: &Path,
        settings: &AutomountSettings,
        link: OwnedFd,
    ) -> Result<Automount, AutofsError> {
        let (attached, link) = attach::join(system, dir, &settings.source, link)?;
        Automount::new(system, attached, Some(link), settings)
    }

    pub(super) fn new(
        system: &System,
        attached: attach::Attached,
        link: Option<Link>,
        settings: &AutomountSettings,
    ) -> Result<Automount, AutofsError> {
        let (service, pipe) = Service::new(attached, link, system.clone(), settings.answer_within)?;
        let automount = Automount {
            system: system.clone(),
            group: getpgrp(),
            service: Arc::new(service),
            threads: Mutex::new(None),
            pipe: Mutex::new(Some(pipe)),
        };
        automount.set_idle(settings.idle)?;
        Ok(automount)
    }

    /// Sets how long a name must be unused before it is unmounted from now on, see [`AutomountSettings::idle`].
    ///
    /// # Errors
    /// [`AutofsError::TakeOver`] if the kernel refuses.
    pub fn set_idle(&self, idle: Duration) -> Result<(), AutofsError> {
        let seconds = idle.as_secs().saturating_add(u64::from(idle.subsec_nanos() > 0));
        let set = self.service.kernel.set_timeout(u32::try_from(seconds).unwrap_or(u32::MAX));
        set.map_err(|errno| AutofsError::TakeOver { dir: self.dir().to_owned(), source: errno.into() })
    }

    /// Sets who may look for names; until then it is root's with mode 0755.
    ///
    /// # Errors
    /// [`AutofsError::Access`] if the kernel refuses.
    pub fn set_access(&self, access: &Access) -> Result<(), AutofsError> {
        let set = self.service.kernel.set_access(access);
        set.map_err(|errno| AutofsError::Access { dir: self.dir().to_owned(), source: errno.into() })
    }

    /// The directory, with symbolic links resolved.
    pub fn dir(&self) -> &Path {
        &self.service.dir
    }

    /// Answers requests from now on, in threads of its own, until [`Automount::shutdown`].
    ///
    /// Each name is mounted in a thread of its own, up to 64 at a time. While nothing is mounted and nobody asks, no
    /// thread wakes up, except that the mount table is read when anybody mounts or unmounts anything, since that may be
    /// this automount.
    ///
    /// # Errors
    /// [`AutofsError::NotIdle`] the second time.
    pub fn serve(&self, keeper: Arc<dyn Keeper>) -> Result<(), AutofsError> {
        let dir = || self.dir().to_owned();
        if getpgrp() != self.group {
            return Err(AutofsError::ProcessGroup { dir: dir() });
        }
        let pipe = lock(&self.pipe).take().ok_or_else(|| AutofsError::NotIdle { dir: dir() })?;
        let threads = self.service.start(pipe, keeper);
        let threads =
            threads.map_err(|source| AutofsError::Resources { dir: dir(), what: "threads", source })?;
        *lock(&self.threads) = Some(threads);
        Ok(())
    }

    /// Waits until the automount is stopped. False if it was not stopped by [`Automount::shutdown`] but taken away:
    /// someone unmounted it or made it catatonic. Then drop it and start anew with [`Automount::mount`].
    pub fn wait(&self) -> bool {
        self.service.wait()
    }

    /// Says something to the owner of the [`Relay`](crate::Relay), which gets it as [`Passed::Said`](crate::Passed::Said). Without a relay nothing happens.
    pub fn tell_relay(&self, note: u32) {
        self.service.link.iter().for_each(|link| link.note(note));
    }

    /// Lists the names that are mounted.
    pub fn mounted(&self) -> Vec<OsString> {
        self.service.mounted()
    }

    /// Mounts a name without anybody having looked at it, and waits until that is done.
    ///
    /// It is not unmounted before the idle time is over. Must not be called by the [`Keeper`].
    ///
    /// # Errors
    /// [`NameError::Refused`] with the keeper's refusal.
    pub fn touch_mount(&self, name: impl AsRef<OsStr>) -> Result<(), NameError> {
        self.ask(name.as_ref(), Want::Mounted)
    }

    /// Unmounts a name at once by [`Keeper::unmount`], which flushes it first, and waits until that is done.
    ///
    /// A name that isn't mounted is left alone, without error. Whoever looks at the name afterwards has it mounted
    /// again: for a drive that is to stay out, the keeper must refuse. Must not be called by the [`Keeper`].
    ///
    /// # Errors
    /// [`NameError::Refused`] with the keeper's refusal, for instance [`Refusal::Busy`](crate::Refusal::Busy).
    pub fn unmount_now(&self, name: impl AsRef<OsStr>) -> Result<(), NameError> {
        self.ask(name.as_ref(), Want::Unmounted)
    }

    pub(super) fn ask(&self, name: &OsStr, want: Want) -> Result<(), NameError> {
        if !packet::is_name(name) {
            return Err(NameError::Name { name: name.to_owned() });
        }
        match self.service.ask_and_wait(name, want) {
            Some(Ok(())) => Ok(()),
            Some(Err(source)) => Err(NameError::Refused { name: name.to_owned(), source }),
            None => Err(NameError::NotServed),
        }
    }

    /// Tears a name out of the directory tree because its device is gone: lazily unmounts every mount of that device,
    /// bind mounts elsewhere included, and returns where they were.
    ///
    /// The keeper isn't asked and work on the name that hangs isn't waited for, so this ends at once. Whoever waits for
    /// the name gets `ENOENT`.
    ///
    /// # Errors
    /// [`NameError::Detach`].
    pub fn detach(&self, name: impl AsRef<OsStr>) -> Result<Vec<PathBuf>, NameError> {
        let name = name.as_ref();
        if !packet::is_name(name) {
            return Err(NameError::Name { name: name.to_owned() });
        }
        let at = self.dir().join(name);
        let detached = self.service.tear_away(name, || detach(&self.system, &at));
        detached.map_err(|source| NameError::Detach { name: name.to_owned(), source })
    }

    /// Stops answering requests and leaves the mounts as `stop` says.
    ///
    /// Waits for work of the keeper that is under way, but no longer than the settings' `answer_within`.
    ///
    /// # Errors
    /// [`StopError::Busy`] and [`StopError::Pending`], after which everything goes on as before.
    pub fn shutdown(&self, stop: Stop) -> Result<(), StopError> {
        let dir = || self.dir().to_owned();
        let Some(before) = self.service.refuse_requests() else { return Ok(()) };
        let deadline = Instant::now() + self.service.answer_within;
        let pending = self.service.wait_for_jobs(deadline);
        if !pending.is_empty() && stop == Stop::Unmount {
            self.service.go_on(before);
            return Err(StopError::Pending { dir: dir(), names: pending });
        }
        if stop == Stop::Unmount {
            let names = self.service.unmount_all();
            if !names.is_empty() {
                self.service.go_on(before);
                return Err(StopError::Busy { dir: dir(), names });
            }
        }
        self.stop_threads();
        if self.service.link.is_some() {
            return Ok(());
        }
        let catatonic = self.service.kernel.catatonic();
        catatonic.map_err(|errno| StopError::Kernel { dir: dir(), source: errno.into() })?;
        match stop {
            Stop::KeepMounts => Ok(()),
            Stop::Unmount => unmount_root(&self.system, self.dir(), self.service.kernel.devnum())
                .map_err(|source| StopError::Unmount { source }),
        }
    }

    fn stop_threads(&self) {
        self.service.stop();
        let threads = lock(&self.threads).take();
        if let Some(Threads { expirer, reader }) = threads {
            // The threads only end by returning; a panic in one has been reported by the panic hook. The expirer may
            // still wait for an answer to its last request, which takes the reader.
            let _ = expirer.join();
            self.service.stop_reader();
            let _ = reader.join();
        }
    }
}

impl Drop for Automount {
    fn drop(&mut self) {
        if self.service.is_lost() {
            // It may be someone else's by now.
            return self.stop_threads();
        }
        let stop = if self.mounted().is_empty() { Stop::Unmount } else { Stop::KeepMounts };
        // There is nobody to tell; whatever remains can be taken over by the next `Automount::mount`.
        let _ = self.shutdown(stop);
    }
}

impl std::fmt::Debug for Automount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Automount").field("dir", &self.dir()).finish_non_exhaustive()
    }
}

/// An entry point for a fuzzer.
#[cfg(fuzzing)]
pub(crate) fn fuzz_packet(bytes: &[u8]) {
    let _either = packet::Packet::decode(bytes);
}
