//! `offsite identify`: which drive is which, and which may be used.

use std::path::Path;

use media_wipe::{Identity, System, identify};

use crate::cli::Identify;
use crate::confirm;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::report;

/// Runs `offsite identify`.
pub fn run(root: &Root, options: &Identify) -> Result<(), Failure> {
    let system = system(root);
    let devices = if options.devices.is_empty() {
        system.disks().or_fail("cannot list the disks")?
    } else {
        options.devices.clone()
    };
    let identities = devices.iter().map(|device| one(root, device)).collect::<Result<Vec<_>, _>>()?;
    if options.json {
        return report::json(&identities);
    }
    if identities.is_empty() {
        println!("no disks found");
    }
    for identity in &identities {
        print(identity);
    }
    Ok(())
}

/// The system as `media-wipe` looks at it; keys of wipes under way stay below this root, whose kernel ever is asked.
pub fn system(root: &Root) -> System {
    System::new(root.kernel()).keep_keys_in(root.join("/run/media-wipe"))
}

/// Identifies one drive, loop device or file.
pub fn one(root: &Root, device: &Path) -> Result<Identity, Failure> {
    let exit = if device.exists() { Exit::Failed } else { Exit::NotThere };
    identify(&system(root), device).or_exit(exit, format!("cannot identify {}", device.display()))
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
        println!("    use       may be used; confirm with --yes-destroy {}", identity.id);
    }
    for refusal in &identity.refusals {
        println!("    refused   {refusal}");
    }
}
