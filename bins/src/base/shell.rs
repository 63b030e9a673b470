//! Command lines as they are shown to be typed.

use std::path::Path;

/// A word as a shell takes it for one.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./_-".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A path as a shell takes it for one word.
pub fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_a_shell() {
        assert_eq!(quoted("/dev/disk/by-id/usb-WD_1:0"), "/dev/disk/by-id/usb-WD_1:0");
        assert_eq!(quoted("it's a drive"), r"'it'\''s a drive'");
        assert_eq!(quoted(""), "''");
        assert_eq!(path(Path::new("/mnt/a stick/key")), "'/mnt/a stick/key'");
    }
}
