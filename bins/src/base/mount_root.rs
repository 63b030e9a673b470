//! Where drives may appear: in a directory that nothing else needs.

use std::io;
use std::path::Path;

use mount_by_uuid::{MountTable, System};

use super::failure::{Exit, Failure, OrFail as _};

/// Directories of the system, none of which may be covered by drives or given to Bacula.
const SYSTEM: [&str; 26] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/media",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/lib/offsite",
    "/run/offsite",
];

/// Directories in which programs of the system expect what is theirs, and nothing else.
const CLOSED: [&str; 10] =
    ["/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"];

/// Whether a path is one of the system's own directories, or lies where only the system's files belong.
pub fn is_of_the_system(path: &Path) -> bool {
    let covers = SYSTEM.iter().any(|own| Path::new(own).starts_with(path));
    covers || CLOSED.iter().any(|closed| path.starts_with(closed))
}

/// Refuses a mount root that holds something: the drives would hide it.
pub fn check(system: &System, mount_root: &Path) -> Result<(), Failure> {
    let shown = mount_root.display();
    let mounts = MountTable::read(system).or_fail("cannot read the mount table")?;
    if mounts.at(mount_root).is_some_and(|mount| mount.fs_type == "autofs") {
        return Ok(()); // left by a daemon before
    }
    let hidden = match first_hidden(mount_root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(Failure::new(Exit::Refused, format!("mount_root {shown} is no directory"))
                .hint("remove what is there, or choose another directory in site.toml"));
        }
        hidden => hidden.or_fail(format!("cannot look into {shown}"))?,
    };
    match hidden {
        None => Ok(()),
        Some(name) => Err(Failure::new(
            Exit::Refused,
            format!("mount_root {shown} is not empty: the drives would hide {name:?}"),
        )
        .hint("empty it, or choose another directory in site.toml")),
    }
}

/// The first name in a directory that is more than an empty directory.
fn first_hidden(directory: &Path) -> io::Result<Option<String>> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        // Mount points that another automounter left are empty directories.
        let empty = entry.file_type()?.is_dir() && entry.path().read_dir()?.next().is_none();
        if !empty {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_directories_are_known() {
        for path in [
            "/",
            "/etc",
            "/etc/offsite",
            "/usr",
            "/usr/share/x",
            "/home",
            "/var",
            "/var/lib",
            "/srv",
            "/proc/1",
            "/run",
        ] {
            assert!(is_of_the_system(Path::new(path)), "{path}");
        }
        for path in [
            "/srv/offsite",
            "/mnt",
            "/mnt/offsite",
            "/media/offsite",
            "/var/lib/offsite/c0",
            "/home/backup/drives",
            "/run/drives",
        ] {
            assert!(!is_of_the_system(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn only_an_empty_directory_may_be_covered() {
        let directory = tempfile::tempdir().unwrap();
        let system = System::new(Path::new("/"));
        assert!(check(&system, directory.path()).is_ok());
        assert!(check(&system, &directory.path().join("missing")).is_ok());
        std::fs::create_dir(directory.path().join("mount-point")).unwrap();
        assert!(check(&system, directory.path()).is_ok());
        std::fs::write(directory.path().join("mount-point/file"), "").unwrap();
        let failure = check(&system, &directory.path().join("mount-point/file")).unwrap_err();
        assert!(failure.message().ends_with("is no directory"), "{failure}");
        let failure = check(&system, directory.path()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Refused);
        assert!(failure.message().contains("would hide \"mount-point\""), "{failure}");
    }
}
