//! `offsite conf --style`: mounting on demand with stock parts in place of offsited, for those who prefer them.
//!
//! `udev+autofs` is the tutorial's rule and maps, repaired: udev's worker only starts what unlocks and doesn't wait for
//! it, the map is a plain list of the enrolled drives and isn't executable, a failure is remembered for a second only,
//! and what a pulled drive leaves behind is cleared away. `systemd` needs no rule: the appearance of a drive starts its
//! automount unit, an access starts the mount and through it the unlocking, and both end when the drive lies idle.

use std::path::{Path, PathBuf};

use bacula_conf::{GeneratedFile, Origin};

use crate::base::failure::{Exit, Failure};
use crate::commands::arguments::Style;
use crate::site::description::{Magazine, Site, mapping_name};

/// Where the rule is; it comes after udev's own, which find out what a device holds.
const RULES: &str = "/etc/udev/rules.d/90-offsite.rules";
const MASTER_MAP: &str = "/etc/auto.master.d/offsite.autofs";
const MAP: &str = "/etc/offsite/auto.offsite";
const HELPER: &str = "/etc/offsite/stock-drive.sh";
const UNITS: &str = "/etc/systemd/system";
/// How every drive is mounted.
const OPTIONS: &str = "rw,nosuid,nodev,noexec";

/// What a person does after the files of a style are written.
pub(super) fn next_steps(site: &Site, style: Style) -> String {
    let start = match style {
        Style::UdevAutofs => "udevadm control --reload; systemctl restart autofs".to_owned(),
        Style::Systemd => {
            let units = escape_path(&site.mount_root.display().to_string());
            format!("systemctl daemon-reload; systemctl enable {UNITS}/{units}-*.automount")
        }
    };
    format!("systemctl disable --now offsited; {start}; then plug a drive")
}

/// The files of a style, unless those of another one are below `directory`: the two would work against each other.
pub(super) fn files_beside(
    site: &Site,
    style: Style,
    directory: &Path,
) -> Result<Vec<GeneratedFile>, Failure> {
    let here = |path: &Path| directory.join(path.strip_prefix("/").unwrap_or(path));
    let ours = |path: &Path| {
        std::fs::read_to_string(path).is_ok_and(|text| bacula_conf::inspect(&text) != Origin::Foreign)
    };
    plain_paths(site)?;
    let own = files(site, style);
    let others = <Style as clap::ValueEnum>::value_variants().iter().filter(|other| **other != style);
    let left: Vec<PathBuf> =
        others.flat_map(|other| files(site, *other)).map(|f| here(&f.path)).filter(|p| ours(p)).collect();
    if left.is_empty() {
        return Ok(own);
    }
    let names: Vec<_> = left.iter().map(|p| format!("'{}'", p.display())).collect();
    Err(Failure::new(
        Exit::Refused,
        "the files of another style are there, and both would work on the drives",
    )
    .hint(format!("take them away first: rm {}", names.join(" "))))
}

/// Refuses paths that shells, maps, rules or units would take for something else.
fn plain_paths(site: &Site) -> Result<(), Failure> {
    for path in [&site.key_file, &site.mount_root] {
        let text = path.display().to_string();
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
            return Err(Failure::new(Exit::Usage, format!("stock parts can't be given the path {text:?}"))
                .hint("choose one of letters, digits, points, underscores and hyphens"));
        }
    }
    Ok(())
}

/// The files of a style for the enrolled drives.
pub(super) fn files(site: &Site, style: Style) -> Vec<GeneratedFile> {
    match style {
        Style::UdevAutofs => udev_and_autofs(site),
        Style::Systemd => systemd(site),
    }
}

fn file(path: impl Into<PathBuf>, notes: &[&str], body: &str) -> GeneratedFile {
    let mut all = vec!["Use it in place of offsited, never beside it.".to_owned()];
    all.extend(notes.iter().map(|note| (*note).to_owned()));
    GeneratedFile {
        path: path.into(),
        mode: 0o644,
        owner: "root".into(),
        group: "root".into(),
        text: bacula_conf::with_header(Path::new("/etc/offsite/site.toml"), &all, body),
    }
}

/// What is mounted: the mapping of an encrypted drive, the filesystem of a plain one.
fn source(magazine: &Magazine) -> String {
    match magazine.luks_uuid {
        Some(luks) => format!("/dev/mapper/{}", mapping_name(luks)),
        None => format!("/dev/disk/by-uuid/{}", magazine.fs_uuid),
    }
}

fn options(site: &Site) -> String {
    if site.sync { format!("{OPTIONS},sync") } else { OPTIONS.to_owned() }
}

fn udev_and_autofs(site: &Site) -> Vec<GeneratedFile> {
    let root = site.mount_root.display();
    let mut rules = String::from("SUBSYSTEM!=\"block\", GOTO=\"offsite_end\"\n");
    let mut map = String::new();
    for magazine in &site.magazines {
        let (fs, fs_type) = (&magazine.fs_uuid, &magazine.fs_type);
        map.push_str(&format!("{fs}\t-fstype={fs_type},{}\t:{}\n", options(site), source(magazine)));
        let Some(luks) = magazine.luks_uuid else { continue };
        rules.push_str(&format!(
            "# {magazine}\n\
             ACTION==\"add\", ENV{{ID_FS_TYPE}}==\"crypto_LUKS\", ENV{{ID_FS_UUID}}==\"{luks}\", \
             RUN+=\"/bin/sh {HELPER} start open {luks} {fs} $devnode\"\n\
             ACTION==\"remove\", ENV{{ID_FS_UUID}}==\"{luks}\", \
             RUN+=\"/bin/sh {HELPER} start close {luks} {fs}\"\n"
        ));
    }
    rules.push_str("LABEL=\"offsite_end\"\n");
    let helper = include_str!("stock/drive.sh")
        .replace("@KEY@", &site.key_file.display().to_string())
        .replace("@ROOT@", &root.to_string());
    let master = format!("{root} {MAP} --timeout={} --negative-timeout=1\n", site.idle_seconds);
    vec![
        file(
            RULES,
            &[
                "Enrolled drives alone are unlocked. Nothing here waits for the unlocking: cryptsetup waits for",
                "udev, so inside a udev worker it may wait for itself (180 seconds in the tutorial).",
            ],
            &rules,
        ),
        file(HELPER, &[], &helper),
        file(MASTER_MAP, &["A drive that wasn't there a second ago is looked for again."], &master),
        file(MAP, &["Never make it executable: autofs would run it in place of reading it."], &map),
    ]
}

fn systemd(site: &Site) -> Vec<GeneratedFile> {
    let unlock = include_str!("stock/unlock.service").replace("@KEY@", &site.key_file.display().to_string());
    let notes = ["Locks the drive when nothing that is mounted from it needs it any more."];
    let mut files = vec![file(format!("{UNITS}/offsite-unlock@.service"), &notes, &unlock)];
    for magazine in &site.magazines {
        let at = site.mount_point(magazine);
        let unit = escape_path(&at.display().to_string());
        let device = source(magazine);
        let (drive, needs) = match magazine.luks_uuid {
            Some(luks) => {
                let uuid = escape_path(&luks.to_string());
                let unlock = format!("offsite-unlock@{uuid}.service");
                (format!("dev-disk-by\\x2duuid-{uuid}.device"), format!("BindsTo={unlock}\nAfter={unlock}\n"))
            }
            None => (format!("{}.device", escape_path(&device)), String::new()),
        };
        let check = format!("systemd-fsck@{}.service", escape_path(&device));
        let mount = format!(
            "[Unit]\nDescription=Offsite drive {magazine}\n{needs}Requires={check}\nAfter={check}\n\n\
             [Mount]\nWhat={device}\nWhere={at}\nType={fs_type}\nOptions={options}\n\
             # When the drive is pulled its mount goes at once, whoever uses it.\nLazyUnmount=yes\nTimeoutSec=60\n",
            at = at.display(),
            fs_type = magazine.fs_type,
            options = options(site),
        );
        let automount = format!(
            "[Unit]\nDescription=Offsite drive {magazine}, on demand\n\
             # There only while the drive is plugged: an access to an absent one must not wait for it.\n\
             BindsTo={drive}\nAfter={drive}\n\n\
             [Automount]\nWhere={at}\nTimeoutIdleSec={idle}\n\n\
             [Install]\nWantedBy={drive}\n",
            at = at.display(),
            idle = site.idle_seconds,
        );
        files.push(file(format!("{UNITS}/{unit}.mount"), &[], &mount));
        files.push(file(format!("{UNITS}/{unit}.automount"), &[], &automount));
    }
    files
}

/// The name that systemd gives a path (`systemd-escape --path`, systemd.unit(5)).
fn escape_path(path: &str) -> String {
    let trimmed = path.trim_matches('/');
    let mut name = String::new();
    for byte in trimmed.bytes() {
        match byte {
            b'/' => name.push('-'),
            b'.' if name.is_empty() => name.push_str("\\x2e"),
            b'_' | b':' | b'.' => name.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    if name.is_empty() { "-".into() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITE: &str = "[[magazine]]\nname = \"A\"\nluks_uuid = \"6c5b725d-50c4-4605-b750-4f23575b9b5f\"\n\
        fs_uuid = \"e6ffe50b-bbe7-854f-fea8-766ae1265eba\"\nfs_type = \"ext4\"\n\
        [[magazine]]\nname = \"B\"\nfs_uuid = \"f73dedc6-e570-e605-02d3-5ad3a07519b9\"\nfs_type = \"xfs\"\n";

    fn shown(style: Style) -> String {
        let site = Site::parse(SITE, Path::new("site.toml")).unwrap();
        let files = files(&site, style);
        assert!(files.iter().all(|f| f.mode & 0o111 == 0), "autofs runs a map that is executable");
        assert!(files.iter().all(|f| bacula_conf::inspect(&f.text) == Origin::Ours));
        let text = |f: &GeneratedFile| format!("==> {}\n{}", f.path.display(), f.text);
        files.iter().map(text).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn udev_and_autofs_files() {
        insta::assert_snapshot!(shown(Style::UdevAutofs));
    }

    #[test]
    fn systemd_files() {
        insta::assert_snapshot!(shown(Style::Systemd));
    }

    #[test]
    fn paths_are_escaped_as_systemd_does() {
        assert_eq!(escape_path("/srv/off site/a-b.c"), "srv-off\\x20site-a\\x2db.c");
        assert_eq!(escape_path("/"), "-");
        assert_eq!(escape_path("/.x/ä"), "\\x2ex-\\xc3\\xa4");
    }

    #[test]
    fn two_styles_are_never_mixed() {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::parse(SITE, Path::new("site.toml")).unwrap();
        let files = files_beside(&site, Style::Systemd, directory.path()).unwrap();
        let first = files.first().unwrap();
        let path = directory.path().join(first.path.strip_prefix("/").unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &first.text).unwrap();
        assert!(files_beside(&site, Style::Systemd, directory.path()).is_ok());
        let failure = files_beside(&site, Style::UdevAutofs, directory.path()).unwrap_err();
        assert!(failure.remedy().unwrap().contains("offsite-unlock@.service"), "{failure}");
    }
}
