//! `offsite conf --import`: makes a running vchanger site part of site.toml; volumes keep their slots.

use std::path::{Path, PathBuf};

use changer_model::{Config, ConsoleSetting, Generation, MagazineSource, TakenOver};
use mount_by_uuid::{DevNum, FsUuid, MountTable, System, Tag};
use serde::Serialize;
use toml_edit::Value;

use crate::bacula::as_bacula::{Asker, TakenSlots};
use crate::base::failure::{Exit, Failure, OrFail as _, chain};
use crate::base::paths::Root;
use crate::base::program::locate;
use crate::base::{atomic_file, report};
use crate::commands::arguments::Conf;
use crate::site::description::{self, Magazine, Site};
use crate::site::edit;
use crate::site::first_site::FIRST_SITE;

/// What becomes of one magazine of vchanger.conf.
#[derive(Debug, Serialize)]
struct Imported {
    /// `UUID:...` or a directory, as vchanger.conf has it.
    source: String,
    /// What site.toml calls it.
    name: Option<String>,
    /// Why it is not in site.toml, or what else there is to say.
    problem: Option<String>,
    /// It can be enrolled later, when its drive is here.
    #[serde(skip)]
    later: bool,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    site_toml: &'a Path,
    written: bool,
    magazines: Vec<Imported>,
    slots: Vec<TakenOver>,
    /// What of the old configuration is not in site.toml, and what is to be done about it.
    left_out: Vec<String>,
}

/// Shows what site.toml becomes, writes it, and takes the slots over.
pub(super) fn run(root: &Root, config: &Path, options: &Conf) -> Result<(), Failure> {
    // It says as which user its state is read, and where that lies.
    let below = config.is_absolute() && !config.starts_with(root.path());
    let file = if below { root.join(config) } else { config.to_owned() };
    description::trust(&file)?;
    let old = Config::load(root.path(), config).or_exit(Exit::Usage, "cannot import")?;
    let path = root.site_toml();
    let there = there(&path)?;
    let before = there.as_deref().unwrap_or(FIRST_SITE);
    let found = find(root, &old, &Site::parse(before, &path)?);
    let new: Vec<Magazine> = found.iter().filter_map(Found::to_enrol).collect();
    let after = edit::merged(before, &settings(&old), &new, &path)?;
    let left_out = left_out(&old);
    let site = Site::parse(&after, &path).map_err(|failure| of_imported(&failure, &path, config))?;
    let shown = path.display().to_string();
    if !options.json {
        print!(
            "{}",
            bacula_conf::difference(there.as_deref().unwrap_or_default(), &after, &shown, "with its site")
        );
    }
    let taken = if options.dry_run {
        TakenSlots::default()
    } else {
        write(&path, there.as_deref(), &after)?;
        take_over(root, &file, &site, &found)?
    };
    let magazines: Vec<Imported> = found.into_iter().map(Found::imported).collect();
    if options.json {
        let written = !options.dry_run;
        return report::json(&Report {
            site_toml: &path,
            written,
            magazines,
            slots: taken.magazines,
            left_out,
        });
    }
    say(&magazines, &taken, &left_out, options.dry_run);
    Ok(())
}

/// What can't be taken over: the place in a site.toml that was never written helps nobody.
fn of_imported(failure: &Failure, site_toml: &Path, config: &Path) -> Failure {
    let message = failure.message();
    let message = message.strip_prefix(&*site_toml.to_string_lossy()).unwrap_or(message);
    let message = message.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, ':' | ' '));
    Failure::new(failure.exit(), format!("{} can't be imported: {message}", config.display()))
        .hint("change the name there and in Bacula's configuration, then import again")
}

fn there(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::because(Exit::Usage, format!("cannot read {}", path.display()), &error)),
    }
}

/// What site.toml has a place for. The work directory stays, and with it the drives' links and what a bacula-sd.conf says
/// of them.
fn settings(old: &Config) -> Vec<(&'static str, &'static str, Value)> {
    let mut settings: Vec<(_, _, Value)> = vec![
        ("changer", "name", old.storage().into()),
        ("changer", "work_dir", old.work_dir().display().to_string().into()),
    ];
    settings.extend(old.user().map(|user| ("bacula.accounts", "user", user.into())));
    settings.extend(old.group().map(|group| ("bacula.accounts", "storage_group", group.into())));
    if let Some(layout) = old.layout().filter(|_| old.keys().contains(&"virtual_drives")) {
        settings.push(("bacula.autochanger", "drives", i64::from(layout.virtual_drives).into()));
    }
    settings.extend(pool(old).map(|pool| ("bacula.pool", "name", pool.into())));
    if let Some(program) = old.console().filter(|console| console.explicit).and_then(path_of) {
        settings.push(("bacula.paths", "bconsole", program.display().to_string().into()));
    }
    settings
}

/// The path of the console; of one that is named without its directory, where it is installed.
fn path_of(console: &ConsoleSetting) -> Option<PathBuf> {
    let program = &console.program;
    if program.is_absolute() { Some(program.clone()) } else { locate(program.to_str()?) }
}

/// The pool of the volumes. `Scratch` is none: from there Bacula takes volumes into the pools of jobs.
fn pool(old: &Config) -> Option<&str> {
    (old.keys().contains(&"Default Pool") && old.pool() != "Scratch").then(|| old.pool())
}

/// A line for each key that has no place in site.toml, or means something else from now on.
fn left_out(old: &Config) -> Vec<String> {
    let why = |key: &str| match key {
        "Logfile" | "logfile" | "Log Level" | "log_level" => {
            Some("the changer's log is where `offsite conf` puts it")
        }
        "bconsole" if old.console().is_none() => Some("Bacula is told of changes, and so needs a console"),
        "bconsole config" => Some("`offsite conf` generates a console for the changer alone"),
        "Default Pool" if pool(old).is_none() => {
            Some("new volumes are labelled into the pool of [bacula.pool]")
        }
        "slots_per_magazine" | "magazine_bays" => Some("each volume has a slot of its own from now on"),
        "automount_dir" => Some("drives appear below mount_root from now on"),
        _ => None,
    };
    let mut lines: Vec<String> =
        old.keys().iter().filter_map(|key| Some(format!("{key} is left out: {}", why(key)?))).collect();
    for line in old.ignored() {
        lines.push(format!("line {} is left out: {}", line.position.line, line.problem));
    }
    if old.generation() == Generation::V08 {
        let work = old.work_dir().display();
        lines.push(format!(
            "each drive's Archive Device, {work}/N/driveN until now, becomes {work}/N: `offsite conf` generates it, a bacula-sd.conf \
             of your own has to say so"
        ));
    }
    lines
}

fn write(path: &Path, there: Option<&str>, after: &str) -> Result<(), Failure> {
    if there == Some(after) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        atomic_file::directory(directory, 0o755)?;
    }
    atomic_file::replace(path, 0o644, after.as_bytes())
}

/// From now on each drive appears under its filesystem's UUID below the mount root; its slots follow it there. Bacula's
/// user does it, whose state that is.
fn take_over(root: &Root, file: &Path, site: &Site, found: &[Found]) -> Result<TakenSlots, Failure> {
    let failed = "the slots were not taken over, so each volume would get a new one";
    let text = std::fs::read(file).or_fail(failed)?;
    let directories = found.iter().enumerate().filter_map(|(place, found)| {
        let fs_uuid = found.fs_uuid.as_ref().filter(|_| !matches!(found.what, Ok(What::Again(_))))?;
        Some((place, site.mount_root.join(fs_uuid.to_string())))
    });
    Asker::take_over(root, site, file, &String::from_utf8_lossy(&text), directories.collect())
        .map_err(|unknown| Failure::because(Exit::Failed, failed, &unknown))
}

fn say(magazines: &[Imported], taken: &TakenSlots, left_out: &[String], dry_run: bool) {
    for Imported { source, name, problem, later } in magazines {
        match (name, problem) {
            (None, Some(problem)) if *later => {
                println!("{source}: {problem}; when it is plugged: offsite adopt DEVICE --name STICKER");
            }
            (None, Some(problem)) => println!("{source}: {problem}"),
            (Some(name), Some(problem)) => println!("{source}: {name}, {problem}"),
            (Some(name), None) => println!("{source}: {name}"),
            (None, None) => println!("{source}: unchanged"),
        }
    }
    for TakenOver { magazine, volumes, slots, .. } in &taken.magazines {
        println!("{magazine}: {volumes} volumes keep the slots {slots}");
    }
    for (source, error) in &taken.unusable {
        eprintln!("warning: {source} could not be looked at: {error}");
    }
    for line in left_out {
        println!("{line}");
    }
    if dry_run {
        println!("nothing was written");
    } else {
        println!("next: write the stickers into site.toml, then `offsite conf`");
    }
}

/// A magazine of vchanger.conf, and what could be found out about it.
struct Found {
    source: MagazineSource,
    /// Known also of one that is away but named by it.
    fs_uuid: Option<FsUuid>,
    what: Result<What, Problem>,
}

enum What {
    /// site.toml has it, under this name.
    Enrolled(String),
    /// An earlier line names the same drive, which is called so.
    Again(String),
    New(Magazine),
}

/// Why a magazine can't be enrolled.
enum Problem {
    /// Its drive isn't here.
    Away(&'static str),
    /// It has to be changed first.
    Wrong(String),
}

impl Found {
    fn to_enrol(&self) -> Option<Magazine> {
        match &self.what {
            Ok(What::New(magazine)) => Some(magazine.clone()),
            _ => None,
        }
    }

    fn name(&self) -> Option<&str> {
        match &self.what {
            Ok(What::Enrolled(name) | What::Again(name)) => Some(name),
            Ok(What::New(magazine)) => Some(&magazine.name),
            Err(_) => None,
        }
    }

    fn imported(self) -> Imported {
        let source = self.source.to_string();
        let name = self.name().map(str::to_owned);
        let (problem, later) = match self.what {
            Ok(What::Enrolled(_) | What::New(_)) => (None, false),
            Ok(What::Again(_)) => {
                (Some("listed twice: its volumes keep the slots of the first line".to_owned()), false)
            }
            Err(Problem::Away(problem)) => (Some(problem.to_owned()), true),
            Err(Problem::Wrong(problem)) => (Some(problem), false),
        };
        Imported { source, name, problem, later }
    }
}

/// Finds the magazines, each at its place; those that site.toml does not have yet are called M1, M2 and so on.
fn find(root: &Root, old: &Config, site: &Site) -> Vec<Found> {
    let system = System::new(root.kernel());
    let mut names: Vec<String> = site.magazines.iter().map(|m| m.name.to_lowercase()).collect();
    let mut found: Vec<Found> = Vec::new();
    for source in old.magazines() {
        let described = describe(root, &system, source);
        let fs_uuid = match (&described, source) {
            (Ok(magazine), _) => Some(magazine.fs_uuid.clone()),
            (Err(_), MagazineSource::Uuid(uuid)) => uuid.parse().ok(),
            (Err(_), _) => None,
        };
        let same = found.iter().find(|other| fs_uuid.is_some() && other.fs_uuid == fs_uuid);
        let enrolled = site.magazines.iter().find(|m| Some(&m.fs_uuid) == fs_uuid.as_ref());
        let what = match (same.and_then(Found::name), enrolled, described) {
            (Some(name), ..) => Ok(What::Again(name.to_owned())),
            (None, Some(enrolled), _) => Ok(What::Enrolled(enrolled.name.clone())),
            (None, None, Ok(magazine)) => {
                let name = (1..=u32::MAX)
                    .map(|n| format!("M{n}"))
                    .find(|name| !names.contains(&name.to_lowercase()));
                let name = name.unwrap_or_default();
                names.push(name.to_lowercase());
                Ok(What::New(Magazine { name, ..magazine }))
            }
            (None, None, Err(problem)) => Err(problem),
        };
        found.push(Found { source: source.clone(), fs_uuid, what });
    }
    found
}

/// Finds out what a magazine of vchanger.conf is, while its drive is here.
fn describe(root: &Root, system: &System, source: &MagazineSource) -> Result<Magazine, Problem> {
    let devices = system.scan().map_err(|e| Problem::Wrong(chain(&e)))?;
    let uuid = match source {
        MagazineSource::Uuid(uuid) => uuid.parse::<FsUuid>().map_err(|e| Problem::Wrong(chain(&e)))?,
        MagazineSource::Directory(directory) => {
            let mounts = MountTable::read(system).map_err(|e| Problem::Wrong(chain(&e)))?;
            let devnum = mounted(root, &mounts, directory)?;
            let device = devices.iter().find(|device| device.devnum == devnum);
            match device.map(|device| &device.tag) {
                None => return Err(Problem::Wrong("its device isn't known".to_owned())),
                Some(Some(Tag::Filesystem(uuid))) => uuid.clone(),
                Some(_) => return Err(Problem::Wrong("its filesystem has no UUID".to_owned())),
            }
        }
        MagazineSource::Unusable(_) => {
            let what = "it is neither `UUID:` with a filesystem's UUID nor a directory's path";
            return Err(Problem::Wrong(what.to_owned()));
        }
        other => return Err(Problem::Wrong(format!("{other} is of no kind known here"))),
    };
    let inner = devices
        .iter()
        .find(|d| d.tag == Some(Tag::Filesystem(uuid.clone())))
        .ok_or(Problem::Away("its drive isn't here"))?;
    let luks_uuid = luks_behind(root, inner);
    Ok(Magazine {
        name: String::new(),
        luks_uuid,
        luks_digest: None, // the header's backup tells, once the drive was unlocked
        fs_uuid: uuid,
        fs_type: inner.fs_type.clone().unwrap_or_else(|| "auto".into()),
        serial: inner.serial.clone(),
    })
}

/// The device that is mounted at a magazine's directory, which may be reached over links.
fn mounted(root: &Root, mounts: &MountTable, directory: &Path) -> Result<DevNum, Problem> {
    const NOTHING: Problem = Problem::Away("nothing is mounted there");
    let at = |path: &Path| mounts.at(path).filter(|mount| mount.fs_type != "autofs");
    if let Some(mount) = at(directory) {
        return Ok(mount.devnum);
    }
    let below = root.kernel().join(directory.strip_prefix("/").unwrap_or(directory));
    let real = below.canonicalize().map_err(|_| NOTHING)?;
    if let Some(mount) = at(&real) {
        return Ok(mount.devnum);
    }
    let around = mounts.containing(&real).filter(|mount| mount.fs_type != "autofs").ok_or(NOTHING)?;
    let Ok(inside) = real.strip_prefix(&around.mount_point) else { return Err(NOTHING) };
    if around.mount_point == Path::new("/") {
        return Err(NOTHING);
    }
    Err(Problem::Wrong(format!(
        "it is the directory {} of a drive, whose volumes have to lie at its top: mv {}/* {}, name {} in \
         vchanger.conf and import again",
        inside.display(),
        real.display(),
        around.mount_point.display(),
        around.mount_point.display()
    )))
}

/// The LUKS container that an unlocked filesystem lies in.
fn luks_behind(root: &Root, inner: &mount_by_uuid::BlockDevice) -> Option<luks_core::LuksUuid> {
    let number = inner.devnum;
    let name = root.join(format!("/sys/dev/block/{}:{}/dm/name", number.major, number.minor));
    let name = std::fs::read_to_string(name).ok()?; // only a device-mapper device has one
    match luks_core::mapping_status_in(root.path(), name.trim()) {
        Ok(luks_core::MappingStatus::Active { luks_uuid, .. }) => luks_uuid,
        _ => None,
    }
}
