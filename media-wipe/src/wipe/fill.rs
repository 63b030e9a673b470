//! Writing the stream, and narrowing down what can't be written.

use std::io;

use crate::io::device::{AlignedBuffer, Medium};
use crate::io::pass::Extent;
use crate::io::region::Region;
use crate::stream::keystream::{Keystream, PIECE};

/// What to do when a region can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BadRegions {
    /// Ends the wipe at the first one.
    #[default]
    Stop,
    /// Writes all the rest and reports them; the wipe still counts as failed.
    Skip,
}

/// A thread's own stream and buffer.
pub(crate) struct Filler {
    pub(crate) stream: Keystream,
    pub(crate) buffer: AlignedBuffer,
}

/// What came of writing one extent.
pub(crate) struct Filled {
    pub(crate) sum: Option<u32>,
    pub(crate) unwritable: Vec<Region>,
}

/// A write that failed for good.
#[derive(Debug)]
pub(crate) struct WriteFault {
    pub(crate) region: Region,
    pub(crate) source: io::Error,
}

impl Filler {
    /// Generates and writes one extent; with `sums`, its checksum is made on the way.
    pub(crate) fn fill(
        &mut self,
        medium: &dyn Medium,
        extent: Extent,
        policy: BadRegions,
        sums: bool,
    ) -> Result<Filled, WriteFault> {
        let whole = Region { offset: extent.offset, length: extent.length as u64 };
        let buffer = self.buffer.first(extent.length);
        let mut hasher = sums.then(crc32fast::Hasher::new);
        let mut offset = extent.offset;
        for piece in buffer.chunks_mut(PIECE) {
            self.stream
                .fill(offset, piece)
                .map_err(|end| WriteFault { region: whole, source: io::Error::other(end) })?;
            if let Some(hasher) = &mut hasher {
                hasher.update(piece);
            }
            offset += piece.len() as u64;
        }
        let mut unwritable = Vec::new();
        if let Err(source) = medium.write_at(buffer, extent.offset) {
            write_around(medium, buffer, extent.offset, policy, source, &mut unwritable)?;
        }
        let mut sum = hasher.map(crc32fast::Hasher::finalize);
        if !unwritable.is_empty() {
            // Nobody knows what stays there; the sum is of the rest, so that the rest stays verifiable.
            blank(buffer, extent.offset, &unwritable);
            sum = sum.map(|_| crc32fast::hash(buffer));
        }
        Ok(Filled { sum, unwritable })
    }
}

/// Whether an error concerns the place only, not the drive as a whole.
fn is_local(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EIO | libc::ENODATA | libc::EILSEQ | libc::EREMOTEIO | libc::ETIMEDOUT)
    )
}

/// Writes again in halves, down to a block, to find what exactly can't be written.
fn write_around(
    medium: &dyn Medium,
    buffer: &[u8],
    offset: u64,
    policy: BadRegions,
    source: io::Error,
    unwritable: &mut Vec<Region>,
) -> Result<(), WriteFault> {
    let region = Region { offset, length: buffer.len() as u64 };
    if !is_local(&source) || !medium.is_there() {
        return Err(WriteFault { region, source });
    }
    let blocks = buffer.len().div_ceil(medium.block());
    if blocks <= 1 {
        if policy == BadRegions::Stop {
            return Err(WriteFault { region, source });
        }
        add_region(unwritable, region);
        return Ok(());
    }
    let (first, second) = buffer.split_at(blocks / 2 * medium.block());
    for (half, at) in [(first, offset), (second, offset + first.len() as u64)] {
        if let Err(source) = medium.write_at(half, at) {
            write_around(medium, half, at, policy, source, unwritable)?;
        }
    }
    Ok(())
}

/// Sets to zero what of a buffer, which begins at `offset`, lies in one of the regions.
pub(crate) fn blank(buffer: &mut [u8], offset: u64, regions: &[Region]) {
    let length = buffer.len();
    let within = |at: u64| usize::try_from(at.saturating_sub(offset)).unwrap_or(length).min(length);
    for region in regions {
        let range = within(region.offset)..within(region.offset + region.length);
        buffer.get_mut(range).unwrap_or_default().fill(0);
    }
}

/// Adds a region, joined to the last one where they touch.
pub(crate) fn add_region(regions: &mut Vec<Region>, region: Region) {
    match regions.last_mut() {
        Some(last) if last.offset + last.length == region.offset => last.length += region.length,
        _ => regions.push(region),
    }
}
