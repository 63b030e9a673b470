//! Files that nobody generated: those that a distribution installs, and long ones.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bacula_conf::Document;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![Trial::test("a_megabyte_is_read_quickly", a_megabyte_is_read_quickly)];
    for file in ["bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf", "bconsole.conf"] {
        let name = format!("installed_{file}_comes_back_byte_for_byte");
        let path = Path::new("/etc/bacula").join(file);
        trials.push(match fs::read_to_string(&path) {
            Ok(text) => Trial::test(name, move || comes_back(&path, &text)),
            // Not installed, or not ours to read: listed as ignored, with the reason.
            Err(error) => {
                let reason = format!("{}: {error}", path.display());
                Trial::test(name, || Ok(())).with_kind(reason).with_ignored_flag(true)
            }
        });
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn comes_back(path: &Path, text: &str) -> Result<(), Failed> {
    let document: Document = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    if document.blocks().next().is_none() || document.to_string() != text {
        return Err(format!("{} was read as something else", path.display()).into());
    }
    Ok(())
}

fn a_megabyte_is_read_quickly() -> Result<(), Failed> {
    let mut text = String::new();
    for number in 0.. {
        if text.len() > 1 << 20 {
            break;
        }
        write!(
            text,
            "# job {number}\nJob {{\n  Name = \"Backup {number}\"; Type = Backup\n  Client = client-{number}-fd # far away\n  \
             Volume Retention = 4 weeks\n  RunScript {{\n    RunsWhen = Before\n    Command = \"/bin/true \\\"{number}\\\"\"\n  }}\n}}\n\n"
        )?;
    }
    let fastest = (0..5)
        .map(|_| {
            let start = Instant::now();
            let document: Document = text.parse().expect("a good text");
            let printed = document.to_string();
            let took = start.elapsed();
            assert!(printed == text);
            took
        })
        .min()
        .expect("five runs");
    // The aim is 50 ms for an optimized build.
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 50 });
    if fastest < limit { Ok(()) } else { Err(format!("1 MB took {fastest:?}, more than {limit:?}").into()) }
}
