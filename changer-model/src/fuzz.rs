//! What this crate reads of others, as entry points for a fuzzer (`tests/fuzz`); no other code sees this module.

use std::collections::BTreeSet;
use std::path::Path;

use crate::catalog::{catalog_volumes, finished_jobs, release};
use crate::director::{dialogue, running, slots_in_catalog, table};
use crate::files::store;
use crate::files::volumes_file::{VolumesFile, row};
use crate::library::identifiers::VolumeName;
use crate::library::{closed_volumes, state};
use crate::system::label;

/// The bytes are the beginning of a volume's file.
pub fn volume_label(bytes: &[u8]) {
    let _beginning = label::parse(bytes);
    // A mutated block whose checksum is right gets past the first gate.
    let mut block = label::block("c0_A_0001");
    for (place, byte) in block.iter_mut().skip(24).zip(bytes) {
        *place = *byte;
    }
    let sum = crc32fast::hash(block.get(4..).unwrap_or_default()).to_be_bytes();
    if let Some(place) = block.first_chunk_mut() {
        *place = sum;
    }
    let _beginning = label::parse(&block);
}

/// The bytes are a state file of the changer, of any kind.
pub fn state(bytes: &[u8]) {
    if let Ok(state) = serde_json::from_slice::<state::State>(bytes) {
        let _either = store::check_state(&state);
    }
    let _either = serde_json::from_slice::<state::Drives>(bytes);
    let _either = serde_json::from_slice::<closed_volumes::Shelf>(bytes);
    let _either = serde_json::from_slice::<VolumesFile>(bytes);
    let _volumes = bytes.split(|byte| *byte == b'\n').filter_map(row).count();
}

/// The text is what a console printed.
pub fn console(text: &str) {
    let names: BTreeSet<VolumeName> = VolumeName::new("c0_A_0001").into_iter().collect();
    let _catalog = slots_in_catalog::catalog(text);
    let _volumes = catalog_volumes::in_catalog(text);
    let _rows = (table::rows(text), table::records(text, "jobid"), table::is_whole(text));
    let _unknown = dialogue::unknown_volumes(text);
    let _refused = dialogue::refused_labels(text);
    let _updated = dialogue::volumes_were_updated(text, names.len());
    let _updated = dialogue::slots_were_updated(text, "c0", &names);
    for list in running::lists(text) {
        let _jobs = (running::storage_jobs(list), running::director_jobs(list));
    }
    let _drive = running::drive_of(Path::new(text), &[Path::new("/var/lib/offsite/c0")]);
    let _jobs = release::jobs(text);
    let _jobs = finished_jobs::finished(text);
    let _volumes = finished_jobs::volumes_by_job(text);
}
