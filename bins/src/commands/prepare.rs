//! `offsite prepare`: from a blank drive to an enrolled one, by steps that survive a power cut.
//!
//! Before the first byte is written everything that could stop the work later is checked. Each finished
//! step is journalled, together with the identities that it fixed, so the same command run again goes on
//! where it was and never takes a half-made container for a finished one.

mod filesystem;
mod journal;

use std::path::{Path, PathBuf};

use journal::{Journal, Step};
use luks_core::{FormatOptions, Header, KeySlot, LuksVersion, Secret};
use media_wipe::{FillMark, Identity};
use nix::unistd::{Gid, Uid, User};
use serde::Serialize;

use super::arguments::{BadSectors, Filesystem, Prepare};
use super::{conf, luks, wipe};
use crate::base::atomic_file::{self, Owner};
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::progress::Screen;
use crate::base::{confirm, interrupt, report};
use crate::drives::scoped_open::{Mounted, Unlocked, put_to_rest, require_device_mapper};
use crate::drives::{enrolled, hidden_area, partition};
use crate::protocol::socket;
use crate::records::header_backups;
use crate::site::description::{Magazine, Site, check_name, mapping_name};
use crate::site::{edit, key_file};

/// The tutorial's end state: the key file in slot 1, slot 0 empty.
pub const KEY_SLOT: u8 = 1;

/// What the work came to.
#[derive(Debug, Serialize)]
struct Report<'a> {
    magazine: &'a Magazine,
    device: &'a Path,
    size_bytes: u64,
    volumes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    wipe: Option<media_wipe::Report>,
}

impl<'a> Report<'a> {
    fn of(magazine: &'a Magazine, options: &'a Prepare, identity: &Identity, journal: &Journal) -> Self {
        Self {
            magazine,
            device: &options.device,
            size_bytes: identity.size_bytes,
            volumes: journal.volumes,
            wipe: None,
        }
    }
}

/// Runs `offsite prepare`.
pub fn run(root: &Root, options: &Prepare) -> Result<(), Failure> {
    let site = Site::load(root)?;
    check_name("magazine", &options.name)
        .map_err(|(message, hint)| Failure::new(Exit::Usage, message).hint(hint))?;
    let identity = enrolled::identify_to_overwrite(root, &options.device)?;
    let journal_path = journal::path(root, &identity.id);
    let plan = Journal::plan(options, &identity)?;
    let earlier = if options.restart { None } else { Journal::load(&journal_path)? };
    let resumed = earlier.is_some();
    let mut journal = match earlier {
        Some(earlier) => earlier.continues(&plan, &journal_path)?,
        None => plan,
    };
    if let Some(enrolled) = site.magazines.iter().find(|m| m.name.eq_ignore_ascii_case(&options.name)) {
        if resumed && enrolled.luks_uuid == Some(journal.luks_uuid) && !options.dry_run {
            return finish(
                root,
                options,
                &site,
                &Report::of(enrolled, options, &identity, &journal),
                &journal_path,
            );
        }
        return Err(Failure::new(Exit::Refused, format!("a magazine {enrolled} is enrolled already"))
            .hint("give the new drive another sticker, or take the [[magazine]] table out of site.toml"));
    }
    if options.dry_run {
        dry_run(root, options, &site, &journal, &identity);
        return Ok(());
    }
    if options.gpt {
        luks::refuse_partition_in_file(&identity)?;
    }
    let key = key_file::load(&root.join(&site.key_file))?;
    let owner = owner(&site)?;
    filesystem::Maker::find(options.fs)?;
    let _lock = journal::lock(root, &identity)?;
    let identity = if resumed {
        let place = place(root, options, &journal)?;
        put_to_rest(root, &mapping_name(journal.luks_uuid), &place)?;
        enrolled::identify_to_overwrite(root, &options.device)?
    } else {
        identity
    };
    if journal.fills() && !journal.done(Step::Fill) {
        hidden_area::warn(root, &identity);
    }
    let id = confirm::destroy(&identity, options.yes_destroy.as_deref())?;
    if resumed {
        recognise(&mut journal, &identity)?;
    }
    require_room(options, &site, &journal, &identity)?;
    require_device_mapper(root)?;

    if options.restart {
        wipe::forget(root, &id);
    }
    atomic_file::directory_of(&root.journals_dir(), Owner::own(), 0o700)?;
    journal.save(&journal_path)?;
    let wiped = fill(root, options, &identity, &id, &mut journal, &journal_path)?;
    let header = container(root, options, &identity, &mut journal, &journal_path, &key)?;
    let unlocked = Unlocked::open(&header, &mapping_name(header.uuid()), &[&key], false)?;
    if !journal.done(Step::Filesystem) {
        filesystem::Maker::find(options.fs)?.make(unlocked.path(), &journal.fs_uuid, &options.name)?;
        journal.finish(Step::Filesystem, &journal_path)?;
        say(options, &format!("{} filesystem {}", filesystem::fs_type(options.fs), journal.fs_uuid));
    }
    if !journal.done(Step::Volumes) {
        let mounted = Mounted::mount(root, unlocked.path(), filesystem::fs_type(options.fs), false)?;
        journal.volumes = lay_volumes(&mounted, &site, options, owner)?;
        mounted.unmount()?;
        journal.finish(Step::Volumes, &journal_path)?;
        say(options, &format!("{} volumes, owned by {}", journal.volumes, site.bacula.accounts.user));
    }
    unlocked.lock()?;

    let magazine = Magazine {
        name: options.name.clone(),
        luks_uuid: Some(header.uuid()),
        luks_digest: Some(header.enrolment().digest()),
        fs_uuid: journal.fs_uuid.clone(),
        fs_type: filesystem::fs_type(options.fs).into(),
        serial: Some(identity.id.clone()),
    };
    prove(root, &header, &magazine, &key)?;
    let site = edit::add(root, &magazine)?;
    let report = Report { wipe: wiped, ..Report::of(&magazine, options, &identity, &journal) };
    finish(root, options, &site, &report, &journal_path)
}

/// Makes sure that at least one volume fits, where it is left to the drive how many there are.
fn require_room(
    options: &Prepare,
    site: &Site,
    journal: &Journal,
    identity: &Identity,
) -> Result<(), Failure> {
    if options.volumes.is_some() || journal.done(Step::Filesystem) {
        return Ok(());
    }
    let volume_bytes = site.bacula.pool.maximum_volume_bytes.as_bytes();
    filesystem::refuse_too_small(identity.size_bytes, journal.header_bytes(), volume_bytes)
}

/// Fills the drive, unless that is done or left out.
fn fill(
    root: &Root,
    options: &Prepare,
    identity: &Identity,
    id: &str,
    journal: &mut Journal,
    journal_path: &Path,
) -> Result<Option<media_wipe::Report>, Failure> {
    if !journal.fills() || journal.done(Step::Fill) {
        return Ok(None);
    }
    let progress = Screen::new()?.drive(&options.device.display().to_string());
    let resume = journal.begun(Step::Fill);
    journal.begin(Step::Fill, journal_path)?;
    let manner = wipe::Manner { verify: options.verify, bad_sectors: BadSectors::Stop, resume };
    let filled = wipe::fill(root, identity, id, manner, progress, interrupt::flag()?);
    let wiped = filled.map_err(|unfilled| {
        // What is over, though not well, begins anew.
        if unfilled.report.is_some_and(|report| !report.resumable) {
            wipe::forget(root, id);
        }
        again(&unfilled.failure)
    })?;
    let mark = FillMark::take(&identity.device);
    journal.mark = Some(mark.or_fail(format!("cannot read {} again", identity.device.display()))?);
    journal.finish(Step::Fill, journal_path)?;
    wipe::forget(root, id);
    say(options, "filled with random data");
    for (when, account) in wiped.health.lines() {
        say(options, &format!("SMART {when}: {account}"));
    }
    Ok(Some(wiped))
}

/// Makes sure that a drive is the one that the journal says was filled: in a dock that shows one serial number for all
/// drives a blank one would pass for it, and would stay blank.
fn recognise(journal: &mut Journal, identity: &Identity) -> Result<(), Failure> {
    if !journal.rests_on_fill() {
        return Ok(());
    }
    let device = &identity.device;
    let Some(mark) = &journal.mark else {
        journal.fill_again(); // an earlier version took no mark
        return Ok(());
    };
    let is_filled = mark.is_on(device).or_fail(format!("cannot read {}", device.display()))?;
    // The container that an interrupted run was making may already lie over what was filled.
    let containers = luks_core::locate(device, &[]).or_fail(format!("cannot read {}", device.display()))?;
    if is_filled || containers.iter().any(|found| found.uuid == journal.luks_uuid) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Refused,
        format!(
            "{} doesn't hold what drive {} was filled with: it is another one with this serial number, or was written to since",
            device.display(),
            identity.id
        ),
    )
    .hint("plug the one that was begun with; to begin with the first step on this one: --restart"))
}

/// Tells the rest of the system of an enrolled drive, and forgets the journal.
fn finish(
    root: &Root,
    options: &Prepare,
    site: &Site,
    report: &Report<'_>,
    journal_path: &Path,
) -> Result<(), Failure> {
    conf::refresh(root, site)?;
    socket::reload(root);
    atomic_file::remove(journal_path)?;
    say(options, "enrolled in site.toml");
    if options.json {
        return report::json(report);
    }
    println!("{}: ready; write {:?} on its sticker", options.device.display(), report.magazine.name);
    Ok(())
}

/// An interrupted fill goes on with the same `prepare`, not with the `wipe` that the fill itself would suggest.
fn again(failure: &Failure) -> Failure {
    Failure::new(failure.exit(), failure.message()).hint("to go on, run the same command again")
}

/// Makes the container, or takes up the one that an interrupted run made.
fn container(
    root: &Root,
    options: &Prepare,
    identity: &Identity,
    journal: &mut Journal,
    journal_path: &Path,
    key: &Secret,
) -> Result<Header, Failure> {
    let device = if options.gpt && !journal.done(Step::Container) {
        luks::make_partition(root, identity, &options.name)?
    } else {
        place(root, options, journal)?
    };
    if !journal.done(Step::Container) {
        let version = if options.luks1 { LuksVersion::Luks1 } else { LuksVersion::Luks2 };
        let label = (!options.luks1).then(|| options.name.clone());
        let format = FormatOptions {
            version,
            label,
            uuid: Some(journal.luks_uuid),
            authenticated: options.authenticated,
            ..FormatOptions::default()
        };
        let slot = KeySlot::new(KEY_SLOT).ok_or_else(|| Failure::new(Exit::Failed, "no such key slot"))?;
        luks::format(root, &device, &format, key, slot)?;
        journal.finish(Step::Container, journal_path)?;
        say(options, &format!("{version} container {}, key file in slot {slot}", journal.luks_uuid));
    }
    let header = Header::read(&device).or_fail(format!("cannot read {}", device.display()))?;
    if header.uuid() != journal.luks_uuid {
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "{} holds the container {}, not {} that was made on it",
                device.display(),
                header.uuid(),
                journal.luks_uuid
            ),
        )
        .hint(format!("if another drive is meant, remove {} and begin anew", journal_path.display())));
    }
    header_backups::enrol(root, &header, &[key])?;
    Ok(header)
}

/// Where the container is, or would be.
fn place(root: &Root, options: &Prepare, journal: &Journal) -> Result<PathBuf, Failure> {
    if journal.takes_whole_drive() {
        return Ok(options.device.clone());
    }
    partition::container_device(root, &options.device)
}

/// Gives the magazine to Bacula and lays empty volumes on it; returns their number.
fn lay_volumes(mounted: &Mounted, site: &Site, options: &Prepare, owner: (Uid, Gid)) -> Result<u32, Failure> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
    let at = mounted.at();
    let (user, group) = (Some(owner.0.as_raw()), Some(owner.1.as_raw()));
    chown(at, user, group).or_fail("cannot give the filesystem to Bacula")?;
    std::fs::set_permissions(at, std::fs::Permissions::from_mode(0o750))
        .or_fail("cannot set the filesystem's mode")?;
    let count = match options.volumes {
        Some(count) => count,
        None => filesystem::volumes_that_fit(at, site.bacula.pool.maximum_volume_bytes.as_bytes())?,
    };
    for number in 1..=count {
        let path = at.join(format!("{}_{}_{number:04}", site.changer.plain_name(), options.name));
        let file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o640).open(&path);
        file.and_then(|_| chown(&path, user, group)).or_fail(format!("cannot make {}", path.display()))?;
    }
    Ok(count)
}

/// Opens the finished drive once more from nothing but the key file, as a restorer will, and as it was enrolled.
fn prove(root: &Root, header: &Header, magazine: &Magazine, key: &Secret) -> Result<(), Failure> {
    let enrolment = header_backups::enrolled(root, header.uuid())?;
    let again = enrolment.read(header.device()).or_fail(format!("{magazine} isn't what it was made as"))?;
    let unlocked = Unlocked::open(&again, &mapping_name(again.uuid()), &[key], true)?;
    Mounted::mount(root, unlocked.path(), &magazine.fs_type, true)?.unmount()?;
    unlocked.lock()
}

/// The user and the group that own a magazine: bacula-sd's user, with its own group.
fn owner(site: &Site) -> Result<(Uid, Gid), Failure> {
    let name = site.bacula.accounts.user.as_str();
    let user = User::from_name(name).or_fail(format!("cannot look the user {name} up"))?;
    user.map(|user| (user.uid, user.gid)).ok_or_else(|| {
        Failure::new(Exit::Failed, format!("there is no user {name}, so nobody could write the volumes"))
            .hint("install Bacula's storage daemon (apt-get install bacula-sd), or set bacula.accounts.user in site.toml")
    })
}

fn dry_run(root: &Root, options: &Prepare, site: &Site, journal: &Journal, identity: &Identity) {
    println!("on {}:", confirm::describe(identity));
    confirm::list_refusals(identity);
    let obstacles = [require_room(options, site, journal, identity), require_device_mapper(root)];
    for failure in obstacles.into_iter().filter_map(Result::err) {
        println!("  but: {}; {}", failure.message(), failure.remedy().unwrap_or_default());
    }
    hidden_area::list(root, identity);
    for line in journal.outline() {
        println!("  {line}");
    }
}

fn say(options: &Prepare, line: &str) {
    if !options.json {
        println!("{}: {line}", options.device.display());
    }
}

impl Filesystem {
    /// Every filesystem that `prepare` can make.
    pub const ALL: [Self; 4] = [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Reiserfs];
}

/// Whether the program that makes this filesystem is installed.
pub fn can_make(fs: Filesystem) -> bool {
    filesystem::Maker::find(fs).is_ok()
}
