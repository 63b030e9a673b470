//! The catalog back from the volumes, by the steps of docs/bscan.md: Bacula's own bscan fills an empty catalog, and what is
//! restored by it is what was saved. The page's own lines are run.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use offsite_tests::bacula::{Bacula, Dock, JobId};
use offsite_tests::loop_drive::run;
use offsite_tests::trials::{self, Test};
use tempfile::TempDir;

const BSCAN: &str = "/usr/sbin/bscan";

/// Files of this size and less hold a label and nothing else.
const LABEL: u64 = 300;

fn main() {
    let tests: [Test; 1] = [("an_empty_catalog_is_filled_from_the_volumes", from_the_volumes)];
    let lacking =
        Dock::lacking().or_else(|| (!Path::new(BSCAN).exists()).then(|| format!("no {BSCAN} here")));
    trials::run(lacking.as_deref(), None, tests);
}

/// The indented lines of the page from one that holds a text to the end of their block.
fn lines_of_the_page(from: &str) -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bscan.md");
    let page = fs::read_to_string(page)?;
    let lines = page.lines().skip_while(|line| !(line.starts_with("    ") && line.contains(from)));
    let block: Vec<&str> = lines.take_while(|line| line.starts_with("    ")).map(str::trim).collect();
    ensure!(!block.is_empty(), "the page has no line {from:?}");
    Ok(block.join("\n") + "\n")
}

fn bytes(seed: u32, words: u32) -> Vec<u8> {
    (0..words).flat_map(|n| (n ^ seed.rotate_left(16)).wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

fn back_up(bacula: &Bacula, level: &str) -> Result<()> {
    let job = bacula.wait_job(bacula.run_backup(level)?)?;
    ensure!(job.is_ok(), "{job:?}");
    Ok(())
}

fn from_the_volumes() -> Result<()> {
    let tree = TempDir::new()?;
    let (dock, plan) = Dock::plan(&["A", "B"], [tree.path()])?;
    let mut bacula = Bacula::start(plan)?;
    let dock = dock.with(&bacula)?;
    for drive in ["A", "B"] {
        dock.plug(drive)?;
        dock.make_volumes(drive, 4)?;
        dock.pull(drive)?;
    }
    // The last job goes on with a volume that was begun before the other drive's: its file is the youngest.
    for (drive, level, file, words) in [
        ("A", "Full", "one", 6_000_000_u32),
        ("B", "Incremental", "two", 3_000_000),
        ("A", "Incremental", "three", 10_000),
    ] {
        dock.plug(drive)?;
        dock.refresh()?;
        fs::write(tree.path().join(file), bytes(words, words))?;
        back_up(&bacula, level)?;
        dock.pull(drive)?;
        dock.refresh()?;
    }

    bacula.lose_catalog()?;
    for drive in ["A", "B"] {
        dock.plug(drive)?;
    }
    let rescue = TempDir::new()?;
    fs::set_permissions(rescue.path(), fs::Permissions::from_mode(0o755))?;
    let volumes = rescue.path().join("volumes");
    fs::create_dir(&volumes)?;
    for drive in ["A", "B"] {
        for entry in fs::read_dir(dock.path(drive))? {
            let entry = entry?;
            if entry.metadata()?.len() > LABEL {
                symlink(entry.path(), volumes.join(entry.file_name()))?;
            }
        }
    }
    let (bootstrap, config) = (rescue.path().join("rescue.bsr"), rescue.path().join("rescue-sd.conf"));
    let places = |text: String| {
        text.replace("/srv/rescue", &volumes.to_string_lossy())
            .replace("/tmp/rescue.bsr", &bootstrap.to_string_lossy())
    };
    run(Command::new("/bin/sh").args(["-ec", &places(lines_of_the_page("cd /srv/rescue")?)]))?;
    // All of the old one but the autochanger and its drives.
    let old = fs::read_to_string(bacula.file("bacula-sd.conf")?)?;
    let (kept, _) = old.split_once("Autochanger {").context("the autochanger")?;
    fs::write(&config, format!("{kept}{}", places(lines_of_the_page("Device {")?)))?;
    for path in [&bootstrap, &config] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
    }
    let (settings, working) = (bacula.settings(), &bacula.settings().paths.working);
    let mut scan = Command::new("/usr/bin/setpriv");
    scan.args(["--reuid", &settings.accounts.user, "--regid", &settings.accounts.storage_group]);
    scan.args(["--groups", &format!("{},{}", settings.accounts.storage_group, settings.accounts.group)]);
    scan.args([BSCAN, "-s", "-m", "-v", "-b"]).arg(&bootstrap).arg("-c").arg(&config);
    scan.args(["-n", &settings.catalog.database, "-w"]).arg(working).arg("Rescue");
    run(&mut scan)?;

    bacula.start_director()?;
    dock.refresh()?;
    let (client, job) =
        (&bacula.settings().client.name, &bacula.settings().jobs.first().context("a job")?.name);
    let target = TempDir::new()?;
    let answer = bacula.console(&format!(
        "restore client={client} fileset={job}-files where={} current select all done yes",
        target.path().display()
    ))?;
    let id = answer.split_once("Job queued. JobId=").map_or("", |(_, rest)| rest);
    let digits: String = id.chars().take_while(char::is_ascii_digit).collect();
    let restored = bacula.wait_job(JobId(digits.parse().with_context(|| answer.clone())?))?;
    ensure!(restored.is_ok(), "{restored:?}");
    let back = target.path().join(tree.path().strip_prefix("/")?);
    for (file, words) in [("one", 6_000_000), ("two", 3_000_000), ("three", 10_000)] {
        ensure!(fs::read(back.join(file))? == bytes(words, words), "{file} differs");
    }
    bacula.stop()?;
    dock.close()
}
