//! The two things that libcryptsetup doesn't do, asked of device-mapper directly.
//!
//! To make every access to a mapping fail, libcryptsetup has a flag (`CRYPT_DEACTIVATE_FORCE`), but in 2.6 it only tries
//! to remove the mapping for half a minute when something holds it. And how often a mapping is held can be asked here
//! without waiting for another thread's turn. Source of the interface: `linux/dm-ioctl.h`, stable since Linux 2.6.
#![expect(unsafe_code, reason = "device-mapper is driven by ioctl(2)")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

const CONTROL: &str = "/dev/mapper/control";
/// The part of the version that must match; every kernel since 2.6 has major version 4.
const VERSION: [u32; 3] = [4, 0, 0];
const DM_IOCTL: u8 = 0xfd;
const DM_DEV_SUSPEND: u8 = 6;
const DM_DEV_STATUS: u8 = 7;
const DM_TABLE_LOAD: u8 = 9;
const DM_SKIP_LOCKFS_FLAG: u32 = 1 << 10;
const DM_NOFLUSH_FLAG: u32 = 1 << 11;

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
    fn names_end_with_a_nul() {
        assert_eq!(header("blue").unwrap().name[..5], *b"blue\0");
        assert!(header(&"x".repeat(127)).is_ok());
        assert!(header(&"x".repeat(128)).is_err());
    }
}
