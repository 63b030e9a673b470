//! Keeping Bacula told: whenever drives come or go, the changer looks at its magazines and updates the catalog.
//!
//! The work is done by the changer's `refresh` in a process and a session of its own. It runs as Bacula's
//! user, so what lies on a drive is never read with root's rights, and outside the daemon's process group,
//! so that its looking into a magazine makes the kernel ask for the mount.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::fleet::Fleet;
use super::journal::say;
use crate::bacula::as_bacula::Asker;
use crate::bacula::full_disk;

/// Events come in bursts; the first update waits this long for the rest of them.
const SETTLE: Duration = Duration::from_millis(300);

/// The pauses between attempts grow from the first to the second of these.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// While nothing happens the catalog is looked at this often: a job that was under way when its drive was pulled may
/// have opened a volume that is away.
const LOOK: Duration = Duration::from_mins(10);

/// Starts the thread that tells Bacula.
pub(super) fn start(fleet: Arc<Fleet>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut pause, mut said) = (LOOK, None);
        while fleet.bell.wait(pause) {
            std::thread::sleep(SETTLE);
            if fleet.bell.stopped() {
                return;
            }
            let result = tell(&fleet);
            if fleet.bell.stopped() {
                return;
            }
            pause = match &result {
                Ok(()) => LOOK,
                Err(_) if said.is_none() => PAUSES.0,
                Err(_) => (pause * 2).min(PAUSES.1),
            };
            let news = result.as_ref().err().cloned();
            if let Some(message) = news.as_ref().filter(|_| news != said) {
                say(&format!("Bacula was not told: {message}"));
            }
            said = news;
            fleet.told(result);
            fleet.director.ask();
        }
    })
}

fn tell(fleet: &Fleet) -> Result<(), String> {
    let site = fleet.site();
    // A site without Bacula has no changer: drives are mounted on demand, that is all.
    let Some(asker) = Asker::new(fleet.root(), &site) else { return Ok(()) };
    asker
        .refresh(Arc::clone(&fleet.bell.stopped))
        .map_err(|unknown| full_disk::explain(&unknown.to_string(), fleet.root(), &site))
}
