//! Years of backups and swaps, day by day: when a drive fills, what is pruned in the safe, what a fire would cost.

use serde::Serialize;

use super::turns::Rotation;
use crate::values::units::{Period, Size};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// What is played through. Each night's backup starts on a volume of its own, as the pool's use duration has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Drives and swaps.
    pub rotation: Rotation,
    /// The pool's volume retention.
    pub retention: Period,
    /// Volumes on each drive.
    pub volumes_per_drive: u32,
    /// Size of a volume.
    pub volume_size: Size,
    /// Size of a full backup on the first day.
    pub full: Size,
    /// Size of an incremental backup on the first day.
    pub incremental: Size,
    /// Days between two full backups, at least 1.
    pub full_every: u32,
    /// By how many percent the backups grow in a year.
    pub growth_percent: u32,
    /// Swaps that don't take place, e.g. for holidays: 1 is the first after the beginning.
    pub skipped_swaps: Vec<u32>,
    /// How many days are played through.
    pub days: u32,
}

/// What came of it. Days count from 0, drives from 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Nights on which the drive in the dock had no volume left that may be used.
    pub blocked: Vec<Night>,
    /// The first night on which what a drive in the safe got in its latest turn was past its retention, so that Bacula
    /// may prune it.
    pub first_pruned_away: Option<Night>,
    /// On how many nights such history lay in the safe.
    pub nights_with_pruned_away: u32,
    /// What becomes of each drive.
    pub drives: Vec<DriveOutcome>,
    /// If machine and docked drive burn on the worst day after the first cycle: how many days are lost; `None` when
    /// nothing could be restored from the safe.
    pub worst_loss_days: Option<u32>,
}

/// What becomes of one drive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DriveOutcome {
    /// The drive, from 1.
    pub drive: u32,
    /// The first night after which it had no volume left that was never used.
    pub fills: Option<u32>,
    /// The most volumes in use on any night.
    pub peak_volumes: u32,
    /// The first night on which history that lay in the safe was past its retention.
    pub pruned_away: Option<u32>,
    /// How many of the nights that can be restored at the end can't be without this drive.
    pub nights_lost_with_it: u32,
    /// If machine and docked drive burn and this one can't be read either, on the worst day after the first cycle: how
    /// many days are lost; `None` when nothing could be restored.
    pub worst_loss_days: Option<u32>,
}

/// A night and the drive that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Night {
    /// Days since the beginning.
    pub day: u32,
    /// The drive, from 1.
    pub drive: u32,
}

/// A volume in use: the night it was written.
type Volume = u32;

struct Drive {
    used: Vec<Volume>,
    peak: usize,
    /// The night on which its latest turn in the dock began.
    turn: u32,
}

/// A night's backup.
struct Backup {
    full: bool,
    /// Index of the drive; `None` if there was no room.
    drive: Option<usize>,
    /// Whether its volumes have been written over.
    gone: bool,
}

/// Plays a scenario through.
///
/// # Examples
/// ```
/// use bacula_conf::{Period, Rotation, Scenario, Size, simulate};
///
/// let tutorial = Scenario {
///     rotation: Rotation::new(6, Period::weeks(1)),
///     retention: Period::weeks(4),
///     volumes_per_drive: 69,
///     volume_size: Size::gib(10),
///     full: Size::gib(300),
///     incremental: Size::gib(15),
///     full_every: 7,
///     growth_percent: 0,
///     skipped_swaps: Vec::new(),
///     days: 365,
/// };
/// let outcome = simulate(&tutorial);
/// assert_eq!(outcome.first_pruned_away.map(|night| night.day), Some(28), "after four weeks, not six");
/// assert_eq!(simulate(&Scenario { retention: Period::days(42), ..tutorial }).first_pruned_away, None);
/// ```
pub fn simulate(scenario: &Scenario) -> Outcome {
    let count = usize::try_from(scenario.rotation.drives.max(1)).unwrap_or(1);
    let retention = days(scenario.retention);
    let mut drives: Vec<Drive> = (0..count).map(|_| Drive { used: Vec::new(), peak: 0, turn: 0 }).collect();
    let mut backups: Vec<Backup> = Vec::new();
    let mut outcome = Outcome { worst_loss_days: Some(0), ..Outcome::default() };
    outcome.drives = (0..count)
        .map(|index| DriveOutcome {
            drive: number(index),
            worst_loss_days: Some(0),
            ..DriveOutcome::default()
        })
        .collect();
    let mut docked = 0;
    let swap_every = days(scenario.rotation.swap_every).max(1);
    for day in 0..scenario.days {
        if day > 0 && day % swap_every == 0 && !scenario.skipped_swaps.contains(&(day / swap_every)) {
            docked = (docked + 1) % count;
            if let Some(drive) = drives.get_mut(docked) {
                drive.turn = day;
            }
        }
        let full = day % scenario.full_every.max(1) == 0;
        let needed = volumes_needed(scenario, day, full);
        let room = drives.get_mut(docked).and_then(|drive| drive.make_room(scenario, day, retention, needed));
        if let Some(recycled) = room {
            for night in recycled {
                if let Some(backup) = usize::try_from(night).ok().and_then(|night| backups.get_mut(night)) {
                    backup.gone = true;
                }
            }
            backups.push(Backup { full, drive: Some(docked), gone: false });
        } else {
            outcome.blocked.push(Night { day, drive: number(docked) });
            backups.push(Backup { full, drive: None, gone: true });
        }
        prunable_away(&drives, docked, day, retention, &mut outcome);
        if day >= swap_every.saturating_mul(scenario.rotation.drives) {
            let worse = |worst: Option<u32>, lost| {
                worst.and_then(|worst| Some(worst.max(loss_without(&backups, docked, lost)?)))
            };
            outcome.worst_loss_days = worse(outcome.worst_loss_days, docked);
            for (index, drive) in outcome.drives.iter_mut().enumerate() {
                drive.worst_loss_days = worse(drive.worst_loss_days, index);
            }
        }
        for (drive, known) in drives.iter().zip(&mut outcome.drives) {
            if drive.used.len() >= usize::try_from(scenario.volumes_per_drive).unwrap_or(usize::MAX) {
                known.fills.get_or_insert(day);
            }
        }
    }
    let all = restorable(&backups, None);
    for (index, (drive, known)) in drives.iter().zip(&mut outcome.drives).enumerate() {
        known.peak_volumes = u32::try_from(drive.peak).unwrap_or(u32::MAX);
        known.nights_lost_with_it = all - restorable(&backups, Some(index));
    }
    outcome
}

impl Drive {
    /// Takes volumes for a night: unused ones first, then the oldest that are past their retention. Returns the nights
    /// that were written over, or `None` without room; then nothing is changed.
    fn make_room(&mut self, scenario: &Scenario, day: u32, retention: u32, needed: u32) -> Option<Vec<u32>> {
        let free = scenario.volumes_per_drive.saturating_sub(u32::try_from(self.used.len()).ok()?);
        let to_recycle = usize::try_from(needed.saturating_sub(free)).ok()?;
        // Volumes are in the order in which they were written.
        let expired = self.used.iter().take_while(|night| day - **night > retention).count();
        if to_recycle > expired {
            return None;
        }
        let recycled: Vec<u32> = self.used.drain(..to_recycle).collect();
        self.used.extend((0..needed).map(|_| day));
        self.peak = self.peak.max(self.used.len());
        Some(recycled)
    }
}

/// Notes volumes in the safe that are past their retention although they were written in their drive's latest turn;
/// what is older was kept for a whole cycle and longer.
fn prunable_away(drives: &[Drive], docked: usize, day: u32, retention: u32, outcome: &mut Outcome) {
    let expired = |drive: &Drive| {
        let oldest = drive.used.iter().find(|night| **night >= drive.turn);
        oldest.is_some_and(|night| day - *night >= retention)
    };
    let mut found = false;
    for (index, _) in drives.iter().enumerate().filter(|(index, drive)| *index != docked && expired(drive)) {
        found = true;
        outcome.first_pruned_away.get_or_insert(Night { day, drive: number(index) });
        if let Some(known) = outcome.drives.get_mut(index) {
            known.pruned_away.get_or_insert(day);
        }
    }
    outcome.nights_with_pruned_away += u32::from(found);
}

/// How many days before the last night the newest state lies that can be restored without two of the drives: a full
/// backup and all that followed it up to there. `None` if there is none.
fn loss_without(backups: &[Backup], docked: usize, lost: usize) -> Option<u32> {
    let usable =
        |backup: &Backup| !backup.gone && backup.drive.is_some_and(|drive| drive != docked && drive != lost);
    // Backwards from the newest night: a chain ends at its full backup, and breaks at a backup that is missing.
    let mut newest: Option<usize> = None;
    for (night, backup) in backups.iter().enumerate().rev() {
        if !usable(backup) {
            newest = None;
            continue;
        }
        let end = *newest.get_or_insert(night);
        if backup.full {
            return u32::try_from(backups.len() - 1 - end).ok();
        }
    }
    None
}

/// How many nights can be restored, with all drives or without one.
fn restorable(backups: &[Backup], lost: Option<usize>) -> u32 {
    let mut chain = false;
    let mut count = 0;
    for backup in backups {
        let usable = !backup.gone && backup.drive.is_some() && backup.drive != lost;
        chain = usable && (backup.full || chain);
        count += u32::from(chain);
    }
    count
}

fn volumes_needed(scenario: &Scenario, day: u32, full: bool) -> u32 {
    let size = if full { scenario.full } else { scenario.incremental };
    let grown = u128::from(size.as_bytes())
        * (36_500 + u128::from(day) * u128::from(scenario.growth_percent))
        / 36_500;
    let volume = u128::from(scenario.volume_size.as_bytes().max(1));
    u32::try_from(grown.div_ceil(volume)).unwrap_or(u32::MAX)
}

fn days(period: Period) -> u32 {
    u32::try_from(period.as_seconds() / DAY).unwrap_or(u32::MAX)
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn weekly(drives: u32, retention: Period) -> Scenario {
        Scenario {
            rotation: Rotation::new(drives, Period::weeks(1)),
            retention,
            volumes_per_drive: 69,
            volume_size: Size::gib(10),
            full: Size::gib(200),
            incremental: Size::gib(15),
            full_every: 7,
            growth_percent: 0,
            skipped_swaps: Vec::new(),
            days: 5 * 365,
        }
    }

    #[test]
    fn the_tutorials_retention_prunes_what_lies_in_the_safe() {
        let outcome = simulate(&weekly(6, Period::weeks(4)));
        assert_eq!(outcome.first_pruned_away, Some(Night { day: 28, drive: 1 }));
        assert_eq!(outcome.blocked, []);
        assert_eq!(simulate(&weekly(6, Period::weeks(6))).first_pruned_away, None);
    }

    #[test]
    fn a_skipped_swap_needs_the_slack() {
        let holidays = |weeks| {
            let scenario = Scenario { skipped_swaps: vec![10], ..weekly(6, Period::weeks(weeks)) };
            simulate(&scenario).first_pruned_away.is_some()
        };
        assert!(holidays(6));
        assert!(!holidays(7));
    }

    #[test]
    fn a_week_is_lost_with_the_docked_drive() {
        assert_eq!(simulate(&weekly(6, Period::weeks(7))).worst_loss_days, Some(7));
        assert_eq!(simulate(&weekly(1, Period::weeks(7))).worst_loss_days, None, "nothing in the safe");
        // A full backup every second week: the drives between hold incrementals to a full one that is in the safe too.
        let sparse =
            |full_every| simulate(&Scenario { full_every, ..weekly(6, Period::weeks(7)) }).worst_loss_days;
        assert_eq!(sparse(14), Some(7));
        // Every eighth week: in the seventh, the only full backup is on the docked drive.
        assert_eq!(sparse(56), None);
    }

    #[test]
    fn growth_fills_a_drive() {
        // A turn takes 20 + 6 x 2 of the 69 volumes, and two turns are kept before the older one may go.
        assert_eq!(simulate(&weekly(6, Period::weeks(7))).blocked, []);
        let outcome = simulate(&Scenario { growth_percent: 30, ..weekly(6, Period::weeks(7)) });
        assert!(outcome.blocked.first().is_some_and(|night| night.day > 42), "{:?}", outcome.blocked.first());
        assert!(outcome.drives.iter().all(|drive| drive.peak_volumes <= 69 && drive.fills.is_some()));
    }

    #[test]
    fn a_blocked_full_backup_costs_history() {
        let large = Scenario { full: Size::gib(300), ..weekly(6, Period::weeks(7)) };
        let outcome = simulate(&large);
        assert_eq!(outcome.blocked.first(), Some(&Night { day: 42, drive: 1 }));
        assert!(outcome.worst_loss_days > Some(7));
    }

    #[test]
    fn a_lost_drive_takes_its_own_nights_with_it() {
        // A full backup a week, the day of the swap: each drive holds whole weeks.
        let outcome = simulate(&Scenario { days: 42, ..weekly(6, Period::weeks(7)) });
        assert!(outcome.drives.iter().all(|drive| drive.nights_lost_with_it == 7), "{:?}", outcome.drives);
        // A full backup every second week: the drive that holds it takes the next one's nights as well.
        let outcome = simulate(&Scenario { days: 42, full_every: 14, ..weekly(6, Period::weeks(7)) });
        let lost: Vec<_> = outcome.drives.iter().map(|drive| drive.nights_lost_with_it).collect();
        assert_eq!(lost, [14, 7, 14, 7, 14, 7]);
        // The machine burns, and the newest drive in the safe can't be read: two weeks are lost in place of one.
        let outcome = simulate(&weekly(6, Period::weeks(7)));
        assert!(outcome.drives.iter().all(|drive| drive.worst_loss_days == Some(14)), "{:?}", outcome.drives);
    }

    #[test]
    fn the_safe_is_pruned_drive_by_drive() {
        let outcome = simulate(&weekly(6, Period::weeks(4)));
        let days: Vec<_> = outcome.drives.iter().map(|drive| drive.pruned_away).collect();
        assert_eq!(days, [Some(28), Some(35), Some(42), Some(49), Some(56), Some(63)]);
    }

    proptest! {
        #[test]
        fn the_least_retention_prunes_nothing_with_one_late_swap(drives in 2_u32..9, swap in 1_u64..15, late in 1_u32..40) {
            let rotation = Rotation::new(drives, Period::days(swap));
            let scenario = Scenario {
                rotation,
                retention: rotation.minimum_retention(),
                volumes_per_drive: 100_000,
                full_every: 1 + u32::try_from(swap).unwrap_or(1),
                skipped_swaps: vec![late],
                days: 600,
                ..weekly(drives, Period::days(1))
            };
            prop_assert_eq!(simulate(&scenario).first_pruned_away, None);
            let short = Period::days(swap * u64::from(drives) - swap);
            let pruned = simulate(&Scenario { retention: short, ..scenario }).first_pruned_away;
            prop_assert!(pruned.is_some());
        }
    }
}
