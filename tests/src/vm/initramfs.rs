//! The initial file system: busybox, an init script and a few modules, as a cpio archive in the "newc"
//! format (`Documentation/driver-api/early-userspace/buffer-format.rst` in Linux).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::recipe;
use super::tool::run;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Makes the archive from the guest's root directory.
pub(super) fn build(root: &Path, kernel: &str) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for name in ["bin", "dev", "proc", "sys", "newroot", "modules"] {
        append(&mut archive, name, DIRECTORY, &[])?;
    }
    let busybox = root.join("bin/busybox");
    append(
        &mut archive,
        "bin/busybox",
        PROGRAM,
        &fs::read(&busybox).with_context(|| format!("no {}", busybox.display()))?,
    )?;
    append(&mut archive, "init", PROGRAM, recipe::INIT.as_bytes())?;
    for (number, module) in modules(root, kernel)?.iter().enumerate() {
        let name = Path::new(module).file_name().unwrap_or_default().to_string_lossy();
        append(&mut archive, &format!("modules/{number:02}-{name}"), PROGRAM, &fs::read(module)?)?;
    }
    append(&mut archive, "TRAILER!!!", 0, &[])?;
    Ok(archive)
}

/// The early modules and what they need, in the order of loading.
fn modules(root: &Path, kernel: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for module in recipe::EARLY_MODULES {
        let root = root.to_string_lossy();
        let shown = run("modprobe", ["-d", &root, "-S", kernel, "--show-depends", module])?;
        for line in shown.lines() {
            // "insmod /path/to/module.ko [options]" or "builtin name"
            if let Some(file) = line.strip_prefix("insmod ").and_then(|rest| rest.split_whitespace().next())
                && !files.iter().any(|known| known == file)
            {
                files.push(file.to_owned());
            }
        }
    }
    Ok(files)
}

fn append(archive: &mut Vec<u8>, name: &str, mode: u32, contents: &[u8]) -> Result<()> {
    let links = if mode == DIRECTORY { 2 } else { 1 };
    let number = u32::try_from(archive.len())?;
    let size = u32::try_from(contents.len())?;
    let name_size = u32::try_from(name.len() + 1)?;
    // inode, mode, uid, gid, links, time, size, device and special device (major, minor each), length of the name, check
    let fields = [number, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(name.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(contents);
    pad(archive);
    Ok(())
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_header_name_and_contents_each_padded_to_four() {
        let mut archive = Vec::new();
        append(&mut archive, "init", PROGRAM, b"hello").unwrap();
        assert!(archive.starts_with(b"070701"));
        assert_eq!(&archive[110..115], b"init\0");
        assert_eq!(&archive[116..121], b"hello");
        assert_eq!(archive.len(), 124);
        assert_eq!(&archive[54..62], b"00000005");
        assert_eq!(&archive[94..102], b"00000005");
    }
}
