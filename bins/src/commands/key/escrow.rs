//! `offsite key export` and `import`: the key sealed for the safe, or split among people.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use luks_core::{
    Fingerprint, KeyFileError, KeyShare, Secret, is_sealed, is_sealed_to_passphrase, join_key, load_key_copy,
    save_key_file, seal_to_passphrase, seal_to_recipients, split_key, unseal_by_identities,
    unseal_by_passphrase,
};
use zeroize::Zeroizing;

use super::mangled;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::{atomic_file, secret_input};
use crate::records::header_backups;
use crate::records::keyring::{check_fingerprint, opens};
use crate::site::description::{Site, default_key_file};
use crate::site::{edit, key_file};

/// No sealed key or share is longer than this many bytes.
const LONGEST: u64 = 16 << 20;

/// Seals the key into a new file.
pub(super) fn export(
    key: &Secret,
    to: &Path,
    recipients: &[String],
    passphrase: bool,
) -> Result<(), Failure> {
    refuse_taken(to)?;
    let sealed = if passphrase {
        seal_to_passphrase(key, &secret_input::passphrase("Passphrase for the sealed key", true)?)
    } else {
        seal_to_recipients(key, recipients)
    };
    let sealed = sealed.or_exit(Exit::Usage, "the key was not sealed")?;
    write_new(to, &sealed)?;
    println!(
        "{}: the key {}, sealed; `age -d` opens it, and `offsite key import`",
        to.display(),
        key.fingerprint()
    );
    Ok(())
}

/// Writes the shares of a key, each into a new file `TO.1`, `TO.2` and so on.
pub(super) fn split(key: &Secret, to: &Path, numbers: &str) -> Result<(), Failure> {
    let (needed, shares) = numbers
        .split_once('/')
        .and_then(|(needed, shares)| Some((needed.parse().ok()?, shares.parse().ok()?)))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, format!("{numbers:?} is not of the form K/N"))
                .hint("2/3 makes three shares, of which any two give the key back")
        })?;
    let shares = split_key(key, needed, shares).or_exit(Exit::Usage, "the key was not split")?;
    let path = |share: &KeyShare| {
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".{}", share.number()));
        PathBuf::from(name)
    };
    shares.iter().try_for_each(|share| refuse_taken(&path(share)))?;
    for share in &shares {
        write_new(&path(share), share.expose_text().as_bytes())?;
        println!("{}", path(share).display());
    }
    println!("any {needed} of them give the key {} back: offsite key import", key.fingerprint());
    Ok(())
}

/// Brings a key back and writes it where it belongs, if it is the right one.
pub(super) fn import(
    root: &Root,
    from: &[PathBuf],
    identity: Option<&Path>,
    to: Option<&Path>,
    fingerprint: Option<&str>,
) -> Result<(), Failure> {
    let site = if root.site_toml().exists() { Some(Site::load(root)?) } else { None };
    let own = root.join(site.as_ref().map_or_else(default_key_file, |site| site.key_file.clone()));
    let to = to.map_or_else(|| own.clone(), Path::to_owned);
    let key = bring_back(from, identity)?;
    let proved = prove(root, site.as_ref(), &to, &key, fingerprint);
    let other = match proved {
        Ok(known) if known.is_proof() => None,
        _ => other_reading(root, site.as_ref(), &to, &key, fingerprint, from)?,
    };
    let (key, known) = match (other, proved) {
        (Some(other), _) => other,
        (None, Ok(known)) if known.is_proof() || !mangled::is_text(key.expose()) => (key, known),
        (None, Ok(_)) => return Err(looks_like_text(from)),
        (None, Err(failure)) => match wrong_import(root, site.as_ref(), &to, &key, fingerprint)? {
            Some(site) => return replace_wrong(root, site, &to, &key),
            None => return Err(failure),
        },
    };
    let found = key.fingerprint();
    if let Ok(there) = key_file::load(&to) {
        if there.fingerprint() == found {
            println!("{}: the key {found} is there already, and the same", to.display());
            return Ok(());
        }
        if known.is_proof()
            && let Some(site) = wrong_import(root, site.as_ref(), &to, &key, fingerprint)?
        {
            return replace_wrong(root, site, &to, &key);
        }
    }
    if let Some(directory) = to.parent().filter(|directory| same_place(&to, &own) && !directory.exists()) {
        atomic_file::directory(directory, 0o755)?;
    }
    save(&to, &key)?;
    println!("{}: the key {found}, {}", to.display(), known.words());
    Ok(())
}

/// By what a key was recognised.
#[derive(Clone, Copy)]
enum Proof {
    Named,
    Fingerprint,
    Backup,
    /// There is no site.toml.
    NoSite,
    /// site.toml names no key, and there is no header backup.
    NoBackup,
}

impl Proof {
    fn is_proof(self) -> bool {
        !matches!(self, Self::NoSite | Self::NoBackup)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Named => "as site.toml names it",
            Self::Fingerprint => "as its fingerprint says",
            Self::Backup => "and it opens a drive's header backup",
            Self::NoSite => "not compared with anything: there is no site.toml",
            Self::NoBackup => {
                "not compared with anything: site.toml has no key_fingerprint and there is no header backup"
            }
        }
    }
}

/// What a plain copy was before it was changed on its way, if that proves to be the right key.
fn other_reading(
    root: &Root,
    site: Option<&Site>,
    to: &Path,
    copy: &Secret,
    fingerprint: Option<&str>,
    from: &[PathBuf],
) -> Result<Option<(Secret, Proof)>, Failure> {
    if from.len() != 1 {
        return Ok(None);
    }
    for mut reading in mangled::readings(copy.expose()) {
        let key = Secret::from_bytes(std::mem::take(&mut *reading.bytes));
        let proved = match prove(root, site, to, &key, fingerprint) {
            Ok(proof) => proof.is_proof().then_some(proof),
            Err(failure) if failure.exit() == Exit::Refused => None,
            Err(failure) => return Err(failure),
        };
        if let Some(proof) = proved {
            println!("the copy was changed on its way ({}); this is undone", reading.how);
            return Ok(Some((key, proof)));
        }
    }
    Ok(None)
}

fn looks_like_text(from: &[PathBuf]) -> Failure {
    let shown = from.first().map(|path| path.display().to_string()).unwrap_or_default();
    Failure::new(Exit::Refused, format!("{shown} is a text, and nothing here proves that it is a key")).hint(
        "look for the copy itself, or name the fingerprint that it must have: --fingerprint FINGERPRINT",
    )
}

/// The site whose key file holds what opens no drive, while `key` opens one: a wrong import, to be replaced.
fn wrong_import(
    root: &Root,
    site: Option<&Site>,
    to: &Path,
    key: &Secret,
    fingerprint: Option<&str>,
) -> Result<Option<Site>, Failure> {
    let Some(site) = site.filter(|site| same_place(to, &root.join(&site.key_file))) else { return Ok(None) };
    // While keys are exchanged, one that opens a drive may be an old one.
    if site.next_key_file.is_some() || !site.old_key_files.is_empty() || fingerprint.is_some() {
        return Ok(None);
    }
    let Ok(there) = key_file::load(to) else { return Ok(None) };
    let mut opened = false;
    for backup in &backups(root, site) {
        if opens(backup, &there)? {
            return Ok(None);
        }
        opened |= opens(backup, key)?;
    }
    Ok(opened.then(|| site.clone()))
}

/// Puts the right key in the place of a wrong one, which is kept beside it.
fn replace_wrong(root: &Root, site: Site, to: &Path, key: &Secret) -> Result<(), Failure> {
    let kept = |number: u32| {
        let mut name = to.as_os_str().to_owned();
        name.push(format!(".wrong-{number}"));
        PathBuf::from(name)
    };
    let kept =
        (1..=u32::MAX).map(kept).find(|path| path.symlink_metadata().is_err()).unwrap_or_else(|| kept(0));
    std::fs::hard_link(to, &kept).or_fail(format!("cannot keep the wrong key as {}", kept.display()))?;
    atomic_file::replace(to, 0o400, key.expose())?;
    let print = key.fingerprint();
    edit::set_keys(root, &Site { key_fingerprint: Some(print), ..site })?;
    println!("{}: the key {print}, which opens a drive's header backup", to.display());
    println!("What was there opens none; it is kept as {}", kept.display());
    Ok(())
}

fn backups(root: &Root, site: &Site) -> Vec<luks_core::Container> {
    let magazines = site.magazines.iter();
    magazines
        .filter_map(|magazine| header_backups::load(root, magazine.luks_uuid?, &magazine.name).ok())
        .collect()
}

/// Writes a key that was brought back; never over another one.
pub(super) fn save(to: &Path, key: &Secret) -> Result<(), Failure> {
    save_key_file(to, key).map_err(|error| {
        let taken = matches!(error, KeyFileError::Exists { .. });
        let exit = if taken { Exit::Refused } else { Exit::Failed };
        Failure::because(exit, "the key was not written", &error)
    })
}

/// Whether two paths name one place, though there may be nothing yet.
fn same_place(a: &Path, b: &Path) -> bool {
    let directory = |path: &Path| path.parent().and_then(|directory| directory.canonicalize().ok());
    a == b || (a.file_name() == b.file_name() && directory(a).is_some() && directory(a) == directory(b))
}

/// Refuses a key that isn't the one which belongs at `to`; says by what it was recognised.
fn prove(
    root: &Root,
    site: Option<&Site>,
    to: &Path,
    key: &Secret,
    fingerprint: Option<&str>,
) -> Result<Proof, Failure> {
    let found = key.fingerprint();
    if let Some(text) = fingerprint {
        let expected: Fingerprint = text.parse().or_exit(Exit::Usage, "that is no fingerprint")?;
        if expected != found {
            return Err(Failure::new(Exit::Refused, format!("it is the key {found}, not {expected}")));
        }
    }
    let by_fingerprint = fingerprint.map(|_| Proof::Fingerprint);
    let Some(site) = site else { return Ok(by_fingerprint.unwrap_or(Proof::NoSite)) };
    let goes_to = |path: &Path| same_place(to, &root.join(path));
    let expected = match &site.next_key_file {
        Some(next) if goes_to(next) => site.next_key_fingerprint,
        _ if fingerprint.is_none() || goes_to(&site.key_file) => site.key_fingerprint,
        _ => None,
    };
    check_fingerprint(expected, found)?;
    if expected.is_some() {
        return Ok(Proof::Named);
    }
    if let Some(known) = by_fingerprint {
        return Ok(known);
    }
    // A site.toml of an earlier version names no key; a header backup that it opens says as much.
    let backups = backups(root, site);
    if backups.is_empty() {
        return Ok(Proof::NoBackup);
    }
    for backup in &backups {
        if opens(backup, key)? {
            return Ok(Proof::Backup);
        }
    }
    Err(Failure::new(Exit::Refused, format!("it is the key {found}, which opens no drive's header backup"))
        .hint("look for the right copy"))
}

/// What a copy of the key can be.
enum Form {
    Plain,
    Sealed,
    Share,
}

/// The key behind a plain copy, a sealed one, or enough shares.
pub(super) fn bring_back(from: &[PathBuf], identity: Option<&Path>) -> Result<Secret, Failure> {
    let mut shares = Vec::with_capacity(from.len());
    for path in from {
        let shown = path.display();
        let (form, unwrapped) = form(path)?;
        match (form, from.len()) {
            (Form::Plain, 1) => {
                return load_key_copy(path)
                    .map_err(|error| Failure::because(Exit::Usage, "the copy can't be used", &error));
            }
            (Form::Sealed, 1) => return unseal(&unwrapped, identity),
            (Form::Plain, _) => {
                return Err(Failure::new(Exit::Usage, format!("{shown} is no share of a key")));
            }
            (Form::Sealed, _) => {
                return Err(Failure::new(Exit::Usage, format!("{shown} is a sealed key; name it alone")));
            }
            (Form::Share, _) => {
                let text =
                    std::str::from_utf8(&unwrapped).or_exit(Exit::Usage, format!("{shown} is no text"))?;
                shares.push(KeyShare::parse(text).or_exit(Exit::Usage, shown)?);
            }
        }
    }
    join_key(&shares)
        .or_exit(Exit::Failed, "the shares don't give a key back")
        .map_err(|failure| failure.hint("name enough of them, one behind the other"))
}

/// What a copy is, and where it is no plain key its bytes, without what armor, mail and editors put around them.
fn form(path: &Path) -> Result<(Form, Zeroizing<Vec<u8>>), Failure> {
    let mut start = Zeroizing::new([0; 64]);
    let len = open(path)?.read(&mut *start).unwrap_or_default();
    let start = start.get(..len).unwrap_or_default();
    if is_sealed(start) {
        return Ok((Form::Sealed, read(path)?));
    }
    // What is no file, or longer than any text, is told by those who load it.
    let Some(bytes) = read(path).ok().and_then(|bytes| mangled::unwrapped(&bytes)) else {
        return Ok((Form::Plain, Zeroizing::default()));
    };
    Ok((if is_sealed(&bytes) { Form::Sealed } else { Form::Share }, bytes))
}

fn open(path: &Path) -> Result<File, Failure> {
    let mut options = File::options();
    let opened = options.read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let exit = if path.exists() { Exit::Failed } else { Exit::NotThere };
    opened.or_exit(exit, format!("cannot read {}", path.display()))
}

fn unseal(sealed: &[u8], identity: Option<&Path>) -> Result<Secret, Failure> {
    let by_passphrase =
        is_sealed_to_passphrase(sealed).or_exit(Exit::Failed, "the sealed key can't be read")?;
    let key = match identity {
        Some(path) => unseal_by_identities(sealed, &Secret::from_bytes(std::mem::take(&mut *read(path)?))),
        None if by_passphrase => {
            unseal_by_passphrase(sealed, &secret_input::passphrase("Passphrase of the sealed key", false)?)
        }
        None => {
            return Err(Failure::new(Exit::Usage, "the key is sealed to recipients")
                .hint("give the file with one of their identities: --identity PATH"));
        }
    };
    key.or_exit(Exit::Failed, "the sealed key was not opened")
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = || format!("cannot read {}", path.display());
    let file = open(path)?;
    let metadata = file.metadata().or_fail(failed())?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return Err(Failure::new(
            Exit::Usage,
            format!("{} is no sealed key, share or identity file", path.display()),
        ));
    }
    let mut bytes =
        Zeroizing::new(Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default() + 1));
    file.take(LONGEST).read_to_end(&mut bytes).or_fail(failed())?;
    Ok(bytes)
}

fn refuse_taken(path: &Path) -> Result<(), Failure> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, format!("{} exists and is not overwritten", path.display()))
        .hint("choose another name, or move it away"))
}

/// Writes a file that appears whole or not at all, for its owner alone.
fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    refuse_taken(path)?;
    let path = if path.parent() == Some(Path::new("")) { Path::new(".").join(path) } else { path.to_owned() };
    if !atomic_file::replace_on_stick(&path, 0o400, bytes)? {
        println!("{}: this filesystem keeps no permissions; keep others away from it", path.display());
    }
    Ok(())
}
