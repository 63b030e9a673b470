//! The state together with what is plugged.

use std::collections::{BTreeMap, BTreeSet};

use crate::library::identifiers::MagazineId;
use crate::library::state::{State, Volumes};
use crate::system::presence::{Access, Presence};

/// The state together with what is plugged.
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) presences: Vec<(MagazineId, Presence)>,
    /// What may be shown: plugged, or not known to be away and there when last looked at.
    pub(crate) present: BTreeSet<MagazineId>,
    /// Lists of volumes that could not be written, and count all the same for who only asks.
    pub(crate) unsaved: BTreeMap<MagazineId, Volumes>,
    /// Magazines stand in other bays than the stored state says.
    pub(crate) bays_changed: bool,
}

impl View {
    pub(crate) fn presence(&self, id: &MagazineId) -> &Presence {
        self.presences
            .iter()
            .find(|(other, _)| other == id)
            .map_or(&Presence::Absent, |(_, presence)| presence)
    }

    /// Whether a magazine is mounted or a plain directory, so that looking into it wakes nothing.
    pub(crate) fn is_open(&self, id: &MagazineId) -> bool {
        matches!(self.presence(id), Presence::Present { access: Access::Plain | Access::Automounted, .. })
    }
}
