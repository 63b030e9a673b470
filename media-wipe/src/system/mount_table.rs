//! What is mounted and what is swapped to: `/proc/self/mountinfo` and `/proc/swaps` (see proc(5)).

use std::path::PathBuf;

use super::node::DeviceNumber;

/// One line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) number: DeviceNumber,
    pub(crate) place: String,
    pub(crate) source: String,
}

/// Parses mountinfo; a line that can't be understood is returned as the error.
pub(crate) fn parse_mountinfo(text: &str) -> Result<Vec<Mount>, String> {
    text.lines().map(|line| parse_mount(line).ok_or_else(|| line.to_owned())).collect()
}

fn parse_mount(line: &str) -> Option<Mount> {
    let mut fields = line.split(' ');
    let number = fields.nth(2)?.parse().ok()?;
    let place = unescape(fields.nth(1)?);
    // Optional fields end at a single hyphen; the type and the source follow.
    let source = fields.skip_while(|field| *field != "-").nth(2)?;
    Some(Mount { number, place, source: unescape(source) })
}

/// Parses `/proc/swaps` into the paths of devices and files.
pub(crate) fn parse_swaps(text: &str) -> Vec<PathBuf> {
    text.lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(|path| PathBuf::from(unescape(path)))
        .collect()
}

/// Undoes the kernel's octal escapes of blank, tab, newline, backslash and hash.
fn unescape(field: &str) -> String {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(octal.unwrap_or(first));
        rest = tail.get(if octal.is_some() { 3 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_mountinfo() {
        let text = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
                    30 27 0:44 /sub /mnt/a\\040b rw shared:3 master:1 - btrfs /dev/sd\\134b rw\n";
        let mounts = parse_mountinfo(text).unwrap();
        assert_eq!(mounts[0].number, DeviceNumber { major: 254, minor: 0 });
        assert_eq!(mounts[0].source, "/dev/vda");
        assert_eq!(mounts[1].place, "/mnt/a b");
        assert_eq!(mounts[1].source, "/dev/sd\\b");
        assert_eq!(
            parse_mountinfo("27 1 254-0 / / rw - ext4 x y").unwrap_err(),
            "27 1 254-0 / / rw - ext4 x y"
        );
    }

    #[test]
    fn reads_swaps() {
        let text = "Filename\t\t\t\tType\t\tSize\n/dev/sdb2  partition\t1\n/swap\\040file file 2\n";
        assert_eq!(parse_swaps(text), [PathBuf::from("/dev/sdb2"), PathBuf::from("/swap file")]);
    }

    proptest! {
        #[test]
        fn escaping_is_undone(text in "[ -~\t\n]{0,40}") {
            let escaped: String = text
                .chars()
                .map(|c| if matches!(c, ' ' | '\t' | '\n' | '\\' | '#') { format!("\\{:03o}", c as u32) } else { c.to_string() })
                .collect();
            prop_assert_eq!(unescape(&escaped), text);
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}") {
            let _ = parse_mountinfo(&text);
            let _ = parse_swaps(&text);
        }
    }
}
