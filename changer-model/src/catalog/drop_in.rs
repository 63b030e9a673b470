//! Finishing what a storage daemon's question began, on a site where nobody runs `refresh`.
//!
//! A site that took over from vchanger calls the changer from bacula-sd alone, and `update slots` from a job or by hand.
//! What has to be said to the Director besides can't be said within such a call: it would wait for the storage daemon,
//! which waits for the call. So the call leaves a `refresh` behind that runs on its own.

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::refresh::{RefreshError, Telling};
use crate::changer::opened::{Changer, ChangerError};
use crate::changer::scope::Scan;
use crate::files::lock::LockError;
use crate::system::isolation::{Life, isolate};
use crate::system::presence::{Access, Presence};

/// How long a refresh that nobody waits for waits for another one before it leaves the work to that.
const PATIENCE: Duration = Duration::from_secs(2);

/// Starts `program CONFIG refresh --if-owed` for [`Outcome::refresh_due`](crate::Outcome::refresh_due) and does not wait
/// for it. `program` is a changer program, such as the caller's own.
///
/// It runs in a session of its own and has none of the caller's descriptors: bacula-sd reads its changer's output to
/// the end, and would wait for it.
///
/// # Errors
/// When it cannot be started.
pub fn start_refresh(program: &Path, config: &Path) -> io::Result<()> {
    let mut command = Command::new(program);
    command.arg(std::path::absolute(config)?).args(["refresh", "--if-owed"]).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    isolate(&mut command, Life::Own);
    command.spawn().map(drop)
}

impl Changer {
    /// Whether Bacula is owed something by `refresh` and nobody is at it.
    ///
    /// Labels don't count: who makes volumes has them labelled, and the storage daemon may be asked to do it just now.
    pub(crate) fn is_refresh_due(&self) -> Result<bool, ChangerError> {
        if self.console().is_none() {
            return Ok(false);
        }
        let view = self.look()?;
        // looking into them may mount them, which no question does
        let is_unseen = view.presences.iter().any(|(id, presence)| {
            let hidden = matches!(
                presence,
                Presence::Unknown { .. } | Presence::Present { access: Access::Locked, .. }
            );
            hidden && view.state.magazines.get(id).is_none_or(|record| record.volumes_file.is_none())
        });
        let owed = is_unseen || !self.debt(&view)?.changed.is_empty();
        Ok(owed && !self.is_being_told()?)
    }

    /// Does what is owed, unless another refresh is at it; the other one sees what there is to do.
    pub(crate) fn refresh_if_owed(&self) -> Result<(), RefreshError> {
        self.update(Scan::Mounted)?;
        let telling = Telling { forced: false, label: false, checked: false, patience: PATIENCE };
        match self.tell_bacula(telling) {
            Err(RefreshError::Changer(ChangerError::Lock(LockError::Busy { .. }))) => Ok(()),
            told => told,
        }
    }
}
