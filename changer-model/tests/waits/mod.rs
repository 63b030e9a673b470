//! A job that waits for a volume, for the console that answers for a Director.

#![expect(clippy::expect_used, reason = "a test's surroundings fail by panicking")]

/// Has job 3 wait for `volume` (none: for any that can be written) in drive 1.
pub(crate) fn waits(site: &crate::site::Site, reading: bool, volume: Option<&str>) {
    let (verb, level, kind) = if reading {
        ("Reading:  ", "Restore", "Rest Rest")
    } else {
        ("Writing:", "Full Backup", "Back Full")
    };
    let what = if volume.is_some() { "a mount request" } else { "an appendable Volume" };
    let job = format!("     3  {kind}          0         0  J                 is waiting for {what}\n");
    std::fs::write(site.path("waiting"), job).expect("writes");
    let (volume, device) = (volume.unwrap_or_default(), site.path("work/1"));
    let device = device.display();
    let job = format!(
        "{verb} {level} job J JobId=3 Volume=\"{volume}\"\n    pool=\"P\" device=\"D1\" ({device})\n    Files=0\n"
    );
    std::fs::write(site.path("devices"), job).expect("writes");
}
