//! What is read back after writing, and how surely it finds damage.

use serde::Serialize;

use crate::io::pass::{Extent, Plan};

/// How a wipe is verified by reading back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "mode")]
#[non_exhaustive]
pub enum Verify {
    /// Every byte is compared.
    Full,
    /// Random places are compared, as many as find damage with a given confidence.
    Sample {
        /// Probability, above 0 and below 1, to find damage that is at least as large as `damage`.
        confidence: f64,
        /// The fraction of the drive, above 0 and at most 1, that is damaged.
        damage: f64,
    },
    /// Nothing is read back.
    None,
}

impl Verify {
    /// Samples so that damage to a thousandth of the drive is found with a probability of 99.9 %.
    pub const SAMPLE: Self = Self::Sample { confidence: 0.999, damage: 0.001 };
}

/// The size of a sampled place, in bytes.
const PLACE: usize = 64 << 10;

/// How many random places find the damage: the smallest n with 1 - (1 - damage)^n >= confidence.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the value is clamped first")]
pub(crate) fn places_needed(confidence: f64, damage: f64) -> u64 {
    let confidence = confidence.clamp(0.0, 1.0 - 1e-12);
    let damage = damage.clamp(1e-9, 1.0 - 1e-12);
    let needed = (1.0 - confidence).ln() / (1.0 - damage).ln();
    (needed.ceil().clamp(1.0, 1e12)) as u64
}

/// One random place in each of as many equal stretches as are needed, and the drive's first and last place.
///
/// A stretch of its own for each place never finds less than places thrown blindly. `random` supplies numbers
/// of 64 bits. A drive with fewer places than needed is read whole.
pub(crate) fn sample_plan(
    size: u64,
    chunk: usize,
    confidence: f64,
    damage: f64,
    mut random: impl FnMut() -> u64,
) -> Plan {
    let place = PLACE as u64;
    let places = size.div_ceil(place);
    let needed = places_needed(confidence, damage);
    if needed >= places {
        return Plan::Range { start: 0, end: size, chunk };
    }
    let mut chosen: Vec<u64> = (0..needed)
        .map(|stretch| {
            let bound = |index: u64| u128::from(places) * u128::from(index) / u128::from(needed);
            let (from, to) = (bound(stretch), bound(stretch + 1));
            let at = from + u128::from(random()) % (to - from).max(1);
            u64::try_from(at).unwrap_or(0)
        })
        .chain([0, places - 1])
        .collect();
    chosen.sort_unstable();
    chosen.dedup();
    Plan::Places(
        chosen
            .into_iter()
            .map(|index| {
                let offset = index * place;
                let left = usize::try_from(size - offset).unwrap_or(PLACE);
                Extent { offset, length: left.min(PLACE) }
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_many_places_as_the_confidence_needs() {
        assert_eq!(places_needed(0.999, 0.001), 6905);
        assert_eq!(places_needed(0.5, 0.5), 1);
        assert_eq!(places_needed(0.99, 0.5), 7);
    }

    proptest! {
        #[test]
        fn places_are_ascending_and_inside(size in 1_u64..1 << 40, seed in any::<u64>()) {
            let mut state = seed;
            let random = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state };
            let plan = sample_plan(size, 4 << 20, 0.9, 0.05, random);
            if let Plan::Places(extents) = &plan {
                prop_assert!(extents.windows(2).all(|pair| pair[0].offset < pair[1].offset));
                prop_assert_eq!(extents[0].offset, 0);
                let last = extents.last().unwrap();
                prop_assert_eq!(last.offset + last.length as u64, size);
                prop_assert!(extents.len() as u64 >= places_needed(0.9, 0.05));
            } else {
                prop_assert_eq!(plan.total_bytes(), size);
            }
        }
    }

    /// Damage of the promised size is found at least as often as promised.
    #[test]
    fn the_confidence_is_kept() {
        let (size, damage, confidence) = (1_u64 << 30, 0.02, 0.9);
        let damaged = size / 50;
        let mut state = 1_u64;
        let mut found = 0;
        for round in 0..400_u64 {
            let mut random = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 16
            };
            let start = random() % (size - damaged);
            let Plan::Places(extents) = sample_plan(size, 4 << 20, confidence, damage, random) else {
                panic!("round {round} read all")
            };
            let hit = |extent: &Extent| {
                extent.offset + extent.length as u64 > start && extent.offset < start + damaged
            };
            found += u32::from(extents.iter().any(hit));
        }
        assert!(found >= 360, "{found} of 400");
    }
}
