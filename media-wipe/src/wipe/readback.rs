//! Reading back and comparing: with the stream, or where its key is lost, with the checksums.

use super::fill::{add_region, blank};
use super::journal::{Journal, JournalError};
use crate::io::device::{AlignedBuffer, Medium};
use crate::io::pass::Extent;
use crate::io::region::Region;
use crate::stream::keystream::{Keystream, PIECE};

/// A thread's own stream and buffers.
pub(crate) struct Reader {
    pub(crate) stream: Keystream,
    pub(crate) buffer: AlignedBuffer,
    pub(crate) expected: Vec<u8>,
}

/// What one extent held.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    pub(crate) mismatches: Vec<Region>,
    pub(crate) unreadable: Vec<Region>,
    pub(crate) by_checksum: u64,
}

/// The checksums of what an earlier run wrote with a lost key.
pub(crate) struct LostPart<'a> {
    pub(crate) journal: &'a Journal,
    pub(crate) end: u64,
    pub(crate) chunk: usize,
}

impl Reader {
    pub(crate) fn new(stream: Keystream, chunk: usize) -> Self {
        Self { stream, buffer: AlignedBuffer::new(chunk), expected: vec![0; PIECE] }
    }

    /// Reads an extent and compares it; regions in `skipped` were never written and are left out.
    pub(crate) fn compare(
        &mut self,
        medium: &dyn Medium,
        extent: Extent,
        lost: Option<&LostPart<'_>>,
        skipped: &[Region],
    ) -> Result<Compared, JournalError> {
        let mut compared = Compared::default();
        match lost.filter(|lost| extent.offset < lost.end) {
            Some(lost) => self.compare_chunk(medium, extent, lost, skipped, &mut compared)?,
            None => self.compare_stream(medium, extent, skipped, &mut compared),
        }
        Ok(compared)
    }

    fn compare_chunk(
        &mut self,
        medium: &dyn Medium,
        extent: Extent,
        lost: &LostPart<'_>,
        skipped: &[Region],
        compared: &mut Compared,
    ) -> Result<(), JournalError> {
        // A sampled place lies inside one chunk, of which the checksum knows the whole only.
        let chunk = lost.chunk as u64;
        let index = extent.offset / chunk;
        let length = usize::try_from(lost.end.min((index + 1) * chunk) - index * chunk).unwrap_or(lost.chunk);
        let region = Region { offset: index * chunk, length: length as u64 };
        let buffer = self.buffer.first(length);
        let mut readable = true;
        read_around(medium, buffer, region.offset, &mut |part, at, read| {
            let region = Region { offset: at, length: part.len() as u64 };
            if !read && !skipped.iter().any(|skip| covers(*skip, region)) {
                add_region(&mut compared.unreadable, region);
                readable = false;
            }
        });
        // The sum was made without what could not be written.
        blank(buffer, region.offset, skipped);
        if readable && crc32fast::hash(buffer) != lost.journal.sum(index)? {
            compared.mismatches.push(region);
        }
        compared.by_checksum = extent.length as u64;
        Ok(())
    }

    fn compare_stream(
        &mut self,
        medium: &dyn Medium,
        extent: Extent,
        skipped: &[Region],
        compared: &mut Compared,
    ) {
        let buffer = self.buffer.first(extent.length);
        read_around(medium, buffer, extent.offset, &mut |part, at, readable| {
            let region = Region { offset: at, length: part.len() as u64 };
            if readable {
                compare_bytes(&mut self.stream, &mut self.expected, part, at, skipped, compared);
            } else if !skipped.iter().any(|skip| covers(*skip, region)) {
                add_region(&mut compared.unreadable, region);
            }
        });
    }
}

fn covers(outer: Region, inner: Region) -> bool {
    outer.offset <= inner.offset && inner.offset + inner.length <= outer.offset + outer.length
}

/// Reads, in halves down to a block where that fails, and hands each part over, readable or not.
fn read_around(
    medium: &dyn Medium,
    buffer: &mut [u8],
    offset: u64,
    hand_over: &mut dyn FnMut(&[u8], u64, bool),
) {
    let blocks = buffer.len().div_ceil(medium.block());
    let readable = medium.read_at(buffer, offset).is_ok();
    if readable || blocks <= 1 {
        hand_over(buffer, offset, readable);
        return;
    }
    let (first, second) = buffer.split_at_mut(blocks / 2 * medium.block());
    let middle = offset + first.len() as u64;
    read_around(medium, first, offset, hand_over);
    read_around(medium, second, middle, hand_over);
}

fn compare_bytes(
    stream: &mut Keystream,
    expected: &mut [u8],
    bytes: &[u8],
    offset: u64,
    skipped: &[Region],
    compared: &mut Compared,
) {
    let mut at = offset;
    for piece in bytes.chunks(PIECE) {
        let expected = expected.get_mut(..piece.len()).unwrap_or_default();
        // The stream ends after any offset that a device can have; if it did end, nothing would be equal.
        let agrees = stream.fill(at, expected).is_ok() && *expected == *piece;
        if !agrees {
            let wrong = |index: u64, (a, b): (&u8, &u8)| {
                a != b && !skipped.iter().any(|skip| covers(*skip, Region { offset: at + index, length: 1 }))
            };
            let mut positions = (0_u64..)
                .zip(expected.iter().zip(piece))
                .filter(|(index, pair)| wrong(*index, *pair))
                .map(|(index, _)| index);
            if let Some(first) = positions.next() {
                let last = positions.last().unwrap_or(first);
                add_region(&mut compared.mismatches, Region { offset: at + first, length: last - first + 1 });
            }
        }
        at += piece.len() as u64;
    }
}
