//! `site.toml`, the one source of truth: what an administrator writes, checked before anything acts on it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bacula_conf::{Bacula, Name};
use luks_core::{EnrolmentDigest, Fingerprint, LuksUuid};
use mount_by_uuid::{FsUuid, Tag};
use nix::libc::S_ISVTX;
use nix::sys::stat;
use serde::{Deserialize, Serialize};

use super::rotation::Rotation;
use crate::base::failure::{Exit, Failure};
use crate::base::mount_root;
use crate::base::paths::Root;
use crate::base::trusted_path::{self, Distrust};

/// The site as `site.toml` describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The key file that opens every drive.
    #[serde(default = "default_key_file")]
    pub key_file: PathBuf,
    /// The fingerprint of that key, by which a copy of it is recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<Fingerprint>,
    /// A key file that is added to each drive when it is plugged; see `offsite key rotate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_file: Option<PathBuf>,
    /// The fingerprint of that key, so that it is never made a second time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_key_fingerprint: Option<Fingerprint>,
    /// Key files that are removed from each drive when it is plugged, once `key_file` opens it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub old_key_files: Vec<PathBuf>,
    /// The directory below which drives appear, each under its filesystem's UUID.
    #[serde(default = "default_mount_root")]
    pub mount_root: PathBuf,
    /// Seconds without use after which a drive is flushed, unmounted and locked.
    #[serde(default = "default_idle_seconds")]
    pub idle_seconds: u64,
    /// Mount with `sync`, as the tutorial does: slower, and each write is on the drive when it returns.
    #[serde(default)]
    pub sync: bool,
    /// The virtual tape library.
    #[serde(default)]
    pub changer: Changer,
    /// Bacula's daemons, pool, schedule and jobs.
    #[serde(default)]
    pub bacula: Bacula,
    /// How the drives take turns.
    #[serde(default)]
    pub rotation: Rotation,
    /// The enrolled drives, in the order of their enrolment.
    #[serde(default, rename = "magazine")]
    pub magazines: Vec<Magazine>,
}

/// The virtual tape library as Bacula sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Changer {
    /// Its name, which is also that of the Director's Storage resource.
    pub name: String,
    /// Where its state and the links of its drives lie; by default /var/lib/offsite/NAME.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<PathBuf>,
}

impl Default for Changer {
    fn default() -> Self {
        Self { name: "c0".into(), work_dir: None }
    }
}

impl Changer {
    /// The directory of the changer's state and of its drives' links.
    pub fn work_dir(&self) -> PathBuf {
        let default = || Path::new("/var/lib/offsite").join(self.plain_name());
        self.work_dir.clone().unwrap_or_else(default)
    }

    /// Its name without blanks, for paths and the names of volumes.
    pub fn plain_name(&self) -> String {
        self.name.replace(' ', "_")
    }
}

/// One enrolled drive: a magazine of the library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Magazine {
    /// What is written on the sticker.
    pub name: String,
    /// The LUKS container's UUID; without it the drive is a plain, unencrypted one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luks_uuid: Option<LuksUuid>,
    /// What the container's header is recognised by when its backup was lost; drives that were enrolled by earlier versions
    /// have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub luks_digest: Option<EnrolmentDigest>,
    /// The UUID of the filesystem inside.
    pub fs_uuid: FsUuid,
    /// The filesystem's type, as mount(8) names it.
    pub fs_type: String,
    /// The drive's serial number; a USB bridge may hide it, so it is a hint and no proof.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
}

impl Magazine {
    /// What the whole drive is recognised by when it is plugged.
    pub fn tag(&self) -> Tag {
        match self.luks_uuid {
            Some(luks) => Tag::Luks(luks.as_uuid()),
            None => Tag::Filesystem(self.fs_uuid.clone()),
        }
    }
}

/// The mapping's name in /dev/mapper, the same at every plug.
pub fn mapping_name(luks: LuksUuid) -> String {
    format!("offsite-{luks}")
}

/// Whether a mapping has a name that [`mapping_name`] gives, with or without a number behind it.
pub fn is_mapping_name(name: &str) -> bool {
    let luks = name.strip_prefix("offsite-").and_then(|rest| rest.get(..36));
    luks.is_some_and(|luks| luks.parse::<LuksUuid>().is_ok())
}

impl fmt::Display for Magazine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Where the key file lies unless site.toml says otherwise.
pub fn default_key_file() -> PathBuf {
    "/etc/offsite/key".into()
}

fn default_mount_root() -> PathBuf {
    "/srv/offsite".into()
}

fn default_idle_seconds() -> u64 {
    30
}

impl Site {
    /// Reads and checks the site's description.
    pub fn load(root: &Root) -> Result<Self, Failure> {
        let path = root.site_toml();
        let text = read(&path).map_err(|error| {
            let failure = Failure::because(Exit::Usage, format!("cannot read {}", path.display()), &error);
            if error.kind() == io::ErrorKind::NotFound {
                failure.hint("`offsite init` writes a first one")
            } else {
                failure
            }
        })?;
        let text = text.map_err(|(path, distrust)| distrusted(&path, distrust))?;
        Self::parse(&text, &path)
    }

    /// Parses and checks the text of a `site.toml`; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Failure> {
        let mut site: Self = toml::from_str(text).map_err(|error| {
            let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
            let message = error.message().to_owned();
            let failure = Failure::new(Exit::Usage, format!("{}{place}: {message}", path.display()));
            match suggestion(&message) {
                Some(name) => failure.hint(format!("did you mean `{name}`?")),
                None => failure,
            }
        })?;
        site.bacula = site.bacula.settled();
        site.validate().map_err(|(message, hint)| {
            Failure::new(Exit::Usage, format!("{}: {message}", path.display())).hint(hint)
        })?;
        Ok(site)
    }

    fn validate(&self) -> Result<(), (String, String)> {
        let mut seen = BTreeMap::new();
        let mut unique = |kind: &str, value: String, magazine: &str| match seen
            .insert(format!("{kind} {value}"), magazine.to_owned())
        {
            None => Ok(()),
            Some(other) => Err((
                format!("magazines {other:?} and {magazine:?} have the same {kind} {value}"),
                "each drive is enrolled once; remove one of the two [[magazine]] tables".to_owned(),
            )),
        };
        for magazine in &self.magazines {
            check_name("magazine", &magazine.name)?;
            unique("name", magazine.name.to_lowercase(), &magazine.name)?;
            if let Some(luks) = magazine.luks_uuid {
                unique("luks_uuid", luks.to_string(), &magazine.name)?;
            }
            unique("fs_uuid", magazine.fs_uuid.to_string().to_lowercase(), &magazine.name)?;
            check_name("fs_type of magazine", &magazine.fs_type)?;
        }
        Name::new(&*self.changer.name).map_err(|error| {
            let hint = "it is also the name of the Director's Storage resource";
            (format!("changer.name: {error}"), hint.to_owned())
        })?;
        let work_dir = self.changer.work_dir();
        let paths =
            [("key_file", &self.key_file), ("mount_root", &self.mount_root), ("changer.work_dir", &work_dir)];
        let next = self.next_key_file.iter().map(|path| ("next_key_file", path));
        let old = self.old_key_files.iter().map(|path| ("old_key_files", path));
        for (key, path) in paths.into_iter().chain(next).chain(old) {
            if !path.is_absolute() {
                let hint = format!("write {key} from the root directory on, such as /srv/offsite");
                return Err((format!("{key} = {:?} is not an absolute path", path.display()), hint));
            }
        }
        for (key, path) in [("mount_root", &self.mount_root), ("changer.work_dir", &work_dir)] {
            if mount_root::is_of_the_system(path) {
                return Err((
                    format!("{key} = {:?} is a directory of the system", path.display()),
                    "choose an empty directory of its own, such as /srv/offsite".into(),
                ));
            }
        }
        if !(1..=86_400).contains(&self.idle_seconds) {
            return Err((
                format!("idle_seconds = {} is not between 1 and 86400", self.idle_seconds),
                "30 is what the drives are used with by default".into(),
            ));
        }
        Ok(())
    }

    /// The directory at which a magazine's filesystem appears.
    pub fn mount_point(&self, magazine: &Magazine) -> PathBuf {
        self.mount_root.join(magazine.fs_uuid.to_string())
    }

    /// How long a drive may lie idle before it is locked.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }

    /// Finds a magazine by sticker, filesystem UUID, LUKS UUID or serial.
    ///
    /// A serial number that several magazines were enrolled with (docks exist that show one for every drive) finds none
    /// of them.
    pub fn magazine(&self, word: &str) -> Result<&Magazine, Failure> {
        let by_name = |m: &&Magazine| {
            m.name.eq_ignore_ascii_case(word)
                || m.fs_uuid.to_string().eq_ignore_ascii_case(word)
                || m.luks_uuid.is_some_and(|luks| luks.to_string().eq_ignore_ascii_case(word))
        };
        if let Some(named) = self.magazines.iter().find(by_name) {
            return Ok(named);
        }
        let names = |magazines: &[&Magazine], between: &str| {
            magazines.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(between)
        };
        match self.with_serial(word).as_slice() {
            [only] => Ok(only),
            [] => {
                let all: Vec<_> = self.magazines.iter().collect();
                let known = match all.as_slice() {
                    [] => "none is enrolled yet".into(),
                    all => format!("enrolled: {}", names(all, ", ")),
                };
                Err(Failure::new(Exit::NotThere, format!("no magazine is called {word:?}")).hint(known))
            }
            several => Err(Failure::new(
                Exit::Refused,
                format!("{} were all enrolled with the serial number {word:?}", names(several, " and ")),
            )
            .hint("name the sticker; a dock that shows one serial number for every drive tells none apart")),
        }
    }

    /// The magazines that were enrolled with this serial number.
    pub fn with_serial(&self, serial: &str) -> Vec<&Magazine> {
        self.magazines.iter().filter(|m| m.serial.as_deref() == Some(serial)).collect()
    }
}

/// Maximum size of site.toml, in bytes.
const LONGEST: u64 = 4 << 20;

/// Reads a description that root acts on, unless others than root could have written it.
fn read(path: &Path) -> io::Result<Result<String, (PathBuf, Distrust)>> {
    let (file, stat) = trusted_path::open_regular(path, LONGEST)?;
    if let Some(distrust) = trusted_path::distrust(&stat) {
        return Ok(Err((path.to_owned(), distrust)));
    }
    // Whoever may write to its directory could put another file in its place, unless it is one like /tmp.
    let path = std::path::absolute(path)?;
    let directory = path.parent().unwrap_or(&path);
    let found = stat::stat(directory)?;
    let sticky = found.st_uid == 0 && found.st_mode & S_ISVTX != 0;
    if let Some(distrust) = trusted_path::distrust(&found).filter(|_| !sticky) {
        return Ok(Err((directory.to_owned(), distrust)));
    }
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text)?;
    Ok(Ok(text))
}

/// Refuses a file, or what is none, that others than root could have written.
pub fn trust(path: &Path) -> Result<(), Failure> {
    let read = read(path)
        .map_err(|error| Failure::because(Exit::Usage, format!("cannot read {}", path.display()), &error))?;
    read.map(drop).map_err(|(path, distrust)| distrusted(&path, distrust))
}

/// What to say of a file that others may change.
fn distrusted(path: &Path, distrust: Distrust) -> Failure {
    let shown = path.display();
    let (what, remedy) = match distrust {
        Distrust::Owner(uid) => (format!("belongs to user {uid}"), format!("chown root {shown}")),
        Distrust::Mode(mode) => {
            (format!("can be written by others (mode {mode:04o})"), format!("chmod go-w {shown}"))
        }
    };
    Failure::new(Exit::Usage, format!("{shown} {what}, who could make root do anything"))
        .hint(format!("look at what it says, then: {remedy}"))
}

/// Stickers become parts of volume labels, so they keep to the characters that Bacula allows there.
pub fn check_name(what: &str, name: &str) -> Result<(), (String, String)> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 40 || !name.chars().all(allowed) || name.starts_with(['.', '-']) {
        return Err((
            format!("{what} name {name:?} can't be used"),
            "1 to 40 letters, digits, points, underscores or hyphens, beginning with none of `.` and `-`"
                .into(),
        ));
    }
    Ok(())
}

/// `:line:column`, both from 1, of a byte offset.
fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!(":{line}:{column}")
}

/// The known key nearest to the one that serde's message (``unknown field `a`, expected one of `b`, `c` ``) refuses.
fn suggestion(message: &str) -> Option<&str> {
    let mut words = message.split('`').skip(1).step_by(2);
    let unknown = message.starts_with("unknown field").then(|| words.next()).flatten()?;
    words
        .map(|known| (strsim::damerau_levenshtein(unknown, known), known))
        .filter(|(distance, known)| *distance <= known.len() / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Site, Failure> {
        Site::parse(text, Path::new("site.toml"))
    }

    #[test]
    fn an_empty_description_is_a_whole_site() {
        let site = parse("").unwrap();
        assert_eq!(site.mount_root, Path::new("/srv/offsite"));
        assert_eq!(site.changer.work_dir(), Path::new("/var/lib/offsite/c0"));
    }

    #[test]
    fn a_directory_of_the_system_is_not_covered() {
        for text in ["mount_root = \"/etc\"", "mount_root = \"/\"", "[changer]\nwork_dir = \"/var/lib\""] {
            let failure = parse(text).unwrap_err();
            assert!(failure.message().contains("is a directory of the system"), "{failure}");
        }
    }

    #[test]
    fn a_site_that_others_may_write_is_refused_with_the_remedy() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path());
        let path = root.site_toml();
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        for (mode, remedy) in
            [(0o666, Some("chmod go-w")), (0o664, Some("chmod go-w")), (0o644, None), (0o600, None)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            match (Site::load(&root), remedy) {
                (Ok(_), None) => {}
                (Err(failure), Some(remedy)) => {
                    assert!(failure.remedy().unwrap().contains(remedy), "{failure}");
                }
                (other, _) => panic!("{mode:o}: {other:?}"),
            }
        }
        std::fs::set_permissions(path.parent().unwrap(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Site::load(&root).unwrap_err().remedy().unwrap().contains("chmod go-w"));
        if nix::unistd::geteuid().is_root() {
            chown(&path, Some(65_534), None).unwrap();
            let failure = Site::load(&root).unwrap_err();
            assert!(failure.remedy().unwrap().contains("chown root"), "{failure}");
        }
    }

    #[test]
    fn an_unknown_key_is_placed_and_corrected() {
        let failure = parse("key_file = \"/k\"\nmont_root = \"/mnt\"\n").unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.message().starts_with("site.toml:2:1: unknown field `mont_root`"), "{failure}");
        assert_eq!(failure.remedy(), Some("did you mean `mount_root`?"));
    }

    #[test]
    fn two_magazines_with_one_uuid_are_refused() {
        let one = "[[magazine]]\nname = \"A\"\nluks_uuid = \"6c5b725d-50c4-4605-b750-4f23575b9b5f\"\n\
                   fs_uuid = \"e6ffe50b-bbe7-854f-fea8-766ae1265eba\"\nfs_type = \"ext4\"\n";
        let failure = parse(&format!("{one}{}", one.replace("\"A\"", "\"B\""))).unwrap_err();
        assert!(failure.message().contains("\"A\" and \"B\" have the same luks_uuid"), "{failure}");
    }

    #[test]
    fn a_serial_number_that_two_magazines_have_finds_neither() {
        let magazine = |name: &str, uuid: char| {
            format!(
                "[[magazine]]\nname = \"{name}\"\nfs_uuid = \"{uuid}6ffe50b-bbe7-854f-fea8-766ae1265eba\"\n\
                 fs_type = \"ext4\"\nserial = \"0123\"\n"
            )
        };
        let one = parse(&magazine("A", 'e')).unwrap();
        assert_eq!(one.magazine("0123").unwrap().name, "A");
        let two = parse(&(magazine("A", 'e') + &magazine("B", 'f'))).unwrap();
        let failure = two.magazine("0123").unwrap_err();
        assert_eq!(failure.exit(), Exit::Refused);
        assert!(failure.message().contains("A and B"), "{failure}");
        assert_eq!(two.magazine("b").unwrap().name, "B");
        // A sticker goes before another one's serial number.
        let named = parse(&(magazine("A", 'e') + &magazine("0123", 'f'))).unwrap();
        assert_eq!(named.magazine("0123").unwrap().name, "0123");
    }

    #[test]
    fn a_sticker_that_bacula_would_not_take_is_refused() {
        assert!(check_name("magazine", "A-1").is_ok());
        for name in ["", "a b", "a/b", "-x", ".x", "ä"] {
            assert!(check_name("magazine", name).is_err(), "{name:?}");
        }
    }
}
