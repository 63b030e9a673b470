//! `offsite eject`: nobody uses the drive any more, Bacula knows, it is locked and stands still: it may be pulled.
//!
//! Bacula is asked first, by the one who ejects and not by the daemon, which never waits for Bacula: which jobs use the
//! magazine, and to let go of its volumes. What Bacula can't be asked (the Director is down) doesn't matter for safety:
//! a drive in use can't be unmounted, and then isn't ejected.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use changer_model::{ChangerStatus, JobDoing, RunningJob};
use serde::Serialize;

use super::arguments::Eject;
use crate::bacula::as_bacula::{Asker, Unknown};
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;
use crate::base::patience::patiently;
use crate::base::report;
use crate::protocol::site_status::{DriveState, MagazineStatus, SiteStatus};
use crate::protocol::socket::{self, Verb};
use crate::site::description::Site;

/// How often is looked again whether a drive is free.
const PAUSE: Duration = Duration::from_secs(1);

/// How often is said that Bacula has not answered yet.
const WORDS: Duration = Duration::from_secs(5);

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    magazine: String,
    /// The virtual drives that let go of the magazine's volumes.
    released_drives: Vec<u32>,
    warnings: Vec<String>,
    message: String,
}

/// Runs `offsite eject`.
pub fn run(root: &Root, options: &Eject) -> Result<(), Failure> {
    let asked = socket::call(root, Verb::Status, None)?.ok_or_else(socket::not_running)?;
    let status = asked.status.ok_or_else(|| Failure::new(Exit::Failed, "offsited told no state"))?;
    let magazine = choose(&status, options.magazine.as_deref())?;
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::new(Exit::Refused, "only root may eject a drive").hint("sudo offsite eject"));
    }
    let report = until_free(options.wait, |bacula| eject(root, magazine, bacula))?;
    if options.json {
        return report::json(&report);
    }
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    println!("{}", report.message);
    Ok(())
}

/// Finds the drive that is meant; without a word the only one that is plugged.
fn choose<'a>(status: &'a SiteStatus, word: Option<&str>) -> Result<&'a MagazineStatus, Failure> {
    let Some(word) = word else { return choose_only(status) };
    let is = |text: &str| text.eq_ignore_ascii_case(word);
    let means = |m: &&MagazineStatus| {
        is(&m.name)
            || is(&m.fs_uuid)
            || m.luks_uuid.as_deref().is_some_and(is)
            || m.serial.as_deref() == Some(word)
    };
    let found = status.magazines.iter().find(means).ok_or_else(|| {
        let names: Vec<_> = status.magazines.iter().map(|m| &*m.name).collect();
        Failure::new(Exit::NotThere, format!("no magazine is called {word:?}"))
            .hint(format!("enrolled: {}", names.join(", ")))
    })?;
    if found.state == DriveState::Away {
        return Err(Failure::new(Exit::NotThere, format!("{} is not plugged", found.name))
            .hint("`offsite status` shows which drives are there"));
    }
    Ok(found)
}

fn choose_only(status: &SiteStatus) -> Result<&MagazineStatus, Failure> {
    let plugged = || status.magazines.iter().filter(|m| m.state != DriveState::Away);
    let mut candidates: Vec<_> = plugged().filter(|m| m.state != DriveState::Ejected).collect();
    if candidates.is_empty() {
        candidates = plugged().collect();
    }
    match *candidates.as_slice() {
        [only] => Ok(only),
        [] => Err(Failure::new(Exit::NotThere, "no drive is plugged")),
        _ => {
            let names: Vec<_> = candidates.iter().map(|m| &*m.name).collect();
            Err(Failure::new(Exit::Usage, format!("several drives are plugged: {}", names.join(", ")))
                .hint("say which one: offsite eject NAME"))
        }
    }
}

/// Tries until the drive is free, or `limit` has passed; without a limit once. Only what says "in use" is tried again.
fn until_free(
    limit: Option<Duration>,
    mut attempt: impl FnMut(&mut Bacula) -> Result<Report, Failure>,
) -> Result<Report, Failure> {
    let started = Instant::now();
    let mut bacula = Bacula::default();
    let mut said = String::new();
    loop {
        let held = match attempt(&mut bacula) {
            Err(failure) if failure.exit() == Exit::Refused => failure,
            result => return result,
        };
        let Some(limit) = limit else { return Err(held) };
        if started.elapsed() >= limit {
            return Err(Failure::new(Exit::TimeLimit, format!("{}, still", held.message())));
        }
        if said != held.message() {
            held.message().clone_into(&mut said);
            eprintln!("waiting: {said}");
        }
        std::thread::sleep(PAUSE);
    }
}

/// What passed between Bacula and this program.
#[derive(Debug, Default)]
struct Bacula {
    /// It didn't answer once, and isn't asked again: each time would take as long.
    silent: bool,
    released: BTreeSet<u32>,
    warnings: Vec<String>,
}

fn eject(root: &Root, magazine: &MagazineStatus, bacula: &mut Bacula) -> Result<Report, Failure> {
    let site = Site::load(root)?;
    patiently("Bacula's answer", WORDS, || {
        match Asker::new(root, &site).map(|asker| (asker.changer(), asker)) {
            Some((Ok(status), asker)) => bacula.let_go(&asker, &status, magazine),
            _ => Ok(()),
        }
    })?;
    let reply = socket::call(root, Verb::Eject, Some(&magazine.name))?.ok_or_else(socket::not_running)?;
    let message = reply.into_result()?;
    Ok(Report {
        version: socket::VERSION,
        magazine: magazine.name.clone(),
        released_drives: bacula.released.iter().copied().collect(),
        warnings: std::mem::take(&mut bacula.warnings),
        message,
    })
}

impl Bacula {
    /// Refuses while a job uses the magazine; else has Bacula let go of its volumes.
    fn let_go(
        &mut self,
        asker: &Asker<'_>,
        status: &ChangerStatus,
        magazine: &MagazineStatus,
    ) -> Result<(), Failure> {
        let own = status.magazines.iter().filter(|m| m.id.ends_with(&magazine.fs_uuid));
        let volumes: BTreeSet<&str> = own.flat_map(|m| &m.volumes).map(|v| &*v.label).collect();
        if self.silent || volumes.is_empty() {
            return Ok(());
        }
        self.warnings.clear();
        match asker.running_jobs() {
            Ok(jobs) => {
                let uses = |job: &RunningJob| match &job.doing {
                    JobDoing::Writes(volume) | JobDoing::Reads(volume) => volumes.contains(&**volume),
                    doing => *doing == JobDoing::Starting,
                };
                let using: Vec<_> = jobs.into_iter().filter(uses).collect();
                if !using.is_empty() {
                    return Err(in_use(&magazine.name, &using));
                }
            }
            Err(error) => {
                self.failed(&error);
                return Ok(());
            }
        }
        for drive in status.drives.iter().filter(|d| volumes.contains(&*d.label)) {
            match asker.release(drive.drive, drive.slot) {
                Ok(()) => drop(self.released.insert(drive.drive)),
                Err(error) => self.failed(&error),
            }
        }
        Ok(())
    }

    /// Notes that Bacula didn't do what was asked. Only a refusal is an answer; whoever gives none isn't asked again.
    fn failed(&mut self, unknown: &Unknown) {
        self.silent = !unknown.refused;
        self.warnings.push(format!("Bacula is told later, by offsited: {unknown}"));
    }
}

fn in_use(magazine: &str, jobs: &[RunningJob]) -> Failure {
    let told: Vec<_> = jobs
        .iter()
        .map(|job| {
            let doing = match &job.doing {
                JobDoing::Writes(volume) => format!("writes {volume}"),
                JobDoing::Reads(volume) => format!("reads {volume}"),
                _ => "is being started".to_owned(),
            };
            format!("job {} (JobId {}) {doing}", job.name, job.id)
        })
        .collect();
    Failure::new(Exit::Refused, format!("{magazine} is not free: {}", told.join("; ")))
        .hint(format!("wait for its end: offsite eject --wait {magazine}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::site_status::CatalogStatus;

    fn site(states: &[(&str, DriveState)]) -> SiteStatus {
        let magazine = |(name, state): &(&str, DriveState)| {
            let text = format!(
                "{{\"name\":\"{name}\",\"fs_uuid\":\"fs-{name}\",\"state\":{},\"torn\":false}}",
                serde_json::to_string(state).unwrap()
            );
            serde_json::from_str(&text).unwrap()
        };
        let magazines: Vec<MagazineStatus> = states.iter().map(magazine).collect();
        SiteStatus {
            waiting: None,
            bacula: crate::protocol::site_status::BaculaStatus::default(),
            backups: Vec::new(),
            unknown_drives: Vec::new(),
            notices: Vec::new(),
            outdated: None,
            covered: None,
            version: 1,
            daemon_pid: Some(1),
            mount_root: "/srv".into(),
            magazines,
            catalog: CatalogStatus::default(),
        }
    }

    #[test]
    fn the_only_plugged_drive_needs_no_name() {
        use DriveState::{Away, Ejected, Locked, Mounted};
        let name = |states: &[(&str, DriveState)], word| {
            choose(&site(states), word).map(|m| m.name.clone()).map_err(|f| f.exit())
        };
        assert_eq!(name(&[("A", Away), ("B", Mounted)], None).unwrap(), "B");
        assert_eq!(name(&[("A", Ejected), ("B", Locked)], None).unwrap(), "B", "A is out already");
        assert_eq!(name(&[("A", Ejected), ("B", Away)], None).unwrap(), "A");
        assert_eq!(name(&[("A", Locked), ("B", Locked)], None), Err(Exit::Usage));
        assert_eq!(name(&[("A", Away)], None), Err(Exit::NotThere));
        assert_eq!(name(&[("A", Away)], Some("a")), Err(Exit::NotThere));
        assert_eq!(name(&[("A", Locked)], Some("C")), Err(Exit::NotThere));
        assert_eq!(name(&[("A", Locked), ("B", Locked)], Some("fs-b")).unwrap(), "B");
    }

    #[test]
    fn only_what_is_in_use_is_waited_for() {
        let report = || Report {
            version: 1,
            magazine: "A".into(),
            released_drives: Vec::new(),
            warnings: Vec::new(),
            message: "done".into(),
        };
        let tries = |limit: Option<Duration>, exits: &[Exit]| {
            let mut left = exits.iter();
            let result = until_free(limit, |_| match left.next() {
                Some(exit) => Err(Failure::new(*exit, "held")),
                None => Ok(report()),
            });
            (result.map(|r| r.message).map_err(|f| f.exit()), left.len())
        };
        assert_eq!(tries(None, &[Exit::Refused]), (Err(Exit::Refused), 0));
        assert_eq!(tries(Some(Duration::MAX), &[Exit::Refused]), (Ok("done".into()), 0));
        assert_eq!(tries(Some(Duration::ZERO), &[Exit::Refused, Exit::Refused]), (Err(Exit::TimeLimit), 1));
        assert_eq!(tries(Some(Duration::MAX), &[Exit::Failed, Exit::Refused]), (Err(Exit::Failed), 1));
    }
}
