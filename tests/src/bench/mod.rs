//! Measured comparisons with what people use today, all from one run: ours and the peer take turns, and
//! what is reported is the median.

mod catalog;
mod changer;
mod configuration;
mod durability;
mod endurance;
mod figures;
mod luks;
mod measure;
mod plugging;
mod wiping;
mod work_queues;

use std::time::Instant;

pub use figures::{Figure, Figures, Unit};

use crate::vm::Image;

/// Figures that are measured together, since they share what has to be set up.
struct Group {
    names: &'static [&'static str],
    measure: fn(&mut Figures) -> anyhow::Result<()>,
}

const GROUPS: &[Group] = &[
    Group { names: &plugging::NAMES, measure: plugging::measure },
    Group { names: &durability::NAMES, measure: durability::measure },
    Group { names: &endurance::NAMES, measure: endurance::measure },
    Group { names: &wiping::NAMES, measure: wiping::measure },
    Group { names: &changer::NAMES, measure: changer::measure },
    Group { names: &catalog::NAMES, measure: catalog::measure },
    Group { names: &configuration::NAMES, measure: configuration::measure },
    Group { names: &luks::NAMES, measure: luks::measure },
    Group { names: &work_queues::NAMES, measure: work_queues::measure },
];

/// Measures all figures whose name contains `filter`. A group that fails is reported with each of its
/// figures that is still missing; the others go on.
pub fn measure(filter: &str) -> Figures {
    let mut figures = Figures::new(filter);
    for group in GROUPS {
        if !group.names.iter().any(|name| figures.wants(name)) {
            continue;
        }
        let started = Instant::now();
        if let Err(error) = (group.measure)(&mut figures) {
            let missing: Vec<_> = group.names.iter().filter(|name| figures.wants(name)).collect();
            for name in missing {
                figures.fail(name, &format!("{error:#}"));
            }
        }
        println!("    {:.0} s", started.elapsed().as_secs_f64());
    }
    figures
}

/// The guest's image; none where it can't be had, and then `names` are skipped.
fn guest_image(figures: &mut Figures, names: &[&str]) -> anyhow::Result<Option<Image>> {
    if let Some(why) = Image::lacking() {
        for name in names {
            figures.skip(name, &why);
        }
        return Ok(None);
    }
    Image::ready(|line| println!("    {line}")).map(Some)
}
