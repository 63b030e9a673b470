//! Side by side with the peers: `bench [FILTER]` measures the figures whose name contains FILTER, prints a
//! table and writes `bench/figures.json` below the target directory.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result};
use offsite_tests::{bench, programs};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let offsite = programs::release("offsite")?;
    let target = offsite.ancestors().nth(2).context("the target directory")?;
    let file = target.join("bench/figures.json");
    let started = Instant::now();
    let figures = bench::measure(&filter);
    println!("\n{}", figures.to_table());
    std::fs::create_dir_all(target.join("bench"))?;
    std::fs::write(&file, figures.to_json()?).with_context(|| format!("cannot write {}", file.display()))?;
    println!("{} after {:.0} s", file.display(), started.elapsed().as_secs_f64());
    Ok(figures.complete())
}
