//! `offsite identify`: which drive is which, and which may be used.

use media_wipe::Identity;

use super::arguments::Identify;
use crate::base::failure::{Failure, OrFail as _};
use crate::base::paths::Root;
use crate::base::shell::quoted;
use crate::base::{confirm, report};
use crate::drives::enrolled;
use crate::drives::identity::system;

/// Runs `offsite identify`.
pub fn run(root: &Root, options: &Identify) -> Result<(), Failure> {
    let system = system(root);
    let devices = if options.devices.is_empty() {
        system.disks().or_fail("cannot list the disks")?
    } else {
        options.devices.clone()
    };
    // One that isn't there hides none of the others.
    let (mut identities, mut failures) = (Vec::new(), Vec::new());
    for device in &devices {
        match enrolled::identify_to_overwrite(root, device) {
            Ok(identity) => identities.push(identity),
            Err(failure) => failures.push(failure),
        }
    }
    if options.json {
        report::json(&identities)?;
    } else if devices.is_empty() {
        println!("no disks found");
    } else {
        identities.iter().for_each(print);
    }
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        eprintln!("{failure}");
    }
    Err(last)
}

fn print(identity: &Identity) {
    println!("{}", identity.by_id.as_deref().unwrap_or(&identity.device).display());
    println!("    device    {}", identity.device.display());
    println!("    id        {}", identity.id);
    if let Some(model) = &identity.model {
        println!("    model     {model}");
    }
    println!("    size      {} ({} bytes)", confirm::size(identity.size_bytes), identity.size_bytes);
    println!("    holds     {}", identity.contents);
    if identity.removable == Some(true) {
        println!("    medium    removable");
    }
    if identity.refusals.is_empty() {
        println!("    use       may be used; confirm with --yes-destroy {}", quoted(&identity.id));
    }
    for refusal in &identity.refusals {
        println!("    refused   {refusal}");
    }
}
