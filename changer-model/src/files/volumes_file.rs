//! The file of a magazine's volumes: JSON with one line for each, so that a person can read and compare it.

use std::io::Write;

use serde::{Deserialize, Serialize};

use crate::library::identifiers::{MagazineId, VolumeName};
use crate::library::state::{FileStamp, VERSION, Volume, Volumes};
use crate::library::versioned::Versioned;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumesFile {
    pub(crate) version: u32,
    pub(crate) magazine: MagazineId,
    pub(crate) volumes: Vec<Row>,
}

impl Versioned for VolumesFile {
    fn version(&self) -> u32 {
        self.version
    }
}

/// Place, name, kind, the file where it bears another name, what the file looked like, the pool it is meant for.
#[derive(Serialize, Deserialize)]
pub(crate) struct Row(u32, VolumeName, Kind, Option<String>, Option<FileStamp>, Option<String>);

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Labelled,
    Blank,
    Refused,
}

impl Row {
    fn of(place: u32, volume: &Volume) -> Self {
        let kind = match (volume.blank, volume.refused) {
            (false, _) => Kind::Labelled,
            (true, false) => Kind::Blank,
            (true, true) => Kind::Refused,
        };
        let file = (volume.file != volume.name.as_str()).then(|| volume.file.clone());
        Self(place, volume.name.clone(), kind, file, volume.stamp, volume.pool.clone())
    }

    pub(crate) fn into_volume(self) -> (u32, Volume) {
        let Self(place, name, kind, file, stamp, pool) = self;
        let file = file.unwrap_or_else(|| name.as_str().to_owned());
        let (blank, refused) = match kind {
            Kind::Labelled => (false, false),
            Kind::Blank => (true, false),
            Kind::Refused => (true, true),
        };
        (place, Volume { name, file, blank, refused, pool, stamp })
    }
}

/// The file's text.
pub(crate) fn volumes_text(id: &MagazineId, volumes: &Volumes) -> Vec<u8> {
    let mut text = Vec::with_capacity(64 + volumes.len() * 80);
    // writing to memory cannot fail, and neither can these types
    let _ = write!(text, "{{\"version\":{VERSION},\"magazine\":");
    let _ = serde_json::to_writer(&mut text, id);
    text.extend_from_slice(b",\"volumes\":[");
    for (index, (place, volume)) in volumes.iter().enumerate() {
        text.extend_from_slice(if index == 0 { b"\n" } else { b",\n" });
        let _ = serde_json::to_writer(&mut text, &Row::of(*place, volume));
    }
    text.extend_from_slice(b"\n]}\n");
    text
}

/// Reads one line of the file by itself, if a volume is on it.
pub(crate) fn row(line: &[u8]) -> Option<Row> {
    serde_json::from_slice(line.strip_suffix(b",").unwrap_or(line)).ok()
}

pub(crate) fn file_name_of(id: &MagazineId) -> String {
    let last = id.uuid().unwrap_or_else(|| id.as_str().rsplit('/').next().unwrap_or_default());
    let safe: String =
        last.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect();
    format!("{safe}-{:08x}", crc32fast::hash(id.as_str().as_bytes()))
}
