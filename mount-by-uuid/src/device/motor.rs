//! Stopping a drive's motor before it is pulled, and starting it again.
//!
//! The command is SCSI's START STOP UNIT (SBC-4, 5.31), which libata and USB bridges translate for SATA drives. It goes
//! through `SG_IO` on the block device (`include/scsi/sg.h`), so the device stays where it is: deleting it in /sys, or
//! switching off the USB port's power, would stop the motor as well, but then only a rescan or another plug brings it
//! back. The kernel lets everybody give it who may open the device, without `CAP_SYS_RAWIO`; the flush before it is the
//! kernel's own (fsync(2) on a block device), for which no right is needed either.
#![expect(unsafe_code, reason = "SG_IO has no safe form; the header and what it points at live on the stack")]

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::{io, ptr};

/// Why a drive's motor can't be stopped or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MotorError {
    /// The device can't be opened.
    #[error("can't open {}", device.display())]
    Open {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Its cache can't be written down.
    #[error("can't flush {}", device.display())]
    Flush {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The device takes no SCSI commands: a loop device, an SD card, a partition.
    #[error("{} takes no command to stop or start", device.display())]
    Unsupported {
        /// The device.
        device: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The drive refused.
    #[error("{} refused (status {status:#04x}, host {host:#06x})", device.display())]
    Refused {
        /// The device.
        device: PathBuf,
        /// The SCSI status byte.
        status: u8,
        /// The host adapter's status.
        host: u16,
    },
}

/// Has a drive write down its cache and stop.
///
/// A stopped drive starts again with the next request to it, or by [`start_motor`] where it doesn't do so by itself.
///
/// # Errors
/// [`MotorError::Unsupported`] for what has no motor to speak to; the drive may be pulled all the same once it is still.
pub fn stop_motor(device: &Path) -> Result<(), MotorError> {
    let file = open(device)?;
    file.sync_all().map_err(|source| MotorError::Flush { device: device.to_owned(), source })?;
    command(device, &file, STOP)
}

/// Has a drive start that [`stop_motor`] stopped, and waits until it runs.
///
/// # Errors
/// See [`stop_motor`].
pub fn start_motor(device: &Path) -> Result<(), MotorError> {
    command(device, &open(device)?, START)
}

const STOP: [u8; 6] = [0x1b, 0, 0, 0, 0, 0];
const START: [u8; 6] = [0x1b, 0, 0, 0, 1, 0];

/// What a large drive needs to come up to speed.
const LIMIT_MILLISECONDS: u32 = 60_000;

/// Neither read nor written, so that udev takes no notice and looks at nothing.
fn open(device: &Path) -> Result<File, MotorError> {
    let opened = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(device);
    opened.map_err(|source| MotorError::Open { device: device.to_owned(), source })
}

fn command<const LENGTH: usize>(
    device: &Path,
    file: &File,
    mut words: [u8; LENGTH],
) -> Result<(), MotorError> {
    let mut sense = [0_u8; 32];
    let mut header = Header {
        interface_id: i32::from(b'S'),
        dxfer_direction: -1, // SG_DXFER_NONE
        cmd_len: u8::try_from(LENGTH).unwrap_or_default(),
        mx_sb_len: 32,
        iovec_count: 0,
        dxfer_len: 0,
        dxferp: ptr::null_mut(),
        cmdp: words.as_mut_ptr(),
        sbp: sense.as_mut_ptr(),
        timeout: LIMIT_MILLISECONDS,
        flags: 0,
        pack_id: 0,
        usr_ptr: ptr::null_mut(),
        status: 0,
        masked_status: 0,
        msg_status: 0,
        sb_len_wr: 0,
        host_status: 0,
        driver_status: 0,
        resid: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the header is laid out as the kernel's and, like the two buffers it points at, outlives the call; no data
    // is transferred.
    let sent = unsafe { raw::sg_io(file.as_raw_fd(), &raw mut header) };
    if let Err(errno) = sent {
        return Err(MotorError::Unsupported { device: device.to_owned(), source: errno.into() });
    }
    if header.status != 0 || header.host_status != 0 {
        let (status, host) = (header.status, header.host_status);
        return Err(MotorError::Refused { device: device.to_owned(), status, host });
    }
    Ok(())
}

/// `struct sg_io_hdr` of `include/scsi/sg.h`.
#[repr(C)]
struct Header {
    interface_id: i32,
    dxfer_direction: i32,
    cmd_len: u8,
    mx_sb_len: u8,
    iovec_count: u16,
    dxfer_len: u32,
    dxferp: *mut u8,
    cmdp: *mut u8,
    sbp: *mut u8,
    timeout: u32,
    flags: u32,
    pack_id: i32,
    usr_ptr: *mut u8,
    status: u8,
    masked_status: u8,
    msg_status: u8,
    sb_len_wr: u8,
    host_status: u16,
    driver_status: u16,
    resid: i32,
    duration: u32,
    info: u32,
}

mod raw {
    // include/scsi/sg.h: #define SG_IO 0x2285
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, super::Header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_the_kernels() {
        // sizeof(struct sg_io_hdr) where pointers have eight bytes
        assert_eq!(size_of::<Header>(), if size_of::<usize>() == 8 { 88 } else { 64 });
    }

    #[test]
    fn what_has_no_motor_says_so() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = stop_motor(file.path()).unwrap_err();
        assert!(matches!(error, MotorError::Unsupported { .. }), "{error:?}");
        assert!(matches!(start_motor(Path::new("/no/such")), Err(MotorError::Open { .. })));
    }
}
