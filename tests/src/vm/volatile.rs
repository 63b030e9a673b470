//! A drive with a write cache that is lost when the drive is: what wasn't flushed is gone.
//!
//! Writes stay in the cache until a flush, or go through with FUA; a flush may take as long as a platter needs to come
//! round.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::nbd::{self, Export};
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
        nbd::serve(&socket, Cache { medium: Arc::clone(&medium), flush })?;
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
        self.plug_export(&drive.serial, &drive.socket)
    }
}

/// A medium behind its cache, whose flush takes its time.
struct Cache {
    medium: Arc<Mutex<Medium>>,
    flush: Duration,
}

impl Export for Cache {
    fn size(&self) -> u64 {
        lock(&self.medium).durable.len() as u64
    }

    fn read(&self, offset: usize, buffer: &mut [u8]) -> Option<()> {
        lock(&self.medium).read(offset, buffer)
    }

    fn write(&self, offset: usize, bytes: &[u8], through: bool) -> Option<()> {
        if through {
            std::thread::sleep(self.flush);
        }
        let mut medium = lock(&self.medium);
        let done = medium.write(offset, bytes);
        if through {
            // More than FUA asks for; a drive may always do so.
            medium.flush();
        }
        done
    }

    fn flush(&self) {
        std::thread::sleep(self.flush);
        lock(&self.medium).flush();
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
