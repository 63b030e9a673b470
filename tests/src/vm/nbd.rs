//! Drives whose every answer is ours: QEMU reaches them as NBD exports (the protocol's `doc/proto.md`: fixed newstyle
//! negotiation, simple replies).

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::Vm;

/// What a drive does with a request; `None` is an error of the drive.
pub(super) trait Export: Send {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// Fills the buffer.
    fn read(&self, offset: usize, buffer: &mut [u8]) -> Option<()>;
    /// Takes bytes; `through` when they must be on the medium before the answer.
    fn write(&self, offset: usize, bytes: &[u8], through: bool) -> Option<()>;
    /// Brings to the medium what was taken.
    fn flush(&self);
}

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // "IHAVEOPT"
/// Has flags, takes FLUSH, takes FUA.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3;

/// Listens at a socket, and answers the one connection that comes; it ends with the drive's unplugging.
pub(super) fn serve(socket: &Path, export: impl Export + 'static) -> Result<()> {
    if socket.exists() {
        fs::remove_file(socket)?;
    }
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
    std::thread::Builder::new().name("nbd".into()).spawn(move || {
        if let Ok((stream, _)) = listener.accept() {
            drop(answer(stream, &export));
        }
    })?;
    Ok(())
}

impl Vm {
    /// Plugs a drive that is served at a socket.
    pub(super) fn plug_export(&self, serial: &str, socket: &Path) -> Result<()> {
        let backend = json!({ "driver": "nbd", "server": { "type": "unix", "path": socket } });
        let cache = json!({ "direct": false, "no-flush": false });
        self.attach_backend(serial, &backend, &cache, &json!({ "driver": "scsi-hd", "bus": "scsi0.0" }))
    }
}

fn answer(mut stream: UnixStream, export: &impl Export) -> Result<()> {
    negotiate(&mut stream, export.size())?;
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
                export.read(offset, &mut data)
            }
            1 => {
                let mut bytes = vec![0; length];
                stream.read_exact(&mut bytes)?;
                export.write(offset, &bytes, flags & 1 != 0)
            }
            2 => return Ok(()),
            3 => {
                export.flush();
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
