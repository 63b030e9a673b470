//! How fast a drive was where: a slow zone is the first sign of a dying disk.

use std::time::Duration;

use serde::Serialize;

/// The rate over one stretch of the drive.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Zone {
    /// The stretch.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Mean rate in bytes per second; `None` where nothing was measured, as in a part that an earlier run wrote.
    pub bytes_per_second: Option<f64>,
    /// The rate of the worst second, in bytes per second, where the work there lasted that long: a spot that the
    /// drive needed many tries for doesn't show in the mean.
    pub slowest_second: Option<f64>,
    /// Whether it is less than half as fast as the zones around it.
    pub slow: bool,
}

/// Into how many stretches a drive is cut.
const ZONES: u64 = 32;

/// How many zones on either side a zone is compared with: a disk's inner tracks are slower by nature, but not by leaps.
const AROUND: usize = 4;

/// How long the work is watched for the slowest second.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    bytes: u64,
    seconds: f64,
    slowest: Option<f64>,
}

/// Rates over the stretches of a drive, from how far the work is and when.
pub(crate) struct Profile {
    size: u64,
    at: u64,
    pending: Duration,
    second: (u64, Duration),
    zones: Vec<Measured>,
}

impl Profile {
    pub(crate) fn new(size: u64, start: u64) -> Self {
        Self {
            size,
            at: start,
            pending: Duration::ZERO,
            second: (start, Duration::ZERO),
            zones: vec![Measured::default(); usize::try_from(ZONES).unwrap_or(32)],
        }
    }

    fn bound(&self, index: u64) -> u64 {
        u64::try_from(u128::from(self.size) * u128::from(index) / u128::from(ZONES)).unwrap_or(self.size)
    }

    /// Takes note that everything before `offset` is done, `elapsed` after the last call.
    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(crate) fn advance(&mut self, offset: u64, elapsed: Duration) {
        self.watch_second(offset, elapsed);
        self.pending += elapsed;
        if offset <= self.at {
            return;
        }
        let (from, span, seconds) = (self.at, (offset - self.at) as f64, self.pending.as_secs_f64());
        for index in 0..ZONES {
            let part = offset.min(self.bound(index + 1)).saturating_sub(from.max(self.bound(index)));
            if part > 0
                && let Some(zone) = self.zone(index)
            {
                zone.bytes += part;
                zone.seconds += seconds * part as f64 / span;
            }
        }
        self.at = offset;
        self.pending = Duration::ZERO;
    }

    fn zone(&mut self, index: u64) -> Option<&mut Measured> {
        usize::try_from(index).ok().and_then(|index| self.zones.get_mut(index))
    }

    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    fn watch_second(&mut self, offset: u64, elapsed: Duration) {
        self.second.1 += elapsed;
        let (from, time) = self.second;
        if time < SECOND {
            return;
        }
        let rate = offset.saturating_sub(from) as f64 / time.as_secs_f64();
        let index = (0..ZONES).rev().find(|index| self.bound(*index) <= from).unwrap_or(0);
        if let Some(zone) = self.zone(index) {
            zone.slowest = Some(zone.slowest.map_or(rate, |slowest| slowest.min(rate)));
        }
        self.second = (offset, Duration::ZERO);
    }

    #[expect(clippy::cast_precision_loss, reason = "rates need no more than 53 bits")]
    pub(crate) fn zones(&self) -> Vec<Zone> {
        let rate = |zone: &Measured| {
            (zone.bytes > 0 && zone.seconds > 0.0).then(|| zone.bytes as f64 / zone.seconds)
        };
        let rates: Vec<Option<f64>> = self.zones.iter().map(rate).collect();
        (0..ZONES)
            .zip(self.zones.iter().zip(&rates).enumerate())
            .map(|(index, (place, (zone, rate)))| {
                let offset = self.bound(index);
                Zone {
                    offset,
                    length: self.bound(index + 1) - offset,
                    bytes_per_second: *rate,
                    slowest_second: zone.slowest,
                    slow: rate.zip(usual(&rates, place)).is_some_and(|(rate, usual)| rate < usual / 2.0),
                }
            })
            .collect()
    }
}

/// The median rate of the zones around one.
fn usual(rates: &[Option<f64>], place: usize) -> Option<f64> {
    let around = place.saturating_sub(AROUND)..rates.len().min(place + AROUND + 1);
    let mut known: Vec<f64> = rates.get(around)?.iter().copied().flatten().collect();
    known.sort_by(f64::total_cmp);
    known.get(known.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(profile: &mut Profile, from: u64, to: u64, per_second: u64) {
        for at in (from..to).step_by(usize::try_from(per_second).unwrap()) {
            profile.advance((at + per_second).min(to), Duration::from_secs(1));
        }
    }

    #[test]
    fn a_slow_zone_shows() {
        let mut profile = Profile::new(3200, 0);
        steady(&mut profile, 0, 1600, 100);
        profile.advance(1600, Duration::from_secs(9));
        steady(&mut profile, 1600, 3200, 100);
        let zones = profile.zones();
        assert_eq!(zones.iter().map(|zone| zone.length).sum::<u64>(), 3200);
        assert_eq!(zones[15].bytes_per_second, Some(100.0));
        assert_eq!(zones[16].bytes_per_second, Some(10.0));
        assert_eq!(zones[31].bytes_per_second, Some(100.0));
        let slow: Vec<u64> = zones.iter().filter(|zone| zone.slow).map(|zone| zone.offset).collect();
        assert_eq!(slow, [1600]);
    }

    #[test]
    fn a_slow_spot_shows_in_the_slowest_second() {
        let mut profile = Profile::new(320_000, 0);
        steady(&mut profile, 0, 163_000, 1000);
        profile.advance(163_010, Duration::from_secs(1));
        steady(&mut profile, 163_010, 320_000, 1000);
        let zones = profile.zones();
        assert_eq!(zones[16].slowest_second, Some(10.0));
        assert!(!zones[16].slow && zones[16].bytes_per_second.unwrap() > 900.0);
        assert_eq!(zones[17].slowest_second, Some(1000.0));
    }

    #[test]
    fn slower_inner_tracks_are_no_slow_zones() {
        let mut profile = Profile::new(32_000, 0);
        for zone in 0..32 {
            steady(&mut profile, zone * 1000, (zone + 1) * 1000, 250 - zone * 4);
        }
        assert!(profile.zones().iter().all(|zone| !zone.slow));
    }

    #[test]
    fn a_resumed_part_has_no_rate() {
        let mut profile = Profile::new(3200, 1600);
        profile.advance(3200, Duration::from_secs(16));
        assert_eq!(profile.zones()[15].bytes_per_second, None);
        assert_eq!(profile.zones()[16].bytes_per_second, Some(100.0));
    }
}
