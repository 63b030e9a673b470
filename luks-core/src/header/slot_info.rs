//! What is known about key slots without a key.

use std::fmt;

use libcryptsetup_rs::consts::vals::KeyslotInfo;
use serde::Serialize;
use serde_json::Value;

use super::disk_header::SoundHeader;
use super::key_slot::KeySlot;

/// Whether a key slot is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SlotState {
    /// No key.
    Empty,
    /// A key, and there are others.
    Active,
    /// The only key.
    ActiveLast,
    /// LUKS2: a key that doesn't open the data.
    Unbound,
    /// libcryptsetup can't make sense of it.
    Invalid,
}

/// The key derivation of a used slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
#[non_exhaustive]
pub enum SlotPbkdf {
    /// PBKDF2.
    Pbkdf2 {
        /// The hash, such as `sha256`.
        hash: String,
        /// Iterations.
        iterations: u64,
    },
    /// Argon2i.
    Argon2i {
        /// Passes over the memory.
        time: u64,
        /// Memory in KiB.
        memory_kib: u64,
        /// Parallel threads.
        threads: u64,
    },
    /// Argon2id.
    Argon2id {
        /// Passes over the memory.
        time: u64,
        /// Memory in KiB.
        memory_kib: u64,
        /// Parallel threads.
        threads: u64,
    },
}

/// One key slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SlotInfo {
    /// Its number.
    pub slot: KeySlot,
    /// Whether it is in use.
    pub state: SlotState,
    /// Its key derivation, when it is in use and the derivation is a known one.
    pub pbkdf: Option<SlotPbkdf>,
}

impl SlotInfo {
    /// Whether a key in this slot opens the data.
    pub fn is_active(&self) -> bool {
        matches!(self.state, SlotState::Active | SlotState::ActiveLast)
    }
}

impl fmt::Display for SlotState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Active => "active",
            Self::ActiveLast => "active, the last one",
            Self::Unbound => "unbound",
            Self::Invalid => "invalid",
        })
    }
}

impl fmt::Display for SlotPbkdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let argon = |f: &mut fmt::Formatter<'_>, name, time, memory, threads| {
            write!(f, "{name}, {time} passes over {memory} KiB, {threads} threads")
        };
        match self {
            Self::Pbkdf2 { hash, iterations } => write!(f, "PBKDF2-{hash}, {iterations} iterations"),
            Self::Argon2i { time, memory_kib, threads } => argon(f, "Argon2i", time, memory_kib, threads),
            Self::Argon2id { time, memory_kib, threads } => argon(f, "Argon2id", time, memory_kib, threads),
        }
    }
}

impl fmt::Display for SlotInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slot {}: {}", self.slot, self.state)?;
        match &self.pbkdf {
            Some(pbkdf) => write!(f, " ({pbkdf})"),
            None => Ok(()),
        }
    }
}

impl From<KeyslotInfo> for SlotState {
    fn from(info: KeyslotInfo) -> Self {
        match info {
            KeyslotInfo::Inactive => Self::Empty,
            KeyslotInfo::Active => Self::Active,
            KeyslotInfo::ActiveLast => Self::ActiveLast,
            KeyslotInfo::Unbound => Self::Unbound,
            KeyslotInfo::Invalid => Self::Invalid,
        }
    }
}

/// The key derivation that the header names for a slot.
pub(crate) fn pbkdf(header: &SoundHeader, slot: KeySlot) -> Option<SlotPbkdf> {
    match header {
        SoundHeader::Luks1(header) => {
            let iterations = header.active_iterations(slot)?;
            Some(SlotPbkdf::Pbkdf2 { hash: header.hash.clone(), iterations: iterations.into() })
        }
        SoundHeader::Luks2(copy) => luks2_pbkdf(copy.metadata.pointer(&format!("/keyslots/{slot}/kdf"))?),
    }
}

fn luks2_pbkdf(kdf: &Value) -> Option<SlotPbkdf> {
    let number = |name: &str| kdf.get(name).and_then(Value::as_u64);
    let argon = || Some((number("time")?, number("memory")?, number("cpus")?));
    match kdf.get("type")?.as_str()? {
        "pbkdf2" => Some(SlotPbkdf::Pbkdf2 {
            hash: kdf.get("hash")?.as_str()?.to_owned(),
            iterations: number("iterations")?,
        }),
        "argon2i" => {
            argon().map(|(time, memory_kib, threads)| SlotPbkdf::Argon2i { time, memory_kib, threads })
        }
        "argon2id" => {
            argon().map(|(time, memory_kib, threads)| SlotPbkdf::Argon2id { time, memory_kib, threads })
        }
        _ => None,
    }
}
