//! Drives torn out at every moment of their life: programs get errors, nothing stays behind, and the next plug works.
//!
//! `OFFSITE_TEAR_OUTS` says how often at each moment (once unless set).
//! `cargo run --release -p offsite-tests --bin bench tear-outs` does it 30 times and counts.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use offsite_tests::tear_outs::{Bench, Moment, Tally};
use offsite_tests::vm::{Vm, run_trials, trial};

const USUAL_COUNT: u32 = 1;

fn main() -> ExitCode {
    run_trials(vec![
        trial("torn_out_while_being_opened", |vm| torn_out(vm, &[Moment::Unlock, Moment::Mount])),
        trial("torn_out_in_use", |vm| torn_out(vm, &[Moment::Write, Moment::Flush])),
        trial("torn_out_while_being_closed", |vm| {
            torn_out(vm, &[Moment::Unmount, Moment::Close, Moment::Idle])
        }),
    ])
}

fn torn_out(vm: &Vm, moments: &[Moment]) -> Result<()> {
    let count = std::env::var("OFFSITE_TEAR_OUTS").map_or(Ok(USUAL_COUNT), |text| text.parse())?;
    let bench = Bench::set_up(vm)?;
    for &moment in moments {
        let mut tally = Tally::default();
        bench.tear_out(moment, count, &mut tally)?;
        println!("{moment}: {} of {} recovered, {} missed", tally.recovered, tally.torn, tally.missed);
        ensure!(tally.torn == count && tally.recovered == count, "{moment}: {tally:#?}");
        ensure!(tally.stale == 0 && tally.hung == 0, "{moment}: {tally:#?}");
    }
    Ok(())
}
