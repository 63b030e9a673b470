//! Which files Bacula's programs read: their four main files, what these include, and the changer's.

use std::io;
use std::path::{Path, PathBuf};

use bacula_conf::{Finding, Includes, Program as Reader};
use nix::unistd::geteuid;

use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::program::{Program, locate};
use crate::base::trusted_path;
use crate::site::accounts;
use crate::site::description::Site;

/// The main files of the Director, the storage daemon, the file daemon and the console.
const MAIN: [&str; 4] = ["bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf", "bconsole.conf"];

/// Maximum size of a configuration file, in bytes.
pub(crate) const MOST: u64 = 16 << 20;

/// What the programs read.
pub(crate) struct Live {
    /// Each file with its text.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// What is wrong with includes.
    pub(crate) findings: Vec<Finding>,
    /// Files that look like configuration and that nothing includes, such as old copies.
    pub(crate) unread: Vec<PathBuf>,
}

/// Reads the configuration below a directory.
pub(crate) fn read(root: &Root, directory: &Path, run_includes: bool) -> Result<Live, Failure> {
    let candidates = candidates(directory)?;
    let mut given = Vec::new();
    for path in mains(directory, &candidates) {
        let text = text(path).or_fail(format!("cannot read {}", path.display()))?;
        given.push((path.clone(), text));
    }
    let mut disk = Disk { root, directory, run: run_includes };
    let (mut files, findings) = bacula_conf::follow(given, &mut disk);
    for settings in bacula_conf::settings(&files) {
        let changer = settings.text("Changer Device").filter(|_| settings.program == Reader::Storage);
        let Some(config) = changer.and_then(|named| disk.add(&named, &mut files)) else { continue };
        // The changer's console has a file of its own.
        if let Some(console) = console_of(&config) {
            disk.add(&console, &mut files);
        }
    }
    let unread =
        candidates.into_iter().filter(|path| !files.iter().any(|(known, _)| known == path)).collect();
    Ok(Live { files, findings, unread })
}

/// The text of a regular file, for which no link is followed that others could have made. Comments may be in any
/// encoding: what isn't UTF-8 is replaced.
pub(crate) fn text(path: &Path) -> io::Result<String> {
    let (bytes, _) = trusted_path::read(path, MOST)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The files below a directory that are called like configuration of Bacula's or Bareos's.
fn candidates(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(next) = directories.pop() {
        let entries = match next.read_dir() {
            Ok(entries) => entries,
            Err(error) if next == directory => {
                return Err(error).or_exit(Exit::NotThere, format!("cannot read {}", next.display()));
            }
            Err(_) => continue, // a directory of somebody else's holds nothing that a daemon reads from here
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(path);
            } else if path.is_file() && is_configuration(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Where reading begins: the main files, of several of one name the one that lies highest; all of Bareos's; and where
/// there are none, the parts that others may include.
fn mains<'a>(directory: &Path, candidates: &'a [PathBuf]) -> Vec<&'a PathBuf> {
    let depth = |path: &&PathBuf| path.strip_prefix(directory).map_or(0, |below| below.iter().count());
    let named = |name: &str| candidates.iter().filter(|path| path.ends_with(name)).min_by_key(depth);
    let mut mains: Vec<&PathBuf> = MAIN.iter().filter_map(|name| named(name)).collect();
    mains.extend(candidates.iter().filter(|path| is_bareos(path)));
    if mains.is_empty() { candidates.iter().collect() } else { mains }
}

fn is_bareos(path: &Path) -> bool {
    let parts = path.iter().filter_map(|part| part.to_str());
    parts.into_iter().any(|part| matches!(part, "bareos-dir.d" | "bareos-sd.d" | "bareos-fd.d"))
}

/// Whether a file is configuration of Bacula's or Bareos's, by its name: Debian keeps others beside them.
fn is_configuration(path: &Path) -> bool {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let starts = ["bacula-dir", "bacula-sd", "bacula-fd", "bconsole", "offsite-"];
    path.extension().is_some_and(|e| e == "conf")
        && (is_bareos(path) || starts.iter().any(|start| name.starts_with(start)))
}

/// The console's file that a changer's configuration names.
fn console_of(config: &str) -> Option<String> {
    let document: bacula_conf::Document = config.parse().ok()?;
    document.text("bconsole config").map(str::to_owned)
}

/// The disk, as the configuration sees it: absolute paths may be meant below the directory that is checked.
struct Disk<'a> {
    root: &'a Root,
    directory: &'a Path,
    run: bool,
}

impl Disk<'_> {
    fn place(&self, path: &Path) -> PathBuf {
        let inside = self.directory.join(path.strip_prefix("/").unwrap_or(path));
        [inside, path.to_owned()]
            .into_iter()
            .find(|path| path.exists())
            .unwrap_or_else(|| self.root.join(path))
    }

    /// Adds a file that is named by its absolute path, unless it is there; returns its text.
    fn add(&self, named: &str, files: &mut Vec<(PathBuf, String)>) -> Option<String> {
        let path = Path::new(named);
        // A tape library's changer device is no file.
        if !path.is_absolute() {
            return None;
        }
        let place = self.place(path);
        if let Some((_, text)) = files.iter().find(|(known, _)| *known == place) {
            return Some(text.clone());
        }
        let text = text(&place).ok()?;
        files.push((place, text.clone()));
        Some(text)
    }
}

impl Includes for Disk<'_> {
    fn read(&mut self, path: &Path) -> io::Result<String> {
        text(&self.place(path))
    }

    /// As Bacula does it: split into words, without a shell, from where the daemon would be started, and for root as
    /// Bacula's user: who may write the configuration says what is run.
    fn run(&mut self, command: &str) -> Option<io::Result<String>> {
        self.run.then(|| {
            let words = words(command);
            let (name, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
            let path = if name.starts_with('/') { Some(PathBuf::from(name)) } else { locate(name) };
            let program = Program::at(path.ok_or(io::ErrorKind::NotFound)?).args(arguments).apart();
            let failed = |failure: Failure| io::Error::other(failure.message().to_owned());
            let program = if geteuid().is_root() {
                let account = Site::load(self.root).and_then(|site| accounts::bacula(&site));
                program.user(account.map_err(failed)?)
            } else {
                program
            };
            let finished = program.run().map_err(failed)?;
            Ok(finished.text) // Bacula doesn't look at the exit status either
        })
    }
}

/// Words with blanks between them; quotes of either kind hold one together.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, _) if c.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_split_as_bacula_splits_it() {
        assert_eq!(words("sh -c 'cat /etc/*.conf'"), ["sh", "-c", "cat /etc/*.conf"]);
        assert_eq!(words("  a \"b c\"d '' "), ["a", "b cd", ""]);
    }

    #[test]
    fn bareos_files_are_known_by_their_directory() {
        assert!(is_configuration(Path::new("/etc/bareos/bareos-dir.d/pool/Full.conf")));
        assert!(is_configuration(Path::new("/etc/bacula/bacula-dir.conf")));
        assert!(!is_configuration(Path::new("/etc/bacula/common_default_passwords.conf")));
    }

    #[test]
    fn old_copies_are_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("bacula-dir.conf", "@conf.d/pools.conf\n");
        write("conf.d/pools.conf", "Pool {\n  Name = A\n}\n");
        write("bacula-dir-2019.conf", "Pool {\n  Name = B\n}\n");
        write("backup/bacula-dir.conf", "Pool {\n  Name = C\n}\n");
        write("backup/bacula-sd.conf.old", "");
        write(
            "bacula-sd.conf",
            "Autochanger {\n  Name = c\n  Device = d\n  Changer Command = x\n  Changer Device = /v.conf\n}\n",
        );
        write("v.conf", "Magazine = /m\nbconsole config = /bconsole-offsite.conf\n");
        write("bconsole-offsite.conf", "Director {\n  Name = d\n  Address = a\n}\n");
        let live = read(&Root::new("/nowhere"), directory.path(), false).unwrap();
        let below = |path: &PathBuf| path.strip_prefix(directory.path()).unwrap().display().to_string();
        let read: Vec<_> = live.files.iter().map(|(path, _)| below(path)).collect();
        assert_eq!(
            read,
            ["bacula-dir.conf", "bacula-sd.conf", "conf.d/pools.conf", "v.conf", "bconsole-offsite.conf"]
        );
        let unread: Vec<_> = live.unread.iter().map(below).collect();
        assert_eq!(unread, ["backup/bacula-dir.conf", "bacula-dir-2019.conf"]);
    }

    #[test]
    fn text_is_read_in_any_encoding_and_nothing_but_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.conf");
        std::fs::write(&path, b"# B\xfcro\nName = a\n").unwrap();
        assert_eq!(text(&path).unwrap(), "# B\u{fffd}ro\nName = a\n");
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(text(&pipe).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(text(directory.path()).is_err() && text(Path::new("/dev/zero")).is_err());
    }
}
