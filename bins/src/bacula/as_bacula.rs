//! Asking what only Bacula's user should look at: the changer's state, and Bacula itself through its console.
//!
//! Whatever Bacula's user may write could be made to run commands or to name any file, so root neither reads it nor
//! runs bconsole. Root starts its own program a second time, which becomes Bacula's user before it does anything, gets
//! one question as its argument and prints one JSON document. Time, memory and the length of the document are limited,
//! and what it says is as foreign as if Bacula's user had written it. For any other user the child stays that user.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use changer_model::{
    AskError, BaculaAnswer, Changer, ChangerStatus, Config, ConsoleError, DriveIndex, Environment,
    MagazineSource, Privileges, RunningJob, Slot, TakenOver, WaitingDrive, run_command_line,
};
use nix::unistd::geteuid;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::failure::{Exit, Failure, OrFail as _, chain};
use crate::base::output;
use crate::base::paths::Root;
use crate::base::program::Program;
use crate::site::description::Site;
use crate::site::{accounts, working_directories};

/// The word by which a program knows that it is the child.
const WORD: &str = "as-bacula";

/// Maximum of an answer, in bytes: the state of some 100 000 volumes.
const LONGEST_ANSWER: usize = 16 << 20;

/// Maximum of the child's address space, in bytes.
const MEMORY: u64 = 1 << 30;

/// Timeout for all that isn't a talk with Bacula.
const LIMIT: Duration = Duration::from_secs(15);

/// Timeout for one talk of the console with Bacula.
const CONSOLE_LIMIT: Duration = Duration::from_secs(15);

/// Timeout for Bacula to say what it waits for; a person waits to see the drives.
const PATIENCE: Duration = Duration::from_millis(300);

/// Timeout for telling Bacula: a drive that is looked into may have its filesystem checked first, which takes hours.
const REFRESH_LIMIT: Duration = Duration::from_hours(12);

/// Timeout for taking an old changer's slots over: every volume that is plugged is looked at.
const TAKE_OVER_LIMIT: Duration = Duration::from_mins(10);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Question {
    /// The changer's state: [`ChangerStatus`].
    Changer,
    /// What Bacula waits for: a list of [`WaitingDrive`].
    Waiting,
    /// The jobs that use volumes now: a list of [`RunningJob`].
    RunningJobs,
    /// That the storage daemon lets go of a drive's volume: nothing.
    Release { drive: u32, slot: u32 },
    /// What Bacula says of jobs and volumes: a [`BaculaAnswer`], or nothing where it isn't to be asked.
    Bacula,
    /// The volumes of these jobs, by their numbers.
    JobVolumes { jobs: Vec<u32> },
    /// That the changer looks at its magazines and tells Bacula what has changed: nothing.
    Refresh,
    /// That the magazines of an old vchanger.conf, by their places in it, get other directories: [`TakenSlots`].
    TakeOver { file: PathBuf, text: String, directories: Vec<(usize, PathBuf)> },
}

/// What became of the slots of an old changer's volumes.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakenSlots {
    /// The magazines that are known.
    pub magazines: Vec<TakenOver>,
    /// Magazines that are plugged but could not be looked at, by their old names, and why.
    pub unusable: Vec<(String, String)>,
}

impl Question {
    /// Timeout for the answer; the console's own comes first.
    fn limit(&self) -> Duration {
        match self {
            Self::Refresh => REFRESH_LIMIT,
            Self::TakeOver { .. } => TAKE_OVER_LIMIT,
            Self::Changer => LIMIT,
            Self::Waiting => LIMIT + PATIENCE,
            Self::RunningJobs | Self::Release { .. } | Self::JobVolumes { .. } => LIMIT + CONSOLE_LIMIT,
            Self::Bacula => LIMIT + CONSOLE_LIMIT * 2,
        }
    }
}

/// What the child prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Answer<T> {
    Known(T),
    Unknown { message: String, refused: bool },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Unknown {
    message: String,
    /// Bacula answered, but did not do what was asked.
    pub refused: bool,
}

impl Unknown {
    fn because(message: impl Into<String>) -> Self {
        Self { message: message.into(), refused: false }
    }
}

impl From<Failure> for Unknown {
    fn from(failure: Failure) -> Self {
        Self::because(failure.message())
    }
}

impl From<ConsoleError> for Unknown {
    fn from(error: ConsoleError) -> Self {
        Self { refused: matches!(error, ConsoleError::Unconfirmed { .. }), message: chain(&error) }
    }
}

impl From<AskError> for Unknown {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Console(error) => error.into(),
            error => Self::because(chain(&error)),
        }
    }
}

/// Asks about the changer of a site, as Bacula's user.
#[derive(Debug)]
pub struct Asker<'a> {
    root: &'a Root,
    site: &'a Site,
}

impl<'a> Asker<'a> {
    /// Makes one for a site with a changer; `None` where none is configured.
    pub fn new(root: &'a Root, site: &'a Site) -> Option<Self> {
        root.vchanger_conf().exists().then_some(Self { root, site })
    }

    /// The changer's own view.
    pub fn changer(&self) -> Result<ChangerStatus, Unknown> {
        self.ask(&Question::Changer)
    }

    /// The drives of Bacula's that wait for a volume.
    pub fn waiting(&self) -> Result<Vec<WaitingDrive>, Unknown> {
        self.ask(&Question::Waiting)
    }

    /// The jobs that use volumes or are about to; none when the site has no console.
    pub fn running_jobs(&self) -> Result<Vec<RunningJob>, Unknown> {
        self.ask(&Question::RunningJobs)
    }

    /// Has the storage daemon let go of the volume in a drive.
    pub fn release(&self, drive: u32, slot: u32) -> Result<(), Unknown> {
        self.ask(&Question::Release { drive, slot })
    }

    /// What Bacula says of jobs and volumes; none when the site has no console.
    pub fn bacula(&self) -> Result<Option<BaculaAnswer>, Unknown> {
        self.ask(&Question::Bacula)
    }

    /// The volumes on which these jobs lie, by the jobs' numbers.
    pub fn job_volumes(&self, jobs: Vec<u32>) -> Result<BTreeMap<u32, Vec<String>>, Unknown> {
        if jobs.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.ask(&Question::JobVolumes { jobs })
    }

    /// Has the changer look at its magazines and tell Bacula what has changed, until `stop` is true.
    pub fn refresh(&self, stop: Arc<AtomicBool>) -> Result<(), Unknown> {
        if geteuid().is_root() && !self.root.join(self.site.changer.work_dir()).exists() {
            working_directories::working_directories(self.root, self.site)?; // Bacula's user can't make them there
        }
        self.ask_until(&Question::Refresh, Some(stop))
    }

    /// Has an old changer's magazines, by their places in its configuration, get other directories; their volumes keep
    /// their slots. `text` is that of its configuration `file`. Nothing of the site needs to be generated yet.
    pub fn take_over(
        root: &Root,
        site: &Site,
        file: &Path,
        text: &str,
        directories: Vec<(usize, PathBuf)>,
    ) -> Result<TakenSlots, Unknown> {
        let (file, text) = (file.to_owned(), text.to_owned());
        Asker { root, site }.ask(&Question::TakeOver { file, text, directories })
    }

    fn ask<T: DeserializeOwned>(&self, question: &Question) -> Result<T, Unknown> {
        self.ask_until(question, None)
    }

    fn ask_until<T: DeserializeOwned>(
        &self,
        question: &Question,
        stop: Option<Arc<AtomicBool>>,
    ) -> Result<T, Unknown> {
        let user = &self.site.bacula.accounts.user;
        let words = serde_json::to_string(question).or_fail("cannot write JSON")?;
        let child = Program::itself(format!("offsite, run as {user},"))
            .args([WORD.as_ref(), self.root.path().as_os_str(), words.as_ref()])
            .limit(question.limit())
            .keep(LONGEST_ANSWER)
            .memory(MEMORY);
        let child = stop.into_iter().fold(child, Program::until);
        // A system below another directory has no user of its own who could look.
        let stays = matches!(question, Question::TakeOver { .. }) && self.root.path() != Path::new("/");
        let child =
            if geteuid().is_root() && !stays { child.user(accounts::bacula(self.site)?) } else { child };
        match serde_json::from_str(&child.answer()?) {
            Ok(Answer::Known(answer)) => Ok(answer),
            Ok(Answer::Unknown { message, refused }) => Err(Unknown { message, refused }),
            Err(error) => {
                Err(Unknown::because(format!("the answer of offsite as {user} is damaged: {error}")))
            }
        }
    }
}

/// Answers if this process was started as the child; `None` if it wasn't. A program calls this before all else.
pub fn answer_if_asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != WORD {
        return None;
    }
    let arguments: Vec<OsString> = arguments.collect();
    Some(crate::base::failure::exit_code(answer(&arguments)))
}

fn answer(arguments: &[OsString]) -> Result<(), Failure> {
    let [root, question] = arguments else {
        return Err(Failure::new(Exit::Usage, format!("{WORD} is a question of offsite to itself")));
    };
    let question = question.to_str().unwrap_or_default();
    let question = serde_json::from_str(question).or_exit(Exit::Usage, "this is no question")?;
    let answer = match look(&PathBuf::from(root), &question) {
        Ok(value) => Answer::Known(value),
        Err(Unknown { message, refused }) => Answer::Unknown { message, refused },
    };
    let text = serde_json::to_string(&answer).or_fail("cannot write JSON")?;
    output::on_stdout(format_args!("{text}\n"));
    Ok(())
}

fn look(root: &Path, question: &Question) -> Result<Value, Unknown> {
    let console_limit = if *question == Question::Waiting { PATIENCE } else { CONSOLE_LIMIT };
    if let Question::TakeOver { file, text, directories } = question {
        return value(&take_over(root, file, text, directories)?);
    }
    let path = Root::new(root).vchanger_conf();
    let environment = Environment { console_limit, ..Environment::new(root) };
    let config = Config::load(root, &path).or_fail(format!("cannot read {}", path.display()))?;
    let changer = Changer::open(&config, &environment).or_fail("cannot open the changer")?;
    let failed = "cannot look at the changer";
    match question {
        Question::Changer => value(&changer.status().or_fail(failed)?),
        Question::Waiting => value(&changer.waiting()?),
        Question::RunningJobs => value(&changer.running_jobs()?.unwrap_or_default()),
        Question::Release { drive, slot } => {
            let known = DriveIndex::new(*drive).zip(Slot::new(*slot));
            let (drive, slot) = known.ok_or_else(|| Unknown::because("there is no such drive or slot"))?;
            value(&changer.release_drive(drive, slot)?)
        }
        Question::Refresh => refresh(root, &path),
        Question::Bacula => value(&changer.ask_bacula()?),
        Question::JobVolumes { jobs } => value(&changer.job_volumes(jobs)?),
        Question::TakeOver { .. } => Err(Unknown::because("it was answered before")),
    }
}

fn take_over(
    root: &Path,
    file: &Path,
    text: &str,
    directories: &[(usize, PathBuf)],
) -> Result<TakenSlots, Unknown> {
    let old = Config::parse(file, text).or_fail("cannot import")?;
    let place = |(place, directory): &(usize, PathBuf)| {
        let source =
            old.magazines().get(*place).ok_or_else(|| Unknown::because("there is no such magazine"))?;
        Ok((source.clone(), MagazineSource::Directory(directory.clone())))
    };
    let names = directories.iter().map(place).collect::<Result<Vec<_>, Unknown>>()?;
    // This process is the user already.
    let environment = Environment { privileges: Privileges::Keep, ..Environment::new(root) };
    let changer = Changer::open(&old, &environment).or_fail("cannot open the old changer")?;
    let taken = changer.take_over(&names).or_fail("cannot take its state over")?;
    let unusable = taken.unusable.iter().map(|(source, error)| (source.clone(), chain(error))).collect();
    Ok(TakenSlots { magazines: taken.magazines, unusable })
}

/// As the storage daemon's administrator would: `vchanger CONFIG refresh`, with its log.
fn refresh(root: &Path, config: &Path) -> Result<Value, Unknown> {
    let outcome = run_command_line(&[config.into(), "refresh".into()], &Environment::new(root));
    if outcome.code == 0 {
        return Ok(Value::Null);
    }
    let reason = outcome.stderr.trim();
    Err(Unknown::because(if reason.is_empty() { "the changer gave no reason" } else { reason }))
}

fn value(answer: &impl Serialize) -> Result<Value, Unknown> {
    Ok(serde_json::to_value(answer).or_fail("cannot write JSON")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_as_they_are_written() {
        for question in [
            Question::Changer,
            Question::Waiting,
            Question::RunningJobs,
            Question::Release { drive: 1, slot: 7 },
            Question::Bacula,
            Question::JobVolumes { jobs: vec![12, 13] },
            Question::Refresh,
            Question::TakeOver {
                file: "/etc/vchanger.conf".into(),
                text: "Storage Resource = \"v\"\n".to_owned(),
                directories: vec![(0, "/srv/offsite/a".into())],
            },
        ] {
            let text = serde_json::to_string(&question).unwrap();
            assert_eq!(serde_json::from_str::<Question>(&text).unwrap(), question, "{text}");
        }
        assert!(
            serde_json::from_str::<Question>("{\"release\":{\"drive\":1,\"slot\":7,\"path\":\"/\"}}")
                .is_err()
        );
    }

    #[test]
    fn the_console_comes_to_its_end_before_its_child() {
        for question in [Question::Waiting, Question::RunningJobs] {
            assert!(question.limit() > if question == Question::Waiting { PATIENCE } else { CONSOLE_LIMIT });
        }
    }
}
