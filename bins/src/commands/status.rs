//! `offsite status`: every drive, where it is, what to do; the words of the daemon, or what can be seen without it.

mod text;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use mount_by_uuid::{MountTable, System, is_held};

use super::arguments::Status;
use crate::bacula::overview::View;
use crate::bacula::view::{self, Known};
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::report;
use crate::protocol::site_status::{DriveState, MagazineStatus, SiteStatus};
use crate::protocol::socket::{self, Verb};
use crate::site::description::Site;

/// Runs `offsite status`.
pub fn run(root: &Root, options: &Status) -> Result<(), Failure> {
    let shown = |status: &SiteStatus| text::page(status, &TimeZone::system());
    if !options.watch {
        let status = look(root)?;
        return if options.json { report::json(&status) } else { report::text(&shown(&status)) };
    }
    let mut last: Option<String> = None;
    loop {
        let status = look(root)?;
        let page = if options.json { report::line_of(&status)? } else { shown(&status) };
        if last.as_ref() != Some(&page) {
            if !options.json {
                report::clear_screen()?;
            }
            report::text(&page)?; // whoever reads this may have gone, as at the end of a pipe; then it is over
            last = Some(page);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Asks the daemon, or looks for itself.
pub fn look(root: &Root) -> Result<SiteStatus, Failure> {
    if let Some(status) = socket::call(root, Verb::Status, None)?.and_then(|reply| reply.status) {
        return Ok(status);
    }
    let site = Site::load(root)?;
    let system = System::new(root.kernel());
    let devices = system.scan().or_fail("cannot look for drives")?;
    let mounts = MountTable::read(&system).or_fail("cannot read the mount table")?;
    let mut bacula = Known::default();
    bacula.update(view::ask_quickly(root, &site), Timestamp::now());
    let view = View::new(root, &system, &site, bacula);
    let magazines = site
        .magazines
        .iter()
        .map(|magazine| {
            let device = devices.iter().find(|d| d.tag.as_ref() == Some(&magazine.tag()));
            let at = root.join(site.mount_point(magazine));
            // It may be mounted elsewhere, or be open without being mounted.
            let held = device.is_some_and(|device| is_held(&system, device.devnum));
            let mounted = held || mounts.at(&at).is_some_and(|m| m.fs_type != "autofs");
            let state = match (device, mounted) {
                (_, true) => DriveState::Mounted,
                (Some(_), false) => DriveState::Locked,
                (None, false) => DriveState::Away,
            };
            let device = device.map(|d| d.path.clone());
            MagazineStatus { device, ..view.magazine(magazine, &at, state) }
        })
        .collect();
    Ok(view.site(&site, None, magazines, None))
}
