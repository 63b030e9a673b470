//! The things that libcryptsetup doesn't do, asked of device-mapper directly.
//!
//! What a mapping really does is read here, not from who made it. To make every access to a mapping fail, libcryptsetup has a flag (`CRYPT_DEACTIVATE_FORCE`), but in 2.6 it only tries
//! to remove the mapping for half a minute when something holds it. And how often a mapping is held can be asked here
//! without waiting for another thread's turn. Source of the interface: `linux/dm-ioctl.h`, stable since Linux 2.6.
#![expect(unsafe_code, reason = "device-mapper is driven by ioctl(2)")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::mem::offset_of;
use std::ops::Range;
use std::os::fd::AsRawFd;

use nix::sys::stat::{major, minor};

use super::device_number::DeviceNumber;
use crate::secret::locked_pages::LockedPages;

const CONTROL: &str = "/dev/mapper/control";
/// The part of the version that must match; every kernel since 2.6 has major version 4.
const VERSION: [u32; 3] = [4, 0, 0];
const DM_IOCTL: u8 = 0xfd;
const DM_DEV_SUSPEND: u8 = 6;
const DM_DEV_STATUS: u8 = 7;
const DM_TABLE_LOAD: u8 = 9;
const DM_TABLE_STATUS: u8 = 12;
const DM_STATUS_TABLE_FLAG: u32 = 1 << 4;
const DM_BUFFER_FULL_FLAG: u32 = 1 << 8;
const DM_SKIP_LOCKFS_FLAG: u32 = 1 << 10;
const DM_NOFLUSH_FLAG: u32 = 1 << 11;
/// The kernel wipes its own copy of the table.
const DM_SECURE_DATA_FLAG: u32 = 1 << 15;
/// Room for a table in bytes; dm-crypt's longest, with a key in hexadecimal digits, takes some hundreds.
const TABLE_ROOM: usize = 16 << 10;

/// `struct dm_ioctl`.
#[repr(C)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`.
#[repr(C)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    kind: [u8; 16],
}

/// A header with one target and its (empty) parameters behind it.
#[repr(C)]
struct Table {
    header: Header,
    target: Target,
    parameters: [u8; 8],
}

/// Replaces the table of a mapping of `sectors` (of 512 bytes) by one that only fails, without waiting for requests
/// that are under way and without flushing what lies above.
pub(crate) fn make_fail(name: &str, sectors: u64) -> io::Result<()> {
    let control = control()?;
    let mut table = Table::empty(name)?;
    table.target.length = sectors;
    copy(&mut table.target.kind, b"error")?;
    table.header.target_count = 1;
    send(&control, DM_TABLE_LOAD, &mut table)?;
    // Without the suspend flag this ioctl resumes, which takes the new table into use.
    table.header = header(name)?;
    table.header.flags = DM_SKIP_LOCKFS_FLAG | DM_NOFLUSH_FLAG;
    send(&control, DM_DEV_SUSPEND, &mut table)
}

/// How often a mapping is held open, by mounts, by other mappings or by programs; `None` when there is none.
pub(crate) fn open_count(name: &str) -> io::Result<Option<i32>> {
    let mut table = Table::empty(name)?;
    match send(&control()?, DM_DEV_STATUS, &mut table) {
        Ok(()) => Ok(Some(table.header.open_count)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The table of a mapping that has one target; the pages may hold its volume key.
pub(crate) struct LiveTable {
    pages: LockedPages,
    /// Length of the mapping in sectors of 512 bytes.
    pub(crate) sectors: u64,
    kind: [u8; 16],
    parameters: Range<usize>,
}

impl LiveTable {
    /// The target's kind, such as `crypt`.
    pub(crate) fn kind(&self) -> &str {
        let name = self.kind.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// What the target was made with.
    pub(crate) fn parameters(&self) -> &str {
        let bytes = self.pages.bytes().get(self.parameters.clone()).unwrap_or_default();
        CStr::from_bytes_until_nul(bytes).ok().and_then(|text| text.to_str().ok()).unwrap_or_default()
    }
}

/// Reads what a mapping does; `None` when there is none of this name.
pub(crate) fn live_table(name: &str) -> io::Result<Option<LiveTable>> {
    let mut pages = LockedPages::zeroed(TABLE_ROOM);
    let mut asked = header(name)?;
    asked.data_size = u32::try_from(TABLE_ROOM).map_err(io::Error::other)?;
    asked.flags = DM_STATUS_TABLE_FLAG | DM_SECURE_DATA_FLAG;
    let buffer = pages.bytes_mut().as_mut_ptr();
    // SAFETY: the pages are longer than a `Header`, which is plain numbers; the two don't overlap.
    unsafe { std::ptr::copy_nonoverlapping(std::ptr::from_ref(&asked).cast(), buffer, size_of::<Header>()) };
    let request = nix::request_code_readwrite!(DM_IOCTL, DM_TABLE_STATUS, size_of::<Header>());
    // SAFETY: the kernel reads and writes at most `data_size` bytes, all of which are these pages.
    if unsafe { libc::ioctl(control()?.as_raw_fd(), request, buffer) } < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENXIO) { Ok(None) } else { Err(error) };
    }
    match answered(pages.bytes()) {
        Some((sectors, kind, parameters)) => Ok(Some(LiveTable { pages, sectors, kind, parameters })),
        None => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the mapping's table isn't that of one target"))
        }
    }
}

/// What the kernel answered of a table with one target that begins at 0: its length, its kind, and where its parameters
/// lie.
fn answered(bytes: &[u8]) -> Option<(u64, [u8; 16], Range<usize>)> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
    let long = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    let is_full = word(offset_of!(Header, flags))? & DM_BUFFER_FULL_FLAG != 0;
    if is_full || word(offset_of!(Header, target_count))? != 1 {
        return None;
    }
    let start = usize::try_from(word(offset_of!(Header, data_start))?).ok()?;
    let at = |field: usize| start.checked_add(field);
    if long(at(offset_of!(Target, sector_start))?)? != 0 {
        return None;
    }
    let kind = *bytes.get(at(offset_of!(Target, kind))?..)?.first_chunk()?;
    let parameters = at(size_of::<Target>())?;
    Some((long(at(offset_of!(Target, length))?)?, kind, parameters..bytes.len()))
}

/// The device number of a mapping; `None` when there is none of this name.
pub(crate) fn number(name: &str) -> io::Result<Option<DeviceNumber>> {
    let mut table = Table::empty(name)?;
    match send(&control()?, DM_DEV_STATUS, &mut table) {
        Ok(()) => {
            let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
            let dev = table.header.dev;
            Ok(Some(DeviceNumber { major: number(major(dev))?, minor: number(minor(dev))? }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Table {
    fn empty(name: &str) -> io::Result<Self> {
        let target = Target { sector_start: 0, length: 0, status: 0, next: 0, kind: [0; 16] };
        Ok(Self { header: header(name)?, target, parameters: [0; 8] })
    }
}

fn control() -> io::Result<File> {
    File::options().read(true).write(true).open(CONTROL)
}

fn header(name: &str) -> io::Result<Header> {
    let size = |size: usize| u32::try_from(size).map_err(io::Error::other);
    let mut header = Header {
        version: VERSION,
        data_size: size(size_of::<Table>())?,
        data_start: size(size_of::<Header>())?,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_nr: 0,
        padding: 0,
        dev: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    copy(&mut header.name, name.as_bytes())?;
    Ok(header)
}

/// Copies a text so that at least one NUL remains behind it.
fn copy(to: &mut [u8], text: &[u8]) -> io::Result<()> {
    match to.get_mut(..text.len()) {
        Some(place) if text.len() < 128 => place.copy_from_slice(text),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name is too long")),
    }
    Ok(())
}

fn send(control: &File, command: u8, table: &mut Table) -> io::Result<()> {
    let request = nix::request_code_readwrite!(DM_IOCTL, command, size_of::<Header>());
    // SAFETY: the kernel reads and writes at most `data_size` bytes, which is the size of the whole `Table`; all its
    // fields are plain numbers, for which every bit pattern is valid.
    let result = unsafe { libc::ioctl(control.as_raw_fd(), request, std::ptr::from_mut(table)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!(size_of::<Header>(), 312);
        assert_eq!(size_of::<Target>(), 40);
        assert_eq!(size_of::<Table>(), 360);
        assert_eq!(nix::request_code_readwrite!(DM_IOCTL, DM_TABLE_LOAD, size_of::<Header>()), 0xc138_fd09);
    }

    #[test]
    fn a_table_of_one_target_is_read() {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
        put(offset_of!(Header, data_start), &312_u32.to_ne_bytes());
        put(offset_of!(Header, target_count), &1_u32.to_ne_bytes());
        put(312 + 8, &65_536_u64.to_ne_bytes());
        put(312 + 24, b"crypt");
        put(312 + 40, b"aes-xts-plain64 - 0 8:16 0");
        let (sectors, kind, parameters) = answered(&bytes).unwrap();
        assert_eq!((sectors, &kind[..6]), (65_536, &b"crypt\0"[..]));
        assert!(bytes[parameters].starts_with(b"aes-xts-plain64 "));
        for (at, number) in
            [(offset_of!(Header, target_count), 2_u32), (offset_of!(Header, data_start), 500), (312, 8)]
        {
            let mut other = bytes.clone();
            other[at..at + 4].copy_from_slice(&number.to_ne_bytes());
            assert!(answered(&other).is_none(), "{at}");
        }
    }

    #[test]
    fn names_end_with_a_nul() {
        assert_eq!(header("blue").unwrap().name[..5], *b"blue\0");
        assert!(header(&"x".repeat(127)).is_ok());
        assert!(header(&"x".repeat(128)).is_err());
    }
}
