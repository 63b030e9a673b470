//! A drive with a write cache that is lost when the drive is: what wasn't flushed is gone.
//!
//! QEMU reaches it as an NBD export (the protocol's `doc/proto.md`: fixed newstyle negotiation, simple replies). Writes
//! stay in the cache until a flush, or go through with FUA; a flush may take as long as a platter needs to come round.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::{Drive, Vm};

const PAGE: usize = 4096;

/// What is on the platters, and what is in the cache only.
#[derive(Debug)]
struct Medium {
    durable: Vec<u8>,
    cached: HashMap<usize, Vec<u8>>,
}

/// A drive that serves a copy of another one's contents from memory.
#[derive(Debug)]
pub struct VolatileDrive {
    serial: String,
    socket: PathBuf,
    medium: Arc<Mutex<Medium>>,
}

/// The contents of a drive at one moment.
#[derive(Debug)]
pub struct Cut {
    /// What was flushed: all that is left when the drive loses its cache.
    pub flushed: Vec<u8>,
    /// What was flushed or only written: what is left when it doesn't.
    pub written: Vec<u8>,
}

impl VolatileDrive {
    /// Serves the contents of `drive`, which isn't changed, under its serial; each flush takes `flush`.
    ///
    /// # Errors
    /// When the file can't be read or the socket not be made.
    pub fn of(drive: &Drive, flush: Duration) -> Result<Self> {
        let durable = fs::read(drive.file()).context("cannot read the drive's file")?;
        ensure!(durable.len().is_multiple_of(PAGE), "a drive of whole pages");
        let medium = Arc::new(Mutex::new(Medium { durable, cached: HashMap::new() }));
        let socket = drive.file().with_extension("nbd");
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
        let served = Arc::clone(&medium);
        std::thread::Builder::new().name("nbd".into()).spawn(move || {
            // The one connection ends with the drive's unplugging.
            if let Ok((stream, _)) = listener.accept() {
                drop(serve(stream, &served, flush));
            }
        })?;
        Ok(Self { serial: drive.serial().to_owned(), socket, medium })
    }

    /// Holds the drive at this moment, asks what was promised by now, and returns both.
    pub fn cut<T>(&self, promised: impl FnOnce() -> T) -> (Cut, T) {
        let medium = lock(&self.medium);
        let promised = promised();
        let flushed = medium.durable.clone();
        let mut written = flushed.clone();
        for (page, bytes) in &medium.cached {
            if let Some(place) = written.get_mut(page * PAGE..(page + 1) * PAGE) {
                place.copy_from_slice(bytes);
            }
        }
        (Cut { flushed, written }, promised)
    }
}

impl Vm {
    /// Plugs a drive whose cache can be lost.
    ///
    /// # Errors
    /// As [`Vm::plug`].
    pub fn plug_volatile(&self, drive: &VolatileDrive) -> Result<()> {
        let server = json!({ "type": "unix", "path": drive.socket });
        let backend = json!({ "driver": "nbd", "server": server });
        self.attach_backend(
            &drive.serial,
            &backend,
            &json!({ "direct": false, "no-flush": false }),
            &json!({ "driver": "scsi-hd", "bus": "scsi0.0" }),
        )
    }
}

fn lock(medium: &Mutex<Medium>) -> MutexGuard<'_, Medium> {
    medium.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Medium {
    fn read(&self, offset: usize, buffer: &mut [u8]) -> Option<()> {
        for (start, part) in pieces(offset, buffer.len()) {
            let from = match self.cached.get(&(start / PAGE)) {
                Some(page) => page.get(start % PAGE..start % PAGE + part)?,
                None => self.durable.get(start..start + part)?,
            };
            buffer.get_mut(start - offset..start - offset + part)?.copy_from_slice(from);
        }
        Some(())
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Option<()> {
        for (start, part) in pieces(offset, bytes.len()) {
            let page = start / PAGE;
            let durable = self.durable.get(page * PAGE..(page + 1) * PAGE)?;
            let cached = self.cached.entry(page).or_insert_with(|| durable.to_vec());
            let from = bytes.get(start - offset..start - offset + part)?;
            cached.get_mut(start % PAGE..start % PAGE + part)?.copy_from_slice(from);
        }
        Some(())
    }

    fn flush(&mut self) {
        for (page, bytes) in self.cached.drain() {
            if let Some(place) = self.durable.get_mut(page * PAGE..(page + 1) * PAGE) {
                place.copy_from_slice(&bytes);
            }
        }
    }
}

/// A range cut at the borders of pages: starts and lengths.
fn pieces(offset: usize, length: usize) -> impl Iterator<Item = (usize, usize)> {
    let end = offset + length;
    let mut start = offset;
    std::iter::from_fn(move || {
        let part = (PAGE - start % PAGE).min(end - start);
        let piece = (start, part);
        start += part;
        (part > 0).then_some(piece)
    })
}

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
/// Has flags, takes FLUSH, takes FUA.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3;

fn serve(mut stream: UnixStream, medium: &Mutex<Medium>, flush: Duration) -> Result<()> {
    let size = lock(medium).durable.len() as u64;
    negotiate(&mut stream, size)?;
    loop {
        ensure!(u32::from_be_bytes(take(&mut stream)?) == 0x2560_9513, "no request");
        let flags = u16::from_be_bytes(take(&mut stream)?);
        let kind = u16::from_be_bytes(take(&mut stream)?);
        let handle: [u8; 8] = take(&mut stream)?;
        let offset = usize::try_from(u64::from_be_bytes(take(&mut stream)?))?;
        let length = usize::try_from(u32::from_be_bytes(take(&mut stream)?))?;
        let mut data = Vec::new();
        let done = match kind {
            0 => {
                data.resize(length, 0);
                lock(medium).read(offset, &mut data)
            }
            1 => {
                let mut bytes = vec![0; length];
                stream.read_exact(&mut bytes)?;
                let through = flags & 1 != 0;
                if through {
                    std::thread::sleep(flush);
                }
                let mut medium = lock(medium);
                let done = medium.write(offset, &bytes);
                if through {
                    // More than FUA asks for; a drive may always do so.
                    medium.flush();
                }
                done
            }
            2 => return Ok(()),
            3 => {
                std::thread::sleep(flush);
                lock(medium).flush();
                Some(())
            }
            _ => None,
        };
        let invalid: u32 = if done.is_some() { 0 } else { 22 };
        let mut reply = 0x6744_6698_u32.to_be_bytes().to_vec();
        reply.extend(invalid.to_be_bytes());
        reply.extend(handle);
        if done.is_some() {
            reply.extend(data);
        }
        stream.write_all(&reply)?;
    }
}

fn negotiate(stream: &mut UnixStream, size: u64) -> Result<()> {
    const EXPORT_NAME: u32 = 1;
    const ABORT: u32 = 2;
    const INFO: u32 = 6;
    const GO: u32 = 7;
    stream.write_all(b"NBDMAGIC")?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&3_u16.to_be_bytes())?; // fixed newstyle, no zeroes
    let _flags: [u8; 4] = take(stream)?;
    loop {
        ensure!(u64::from_be_bytes(take(stream)?) == OPTION_MAGIC, "no option");
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        let mut data = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut data)?;
        let mut answer = |kind: u32, payload: &[u8]| {
            let mut reply = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
            for word in [option, kind, u32::try_from(payload.len()).unwrap_or_default()] {
                reply.extend(word.to_be_bytes());
            }
            reply.extend(payload);
            stream.write_all(&reply)
        };
        match option {
            EXPORT_NAME => {
                stream.write_all(&size.to_be_bytes())?;
                return Ok(stream.write_all(&EXPORT_FLAGS.to_be_bytes())?);
            }
            ABORT => bail!("the client went away"),
            INFO | GO => {
                let mut export = 0_u16.to_be_bytes().to_vec();
                export.extend(size.to_be_bytes());
                export.extend(EXPORT_FLAGS.to_be_bytes());
                answer(3, &export)?;
                answer(1, &[])?;
                if option == GO {
                    return Ok(());
                }
            }
            _ => answer(1 << 31 | 1, &[])?, // not supported here
        }
    }
}

fn take<const LENGTH: usize>(stream: &mut UnixStream) -> Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Writes the contents of a cut over a drive's own.
///
/// # Errors
/// When the file can't be written.
pub fn restore(drive: &Drive, contents: &[u8]) -> Result<()> {
    let path: &Path = drive.file();
    fs::write(path, contents).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_flushed_is_lost() {
        let mut medium = Medium { durable: vec![0; 3 * PAGE], cached: HashMap::new() };
        let mut read = vec![9; 4];
        medium.write(PAGE - 2, &[1, 2, 3, 4]).unwrap();
        medium.read(PAGE - 2, &mut read).unwrap();
        assert_eq!(read, [1, 2, 3, 4], "the cache is read");
        assert!(medium.durable.iter().all(|byte| *byte == 0), "nothing was flushed");
        medium.flush();
        assert_eq!(medium.durable[PAGE - 2..PAGE + 2], [1, 2, 3, 4]);
        medium.write(0, &[7]).unwrap();
        let drive = VolatileDrive {
            serial: "X".into(),
            socket: PathBuf::new(),
            medium: Arc::new(Mutex::new(medium)),
        };
        let (cut, said) = drive.cut(|| "promised");
        assert_eq!((cut.flushed[0], cut.written[0], said), (0, 7, "promised"));
        assert!(lock(&drive.medium).write(3 * PAGE - 1, &[1, 1]).is_none(), "beyond the end");
    }
}
