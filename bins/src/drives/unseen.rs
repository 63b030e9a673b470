//! A container that is well in a partition that the kernel doesn't see.

use std::path::Path;

use luks_core::Location;

use crate::site::description::Magazine;

/// What to say of it, and what to do.
pub fn well(magazine: &Magazine, device: &Path, found: &Location, shown_sector: u32) -> (String, String) {
    let message = format!(
        "the header of {magazine} is well, at byte {} of {}, where the kernel shows no partition",
        found.offset_bytes,
        device.display()
    );
    (message, remedy(found.table_sector_bytes.unwrap_or(shown_sector), shown_sector))
}

/// How a partition becomes visible whose table counts in sectors of `table_sector` bytes, on a drive that shows others.
pub fn remedy(table_sector: u32, shown_sector: u32) -> String {
    if table_sector == shown_sector {
        return "unplug the drive and plug it again, so that its partition table is read again; the header needs no restoring"
            .into();
    }
    format!(
        "its partition table counts in sectors of {table_sector} bytes, and this enclosure shows {shown_sector}: put the \
         drive into one that shows {table_sector}, such as the one it was prepared in; its header needs no restoring"
    )
}
