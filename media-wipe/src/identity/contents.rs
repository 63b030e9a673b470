//! What lies on a device now, in words, by libblkid.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libblkid_rs::{BlkidErr, BlkidProbe, BlkidProbeRet, BlkidSafeprobeRet, BlkidSublks, BlkidSublksFlags};

/// Why the contents could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentsError {
    #[error("libblkid failed: {0}")]
    Probe(#[from] BlkidErr),
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
}

/// How much is read at either end to call a device blank, in bytes.
const BLANK_PROBE: u64 = 1 << 20;

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    /// In words.
    pub(crate) text: String,
    /// The UUID of the filesystem or container, when there is just one.
    pub(crate) uuid: Option<String>,
}

impl From<&str> for Contents {
    fn from(text: &str) -> Self {
        Self { text: text.into(), uuid: None }
    }
}

/// Describes what is on `file`, which holds `size` bytes.
pub(crate) fn describe(file: &File, size: u64) -> Result<Contents, ContentsError> {
    if size == 0 {
        return Ok("nothing, it holds no bytes".into());
    }
    let mut probe = new_probe(file)?;
    let mut contents = match probe.do_safeprobe()? {
        BlkidSafeprobeRet::Success => describe_found(&mut probe)?,
        BlkidSafeprobeRet::Ambiguous => describe_ambiguous(file)?,
        BlkidSafeprobeRet::None if is_zero(file, size)? => "blank".into(),
        BlkidSafeprobeRet::None => "no known signature, but not blank".into(),
    };
    if !contents.text.contains("gpt ")
        && let Some(sector) = unseen_table(file)
    {
        let shown = probe.get_sector_size();
        contents.text += &format!(
            ", and a gpt partition table for sectors of {sector} bytes, which is not seen where they are shown as {shown}"
        );
    }
    Ok(contents)
}

/// The size of sectors for which a GPT was written that libblkid doesn't find with the device's own size: the drive was in
/// another enclosure then. (UEFI 2.10, 5.3.2: the header lies in the second sector.)
fn unseen_table(file: &File) -> Option<u32> {
    let signature = |sector: &u32| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, u64::from(*sector)).is_ok() && &bytes == b"EFI PART"
    };
    [512, 4096].into_iter().find(signature)
}

fn new_probe(file: &File) -> Result<BlkidProbe, BlkidErr> {
    let mut probe = BlkidProbe::new()?;
    probe.set_device(file.as_raw_fd(), 0, 0)?;
    probe.enable_superblocks(true)?;
    probe.set_superblock_flags(BlkidSublksFlags::new(vec![
        BlkidSublks::Label,
        BlkidSublks::Uuid,
        BlkidSublks::Type,
        BlkidSublks::Usage,
        BlkidSublks::Version,
    ]))?;
    probe.enable_partitions(true)?;
    Ok(probe)
}

fn describe_found(probe: &mut BlkidProbe) -> Result<Contents, ContentsError> {
    let value = |name: &str| probe.lookup_value(name).ok().filter(|value| !value.is_empty());
    let mut parts = Vec::new();
    if let Some(kind) = value("TYPE") {
        let named = value("LABEL")
            .map(|label| format!(" \"{label}\""))
            .or_else(|| value("UUID").map(|id| format!(" {id}")));
        let named = named.unwrap_or_default();
        parts.push(match value("USAGE").as_deref() {
            _ if kind == "crypto_LUKS" => {
                let uuid = value("UUID").map(|id| format!(" {id}")).unwrap_or_default();
                format!("LUKS{} container{uuid}", value("VERSION").unwrap_or_default())
            }
            Some("filesystem") => format!("{kind} filesystem{named}"),
            Some("raid") => format!("{kind} (part of a RAID or volume group){named}"),
            Some("other") if kind == "swap" => format!("swap space{named}"),
            _ => format!("{kind}{named}"),
        });
    }
    let uuid = value("UUID");
    if let Some(table) = value("PTTYPE") {
        let count = probe.get_partitions()?.number_of_partitions()?;
        let plural = if count == 1 { "" } else { "s" };
        parts.push(format!("{table} partition table with {count} partition{plural}"));
    }
    let text = if parts.is_empty() { "an unnamed signature".into() } else { parts.join(" and ") };
    Ok(Contents { text, uuid })
}

fn describe_ambiguous(file: &File) -> Result<Contents, ContentsError> {
    let mut probe = new_probe(file)?;
    let mut found: Vec<String> = Vec::new();
    // Each call yields one more signature; a device holds few, so the bound is never met by an honest one.
    for _ in 0..64 {
        if probe.do_probe()? != BlkidProbeRet::Success {
            break;
        }
        let names = ["TYPE", "PTTYPE"].into_iter().filter_map(|name| probe.lookup_value(name).ok());
        for name in names {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    Ok(Contents { text: format!("several signatures at once: {}", found.join(", ")), uuid: None })
}

fn is_zero(file: &File, size: u64) -> io::Result<bool> {
    let length = size.min(BLANK_PROBE);
    let mut buffer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    for offset in [0, size - length] {
        file.read_exact_at(&mut buffer, offset)?;
        if buffer.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(parts: &[(u64, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 << 20).unwrap();
        for (offset, bytes) in parts {
            file.write_all_at(bytes, *offset).unwrap();
        }
        file
    }

    #[test]
    fn tells_blank_from_unknown() {
        assert_eq!(describe(&file_with(&[]), 8 << 20).unwrap(), "blank".into());
        let noise = describe(&file_with(&[(4096, b"noise")]), 8 << 20).unwrap().text;
        assert_eq!(noise, "no known signature, but not blank");
    }

    #[test]
    fn counts_partitions() {
        // One MBR entry: type 0x83, starting at sector 2048, 4096 sectors long.
        let entry = [0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 16, 0, 0];
        let file = file_with(&[(446, &entry), (510, &[0x55, 0xaa])]);
        assert_eq!(describe(&file, 8 << 20).unwrap(), "dos partition table with 1 partition".into());
    }

    #[test]
    fn a_table_for_sectors_of_another_size_is_told() {
        // The protective entry that GPT drives have, and the header where 4096 bytes are a sector.
        let entry = [0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        let file = file_with(&[(446, &entry), (510, &[0x55, 0xaa]), (4096, b"EFI PART")]);
        let text = describe(&file, 8 << 20).unwrap().text;
        assert!(text.ends_with("a gpt partition table for sectors of 4096 bytes, which is not seen where they are shown as 512"), "{text}");
    }

    #[test]
    fn names_a_swap_space_and_an_ambiguous_disk() {
        let mut header = [0; 1024];
        header[0] = 1;
        header[4..8].copy_from_slice(&2047_u32.to_le_bytes());
        let swap: [(u64, &[u8]); 2] = [(1024, &header), (4086, b"SWAPSPACE2")];
        assert!(describe(&file_with(&swap), 8 << 20).unwrap().text.starts_with("swap space"));
        let both: [(u64, &[u8]); 3] = [(0, b"-rom1fs-"), (1024, &header), (4086, b"SWAPSPACE2")];
        let found = describe(&file_with(&both), 8 << 20).unwrap().text;
        assert!(found.starts_with("several signatures at once"), "{found}");
        assert!(found.contains("romfs") && found.contains("swap"), "{found}");
    }
}
