//! What the daemon says: entries of the journal with fields where it listens, else lines on stderr.
//!
//! `journalctl OFFSITE_MAGAZINE=A` shows the life of one drive. The form of an entry is that of systemd's
//! "Native Journal Protocol" (`https://systemd.io/JOURNAL_NATIVE_PROTOCOL`).

use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use nix::sys::stat::fstat;

use crate::base::escape;
use crate::site::description::Magazine;

const SOCKET: &str = "/run/systemd/journal/socket";

/// How much an entry matters, as in `syslog(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    Warning = 4,
    Info = 6,
}

/// Says something, about a drive or about all.
pub(crate) fn tell(priority: Priority, about: Option<&Magazine>, line: &str) {
    static JOURNAL: OnceLock<Option<UnixDatagram>> = OnceLock::new();
    let entry = || entry(priority, about, line);
    match JOURNAL.get_or_init(connect) {
        Some(journal) if journal.send(&entry()).is_ok() => {}
        _ => eprintln!("offsited: {line}"),
    }
}

/// The journal, if it is where this process' stderr goes.
fn connect() -> Option<UnixDatagram> {
    let stderr = fstat(std::io::stderr()).ok()?;
    let stream = format!("{}:{}", stderr.st_dev, stderr.st_ino);
    if std::env::var("JOURNAL_STREAM").ok()? != stream {
        return None;
    }
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(SOCKET).ok()?;
    Some(socket)
}

fn entry(priority: Priority, about: Option<&Magazine>, line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut add = |name: &str, value: &str| {
        // With the length before it a value is one, whatever it holds.
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(b'\n');
    };
    add("MESSAGE", &escape::line(line));
    add("PRIORITY", &(priority as u8).to_string());
    add("SYSLOG_IDENTIFIER", "offsited");
    if let Some(magazine) = about {
        add("OFFSITE_MAGAZINE", &escape::line(&magazine.name));
        add("OFFSITE_FS_UUID", &escape::line(magazine.fs_uuid.as_str()));
    }
    bytes
}

/// One line for the journal.
pub(crate) fn say(line: &str) {
    tell(Priority::Info, None, line);
}

/// One line about what is wrong.
pub(crate) fn warn(line: &str) {
    tell(Priority::Warning, None, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_entry_is_one_line_without_control_characters(said in escape::tests::hostile()) {
            let bytes = entry(Priority::Warning, None, &said);
            let shown = escape::line(&said);
            let length = u64::try_from(shown.len()).unwrap().to_le_bytes();
            let expected = [b"MESSAGE\n", &length[..], shown.as_bytes(), b"\nPRIORITY\n"].concat();
            proptest::prop_assert!(bytes.starts_with(&expected));
            proptest::prop_assert!(escape::tests::is_plain(&shown) && !shown.contains('\n'));
        }
    }

    #[test]
    fn an_entry_names_the_drive() {
        let magazine = Magazine {
            name: "A".into(),
            luks_uuid: None,
            luks_digest: None,
            fs_uuid: "7A1B-03C4".parse().unwrap(),
            fs_type: "ext4".into(),
            serial: None,
        };
        let bytes = entry(Priority::Warning, Some(&magazine), "one\ttwo");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("MESSAGE\n\x08\0\0\0\0\0\0\0one\\ttwo\nPRIORITY\n"), "{text:?}");
        assert!(text.contains("OFFSITE_MAGAZINE\n\x01\0\0\0\0\0\0\0A\n"), "{text:?}");
        assert!(!String::from_utf8(entry(Priority::Info, None, "x")).unwrap().contains("MAGAZINE"));
    }
}
