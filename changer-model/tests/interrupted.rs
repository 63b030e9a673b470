//! Jobs that were writing to a magazine when it was pulled, with a console that is a script.

#![expect(clippy::expect_used, reason = "a test's surroundings fail by panicking")]

mod director;
mod site;

use std::fs;

use director::{CONSOLE, DIRECTOR};
use site::Site;

/// Magazine `m0` with volume `a` in slot 1, which drive 0 holds, and `m1` with volume `b` in slot 2.
fn loaded_site() -> Site {
    let site = Site::with("m0 m1", CONSOLE);
    site.console(DIRECTOR);
    fs::create_dir_all(site.path("catalog")).expect("makes a directory");
    for path in ["m0/a", "m1/b"] {
        site.volume(path);
        fs::write(site.path("catalog").join(&path[3..]), "Append").expect("writes");
    }
    site.answer("refresh");
    site.answer("load 1 dev 0");
    site
}

fn pull(site: &Site) {
    fs::rename(site.path("m0"), site.path("m0.away")).expect("renames");
}

/// What the storage daemon says of job 7.
fn at_work(site: &Site, doing: &str, volume: &str, bytes: &str) {
    let device = site.path("work/0");
    let device = device.display();
    let job = format!(
        "{doing}: Full Backup job B JobId=7 Volume=\"{volume}\"\n    pool=\"P\" device=\"D\" ({device})\n    \
         Files=1 Bytes={bytes} AveBytes/sec=1 LastBytes/sec=1\n"
    );
    fs::write(site.path("devices"), job).expect("writes");
}

#[test]
fn a_job_that_wrote_to_a_pulled_magazine_fails_at_its_next_load() {
    // it has not noticed yet, or waits for any volume
    for volume in ["a", ""] {
        let site = loaded_site();
        at_work(&site, "Writing", volume, "10,027,099");
        pull(&site);
        site.answer("refresh");
        // a later look, while it waits for a volume that came, forgets nothing
        at_work(&site, "Writing", "b", "10,027,099");
        site.answer("refresh --force");
        let status = site.changer().status().expect("reads");
        assert!(status.notices.iter().any(|n| n.message.contains("job 7 ")), "{:?}", status.notices);
        let refused = site.run("load 2 dev 0");
        assert_eq!(refused.code, 1);
        assert!(refused.stderr.contains("volume a was taken away while job 7 wrote"), "{}", refused.stderr);
        // the job that comes next is another one
        site.answer("load 2 dev 0");
    }
}

#[test]
fn a_job_that_lost_nothing_goes_on() {
    for (doing, volume, bytes) in [
        ("Writing", "b", "10,027,099"), // `a` was flushed when it was unloaded
        ("Writing", "a", "0"),
        ("Writing", "", "0"),
        ("Reading", "a", "10,027,099"),
    ] {
        let site = loaded_site();
        at_work(&site, doing, volume, bytes);
        pull(&site);
        site.answer("refresh");
        site.answer("load 2 dev 0");
    }
}

#[test]
fn a_job_that_ended_by_itself_fails_no_other() {
    let site = loaded_site();
    at_work(&site, "Writing", "a", "10,027,099");
    pull(&site);
    site.answer("refresh");
    fs::remove_file(site.path("devices")).expect("removes");
    site.answer("refresh --force");
    site.answer("load 2 dev 0");
}

#[test]
fn a_drive_that_was_unloaded_interrupts_nobody() {
    let site = loaded_site();
    site.answer("unload 1 dev 0");
    at_work(&site, "Writing", "a", "10,027,099");
    pull(&site);
    site.answer("refresh");
    site.answer("load 2 dev 0");
}
