//! Bacula's configuration: how long a megabyte of it takes, beside Bacula's own parser, and five years of swaps.

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bacula_conf::{Document, Period, Rotation, Scenario, Size, check, settings, simulate};

use super::figures::{Figures, Unit};
use super::measure::{find, milliseconds, turns};

const PARSE: &str = "configuration: 1 MB parsed and printed";
const UNDERSTAND: &str = "configuration: 1 MB understood with its types";
const CHECK: &str = "configuration: 1 MB checked";
const SIMULATE: &str = "plan: five years of twelve drives";

pub(super) const NAMES: [&str; 4] = [PARSE, UNDERSTAND, CHECK, SIMULATE];

const SAMPLES: usize = 21;

/// What the project asks of itself, where nobody else does the same.
const FIVE_YEARS_BAR: f64 = 2000.0;

pub(super) fn measure(figures: &mut Figures) -> Result<()> {
    let text = megabyte()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("bacula-sd.conf");
    std::fs::write(&path, &text)?;
    let files = [(path.clone(), text.clone())];
    let parse = || {
        let document: Document = text.parse().map_err(|error| anyhow::anyhow!("{error}"))?;
        anyhow::ensure!(document.to_string() == text, "it came back as something else");
        Ok(())
    };
    let understand = || {
        anyhow::ensure!(black_box(settings(&files)).len() > 1000, "nothing was understood");
        Ok(())
    };
    let all_checks = || {
        black_box(check(&files));
        Ok(())
    };
    match find("bsdjson") {
        Ok(bsdjson) => {
            let peer = || milliseconds(Command::new(&bsdjson).arg("-c").arg(&path));
            for (name, ours) in
                [(PARSE, &parse as &dyn Fn() -> Result<()>), (UNDERSTAND, &understand), (CHECK, &all_checks)]
            {
                if figures.wants(name) {
                    let (ours, peers) = turns(SAMPLES, || took(ours), peer)?;
                    figures.record(name, Unit::Milliseconds, &ours, "bsdjson, the whole program", &peers);
                }
            }
        }
        Err(_) => {
            for name in [PARSE, UNDERSTAND, CHECK] {
                figures.skip(name, "no bsdjson here");
            }
        }
    }
    if figures.wants(SIMULATE) {
        let scenario = scenario();
        let samples = (0..SAMPLES)
            .map(|_| {
                took(&|| {
                    black_box(simulate(&scenario));
                    Ok(())
                })
            })
            .collect::<Result<Vec<_>>>()?;
        figures.record(SIMULATE, Unit::Milliseconds, &samples, "the bar, no peer", &[FIVE_YEARS_BAR]);
    }
    Ok(())
}

fn took(work: &dyn Fn() -> Result<()>) -> Result<f64> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn scenario() -> Scenario {
    Scenario {
        rotation: Rotation::new(12, Period::weeks(1)),
        retention: Period::weeks(13),
        volumes_per_drive: 69,
        volume_size: Size::gib(10),
        full: Size::gib(200),
        incremental: Size::gib(15),
        full_every: 7,
        growth_percent: 20,
        skipped_swaps: vec![5, 6, 57, 58],
        days: 5 * 365,
    }
}

/// A storage daemon with as many devices as make a megabyte, each with what people write around it.
fn megabyte() -> Result<String> {
    let mut text = String::from(
        "Storage {\n  Name = many-sd\n  WorkingDirectory = /tmp\n  Pid Directory = /tmp\n}\n\
         Director {\n  Name = many-dir\n  Password = \"x\"\n}\nMessages {\n  Name = Standard\n  director = many-dir = all\n}\n",
    );
    for number in 0.. {
        if text.len() > 1_000_000 {
            break;
        }
        write!(
            text,
            "\n# device {number}\nDevice {{\n  Name = \"Device {number}\"; Media Type = File # of \"many\"\n  \
             Archive Device = /srv/backup/{number}\n  LabelMedia = yes;   # lets Bacula label\n  Random Access = Yes\n  \
             Maximum File Size = 12 GB\n  Volume Poll Interval = 1 min\n  Maximum Concurrent Jobs = 5\n}}\n"
        )
        .context("a string takes it")?;
    }
    Ok(text)
}
