//! `offsite plan`: plays years of backups and swaps through, before they happen.

use bacula_conf::{DriveOutcome, Outcome, Period, Scenario, Size, simulate};
use jiff::civil::Date;
use jiff::{ToSpan as _, Zoned};
use serde::Serialize;

use super::arguments::Plan;
use crate::base::confirm::size;
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;
use crate::base::report;
use crate::site::description::Site;
use crate::site::rotation::{Rotation, full_every};

/// The version of the JSON form; raised when a script could notice.
const VERSION: u32 = 1;

/// The tutorial's drives.
const DRIVE_SIZE: Size = Size::bytes(750_000_000_000);

/// Years that are played through at most.
const MAX_YEARS: u32 = 100;

/// Drives, and volumes on each of them, that are played through at most.
const MAX_DRIVES: u32 = 1000;
const MAX_VOLUMES: u32 = 100_000;

/// What a plan is made of, and what came of it.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    start: String,
    days: u32,
    drives: u32,
    swap_every: Period,
    retention: Period,
    cycle: Period,
    least_retention: Period,
    volumes_per_drive: u32,
    volume_size: Size,
    full: Size,
    incremental: Size,
    full_every_days: u32,
    growth_percent: u32,
    holidays: Vec<String>,
    skipped_swaps: Vec<u32>,
    /// What was neither given nor in site.toml.
    assumed: Vec<&'static str>,
    /// The first night without room, and how many there are.
    first_blocked: Option<String>,
    blocked_nights: usize,
    /// The first night on which history in the safe was past its retention, and how many there are.
    first_pruned_away: Option<String>,
    nights_with_pruned_away: u32,
    /// Days that are lost when machine and docked drive burn on the worst day; none if nothing can be restored.
    worst_loss_days: Option<u32>,
    each_drive: Vec<DriveReport>,
}

#[derive(Debug, Serialize)]
struct DriveReport {
    drive: String,
    fills: Option<String>,
    peak_volumes: u32,
    pruned_away: Option<String>,
    nights_lost_with_it: u32,
    worst_loss_days: Option<u32>,
}

/// Runs `offsite plan`.
pub fn run(root: &Root, options: &Plan) -> Result<(), Failure> {
    let site =
        if root.site_toml().exists() { Site::load(root)? } else { Site::parse("", &root.site_toml())? };
    let setup = Setup::new(&site, options)?;
    let outcome = simulate(&setup.scenario);
    let report = setup.report(&site, &outcome);
    if options.json {
        return report::json(&report);
    }
    print!("{}", report.text());
    Ok(())
}

/// What is played through, and from when on.
struct Setup {
    start: Date,
    scenario: Scenario,
    rotation: Rotation,
    assumed: Vec<&'static str>,
}

impl Setup {
    fn new(site: &Site, options: &Plan) -> Result<Self, Failure> {
        let wrong = |message: String, hint: &str| Failure::new(Exit::Usage, message).hint(hint);
        let mut rotation = site.rotation.clone();
        rotation.swap_every = options.swap_every.unwrap_or(rotation.swap_every);
        rotation.drives = options.drives.or(rotation.drives);
        rotation.growth_percent = options.growth.unwrap_or(rotation.growth_percent);
        rotation.holidays.extend(options.holidays.iter().copied());
        if rotation.swap_every < Period::days(1) {
            return Err(wrong(
                format!("drives can't be swapped every {}", rotation.swap_every),
                "a plan counts in days: --swap-every '1 week'",
            ));
        }
        let mut assumed = Vec::new();
        let mut or = |value: Option<Size>, name: &'static str, otherwise: Size| {
            value.unwrap_or_else(|| {
                assumed.push(name);
                otherwise
            })
        };
        let drive_size = or(options.drive_size.or(rotation.drive_size), "drive-size", DRIVE_SIZE);
        let full = or(options.full.or(rotation.full), "full", Size::bytes(drive_size.as_bytes() / 4));
        let incremental = or(
            options.incremental.or(rotation.incremental),
            "incremental",
            Size::bytes(full.as_bytes() / 20),
        );
        let volume_size = site.bacula.pool.maximum_volume_bytes;
        let volumes = drive_size.as_bytes() / volume_size.as_bytes().max(1);
        let volumes_per_drive = options.volumes.unwrap_or(u32::try_from(volumes).unwrap_or(u32::MAX));
        if volumes_per_drive == 0 {
            return Err(wrong(
                format!("a drive of {drive_size} holds no volume of {volume_size}"),
                "lower bacula.pool.maximum_volume_bytes, or say --volumes",
            ));
        }
        if volumes_per_drive > MAX_VOLUMES {
            return Err(wrong(
                format!("{volumes_per_drive} volumes on a drive are too many to plan with"),
                "raise bacula.pool.maximum_volume_bytes, or say --volumes",
            ));
        }
        if rotation.drives.is_some_and(|drives| !(1..=MAX_DRIVES).contains(&drives)) {
            return Err(wrong("so many drives can't be planned".to_owned(), "say 1 to 1000 drives"));
        }
        if !(1..=MAX_YEARS).contains(&options.years) {
            return Err(wrong(format!("{} years can't be planned", options.years), "say 1 to 100 years"));
        }
        if rotation.drives.is_none() && site.magazines.is_empty() {
            assumed.push("drives");
            rotation.drives = Some(6);
        }
        let turns = rotation.turns(site.magazines.len());
        let start = options.start.unwrap_or_else(|| Zoned::now().date());
        let days = options.years * 365;
        let scenario = Scenario {
            rotation: turns,
            retention: options.retention.unwrap_or(site.bacula.pool.retention),
            volumes_per_drive,
            volume_size,
            full,
            incremental,
            full_every: options
                .full_every
                .or(rotation.full_every_days)
                .unwrap_or_else(|| full_every(&site.bacula))
                .max(1),
            growth_percent: rotation.growth_percent,
            skipped_swaps: skipped_swaps(&rotation, start, days),
            days,
        };
        Ok(Self { start, scenario, rotation, assumed })
    }

    fn report(self, site: &Site, outcome: &Outcome) -> Report {
        let Self { start, scenario, rotation, assumed } = self;
        let date = |day: u32| shown(start, day);
        Report {
            version: VERSION,
            start: start.to_string(),
            days: scenario.days,
            drives: scenario.rotation.drives,
            swap_every: scenario.rotation.swap_every,
            retention: scenario.retention,
            cycle: scenario.rotation.cycle(),
            least_retention: scenario.rotation.minimum_retention(),
            volumes_per_drive: scenario.volumes_per_drive,
            volume_size: scenario.volume_size,
            full: scenario.full,
            incremental: scenario.incremental,
            full_every_days: scenario.full_every,
            growth_percent: scenario.growth_percent,
            holidays: rotation.holidays.iter().map(ToString::to_string).collect(),
            skipped_swaps: scenario.skipped_swaps,
            assumed,
            first_blocked: outcome.blocked.first().map(|night| date(night.day)),
            blocked_nights: outcome.blocked.len(),
            first_pruned_away: outcome.first_pruned_away.map(|night| date(night.day)),
            nights_with_pruned_away: outcome.nights_with_pruned_away,
            worst_loss_days: outcome.worst_loss_days,
            each_drive: outcome.drives.iter().map(|drive| DriveReport::new(site, drive, date)).collect(),
        }
    }
}

impl DriveReport {
    fn new(site: &Site, drive: &DriveOutcome, date: impl Fn(u32) -> String) -> Self {
        let index = usize::try_from(drive.drive).unwrap_or(0).saturating_sub(1);
        let name = site
            .magazines
            .get(index)
            .map_or_else(|| drive.drive.to_string(), |magazine| magazine.name.clone());
        Self {
            drive: name,
            fills: drive.fills.map(&date),
            peak_volumes: drive.peak_volumes,
            pruned_away: drive.pruned_away.map(&date),
            nights_lost_with_it: drive.nights_lost_with_it,
            worst_loss_days: drive.worst_loss_days,
        }
    }
}

/// The swaps that fall on a holiday; the first one after the beginning is 1.
fn skipped_swaps(rotation: &Rotation, start: Date, days: u32) -> Vec<u32> {
    let every = u32::try_from(rotation.swap_every.as_seconds() / Period::days(1).as_seconds())
        .unwrap_or(u32::MAX)
        .max(1);
    let free = |swap: &u32| {
        let day = start.checked_add(i64::from(swap.saturating_mul(every)).days());
        day.is_ok_and(|day| rotation.holidays.iter().any(|holiday| holiday.contains(day)))
    };
    (1..=days / every).filter(free).collect()
}

fn shown(start: Date, day: u32) -> String {
    start.checked_add(i64::from(day).days()).map_or_else(|_| format!("day {day}"), |date| date.to_string())
}

impl Report {
    fn text(&self) -> String {
        let mut text = format!(
            "{} drives, one swapped every {} from {} on, for {} days{}\n\
             {} volumes of {} a drive; a full backup of {} every {} days, {} between, growing by {} % a year\n",
            self.drives,
            self.swap_every,
            self.start,
            self.days,
            match self.skipped_swaps.len() {
                0 => String::new(),
                swaps => format!(", {swaps} swaps left out on holidays"),
            },
            self.volumes_per_drive,
            size(self.volume_size.as_bytes()),
            size(self.full.as_bytes()),
            self.full_every_days,
            size(self.incremental.as_bytes()),
            self.growth_percent,
        );
        if !self.assumed.is_empty() {
            let options: Vec<_> = self.assumed.iter().map(|name| format!("--{name}")).collect();
            text.push_str(&format!("assumed, for want of anything better: say {}\n", options.join(", ")));
        }
        text.push_str(&format!(
            "\n{:10} {:12} {:>9}  {:22} {:>16}  {}\n",
            "drive",
            "fills",
            "volumes",
            "history recycled away",
            "nights lost with it",
            "days lost if all burns but the rest"
        ));
        for drive in &self.each_drive {
            text.push_str(&format!(
                "{:10} {:12} {:>9}  {:22} {:>19}  {}\n",
                drive.drive,
                drive.fills.as_deref().unwrap_or("never"),
                drive.peak_volumes,
                drive.pruned_away.as_deref().map_or("never".to_owned(), |day| format!("from {day}")),
                drive.nights_lost_with_it,
                days(drive.worst_loss_days),
            ));
        }
        text.push('\n');
        text.push_str(&self.retention_line());
        text.push_str(&match &self.first_blocked {
            None => "room: every night's backup finds room on the docked drive\n".to_owned(),
            Some(day) => format!(
                "room: from {day} on, {} nights find none: larger or more drives, a shorter retention, or less data\n",
                self.blocked_nights
            ),
        });
        text.push_str(&format!(
            "if machine and docked drive burn, at worst {} would be lost\n",
            days(self.worst_loss_days)
        ));
        text
    }

    fn retention_line(&self) -> String {
        let arithmetic = format!(
            "{} drives x {} = a cycle of {}, with a late swap {}; the pool keeps volumes for {}",
            self.drives, self.swap_every, self.cycle, self.least_retention, self.retention
        );
        match &self.first_pruned_away {
            None => format!("retention: {arithmetic}: nothing in the safe is ever recycled\n"),
            Some(day) => format!(
                "retention: {arithmetic}: from {day} on, history in the safe may be recycled, on {} nights\n",
                self.nights_with_pruned_away
            ),
        }
    }
}

fn days(days: Option<u32>) -> String {
    match days {
        None => "everything".to_owned(),
        Some(1) => "1 day".to_owned(),
        Some(days) => format!("{days} days"),
    }
}
