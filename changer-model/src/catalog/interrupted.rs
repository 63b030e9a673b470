//! Jobs whose magazine was pulled while they wrote to it, and their end.
//!
//! When a write fails, the storage daemon closes the volume and asks the Director for another; if none can be written,
//! the job waits. Once any magazine is plugged it goes on there and ends well, though what it had written last to the
//! magazine that was pulled was in memory only and is lost: the volume is shorter than the catalog says, and nobody is
//! told. So the changer notes each drive whose volume went away, asks the storage daemon once whether a job was writing
//! there, and fails that job's next load. A job that failed can be run again; the Director does so by itself where it is
//! told to (`Reschedule On Error`).

use super::refresh::RefreshError;
use crate::changer::commands::CommandError;
use crate::changer::opened::{Changer, ChangerError};
use crate::director::console::Console;
use crate::director::running::{self, StorageJob};
use crate::library::identifiers::DriveIndex;
use crate::library::notice::Notice;
use crate::library::state::Interrupted;

impl Changer {
    /// Finds out which of the volumes that went away out of a drive were being written, and forgets the others. The
    /// storage daemon looks at no volume for it.
    pub(crate) fn find_interrupted(&self, console: &Console) -> Result<(), RefreshError> {
        if self.store.drives().map_err(ChangerError::from)?.interrupted.is_empty() {
            return Ok(());
        }
        let output = console.run(&running::storage(self.config.storage()), self.console_limit(0))?;
        let Some(list) = running::lists(&output).first().copied() else { return Ok(()) };
        let work_dir = self.config.work_dir();
        let real = self.env.path(work_dir).canonicalize().unwrap_or_default();
        let jobs = running::storage_jobs(list);
        let writes = |job: &StorageJob<'_>, drive: DriveIndex| {
            let at = job.device.and_then(|device| running::drive_of(device, &[work_dir, &real]));
            !job.reading && at == Some(drive)
        };
        let victim = |drive: DriveIndex, interrupted: &Interrupted| {
            let is_victim = |job: &&StorageJob<'_>| match interrupted.job {
                Some(known) => job.id == known,
                // a job that wrote nothing loses nothing, and at another volume it is once this one was flushed
                None => job.bytes > 0 && job.volume.is_none_or(|name| name == interrupted.volume.as_str()),
            };
            jobs.iter().filter(|job| writes(job, drive)).find(is_victim).map(|job| job.id)
        };
        let _lock = self.lock()?;
        let before = self.store.drives().map_err(ChangerError::from)?;
        let mut drives = before.clone();
        drives.interrupted.retain(|drive, interrupted| {
            interrupted.job = victim(*drive, interrupted);
            interrupted.job.is_some()
        });
        if drives != before {
            self.write_drives(&drives)?;
        }
        Ok(())
    }

    /// Fails where the job that loads a drive is one that must not go on; once, for that ends it.
    pub(crate) fn end_interrupted(&self, drive: DriveIndex) -> Result<(), CommandError> {
        let mut drives = self.store.drives().map_err(ChangerError::from)?;
        let Some(Interrupted { volume, job, .. }) = drives.interrupted.remove(&drive) else {
            return Ok(());
        };
        self.write_drives(&drives)?;
        job.map_or(Ok(()), |job| Err(CommandError::Interrupted { volume, job }))
    }

    /// The jobs that wait for a drive and will end there.
    pub(crate) fn interrupted_jobs(&self) -> Result<Vec<Notice>, ChangerError> {
        let drives = self.store.drives()?;
        let notice = |interrupted: Interrupted| {
            let Interrupted { magazine, volume, job } = interrupted;
            job.map(|job| Notice {
                magazine: Some(magazine.to_string()),
                message: format!(
                    "job {job} was writing to volume {volume} when the drive was pulled; it fails at the next drive"
                ),
                remedy: "plug a drive in; then run the job again, unless Bacula does so by itself \
                         (`Reschedule On Error`)"
                    .to_owned(),
            })
        };
        Ok(drives.interrupted.into_values().filter_map(notice).collect())
    }
}
