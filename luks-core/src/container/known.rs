//! What a header says by itself.

use std::path::Path;

use serde_json::Value;

use super::cost;
use super::load_error::LoadError;
use crate::header::disk_header::DiskHeader;
use crate::header::luks_uuid::LuksUuid;
use crate::header::reencryption;
use crate::header::suspicion::{self, Objection};
use crate::header::version::LuksVersion;

/// What the header says by itself.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) uuid: LuksUuid,
    pub(crate) version: LuksVersion,
    pub(crate) label: Option<String>,
    pub(crate) subsystem: Option<String>,
    pub(crate) cipher: String,
    pub(crate) integrity: Option<String>,
}

impl Known {
    /// Judges a header; of two copies one may be damaged.
    pub(crate) fn of(device: &Path, header: &DiskHeader, detached: bool) -> Result<Self, LoadError> {
        let owned = || device.to_owned();
        let ruined = |reason: &str| LoadError::HeaderRuined { device: owned(), reason: reason.to_owned() };
        let uuid = |text: &str| text.parse().map_err(|_| ruined("its UUID is unreadable"));
        let named = |text: &String| (!text.is_empty()).then(|| text.clone());
        if reencryption::is_under_way(header) {
            return Err(LoadError::Reencryption { device: owned() });
        }
        if let Some(reason) = cost::absurdity(header) {
            return Err(LoadError::TooCostly { device: owned(), reason });
        }
        match suspicion::about(header, detached) {
            None => {}
            Some(Objection::Suspicious(reason)) => {
                return Err(LoadError::Suspicious { device: owned(), reason });
            }
            Some(Objection::Requirements(required)) => {
                return Err(LoadError::Requirements { device: owned(), names: required });
            }
        }
        match header {
            DiskHeader::NotLuks => Err(LoadError::NotLuks { device: owned() }),
            DiskHeader::Luks1Reencryption => Err(LoadError::Reencryption { device: owned() }),
            DiskHeader::Ruined { reason } => Err(ruined(reason)),
            DiskHeader::Luks1(header) => Ok(Self {
                uuid: uuid(&header.uuid)?,
                version: LuksVersion::Luks1,
                label: None,
                subsystem: None,
                cipher: header.cipher.clone(),
                integrity: None,
            }),
            DiskHeader::Sound(copy) | DiskHeader::OneDamaged { good: copy, .. } => {
                let text = |place: &str| copy.metadata.pointer(place).and_then(Value::as_str);
                Ok(Self {
                    uuid: uuid(&copy.uuid)?,
                    version: LuksVersion::Luks2,
                    cipher: text("/segments/0/encryption")
                        .ok_or_else(|| ruined("it names no cipher"))?
                        .to_owned(),
                    integrity: text("/segments/0/integrity/type").map(str::to_owned),
                    label: named(&copy.label),
                    subsystem: named(&copy.subsystem),
                })
            }
        }
    }
}
