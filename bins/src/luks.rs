//! `offsite luks`: the operations of `luks-core` on block devices and header files alike.

use std::path::Path;

use luks_core::{Container, FormatOptions, KeySlot, LuksVersion, SecretKind};

use crate::cli::{Luks, LuksCommand};
use crate::failure::{Exit, Failure, OrFail as _};
use crate::identify;
use crate::key;
use crate::paths::Root;
use crate::{confirm, report};

/// Runs `offsite luks`.
pub fn run(root: &Root, options: &Luks) -> Result<(), Failure> {
    match &options.command {
        LuksCommand::Format { device, key_file, luks1, slot, yes_destroy, dry_run } => {
            let slot = key_slot(*slot)?;
            let secret = key::load(key_file)?;
            let identity = identify::one(root, device)?;
            if *dry_run {
                println!("would make a LUKS container on {}", confirm::describe(&identity));
                return Ok(());
            }
            confirm::destroy(&identity, yes_destroy.as_deref())?;
            let version = if *luks1 { LuksVersion::Luks1 } else { LuksVersion::Luks2 };
            let options = FormatOptions { version, ..FormatOptions::default() };
            let container = Container::format(device, &options, &secret, SecretKind::KeyFile, slot)
                .or_fail(format!("cannot make a LUKS container on {}", device.display()))?;
            println!("{}: {} container {}, key in slot {slot}", device.display(), version, container.uuid());
        }
        LuksCommand::Slots { device, json } => {
            let slots = load(device)?
                .slots()
                .or_fail(format!("cannot list the key slots of {}", device.display()))?;
            if *json {
                return report::json(&slots);
            }
            for slot in &slots {
                println!("{slot}");
            }
        }
        LuksCommand::Add { device, key_file, new_key_file, slot } => {
            let slot = slot.map(key_slot).transpose()?;
            let (old, new) = (key::load(key_file)?, key::load(new_key_file)?);
            let slot = load(device)?
                .add_key(&old, &new, SecretKind::KeyFile, slot)
                .or_fail(format!("no key was added to {}", device.display()))?;
            println!("{}: key added to slot {slot}", device.display());
        }
        LuksCommand::Kill { device, slot, key_file, dry_run } => {
            let slot = key_slot(*slot)?;
            let secret = key::load(key_file)?;
            let container = load(device)?;
            if *dry_run {
                let opens = container.test_key(&secret).or_fail("the key file opens nothing here")?;
                println!("would empty slot {slot} of {}; the key file opens slot {opens}", device.display());
                return Ok(());
            }
            container
                .kill_slot(slot, &secret)
                .or_exit(Exit::Refused, format!("slot {slot} was not emptied"))?;
            println!("{}: slot {slot} is empty", device.display());
        }
        LuksCommand::Test { device, key_file } => {
            let secret = key::load(key_file)?;
            let slot =
                load(device)?.test_key(&secret).or_fail(format!("{} stays closed", device.display()))?;
            println!("{}: the key file opens slot {slot}", device.display());
        }
    }
    Ok(())
}

fn load(device: &Path) -> Result<Container, Failure> {
    Container::load(device).or_fail(format!("cannot read the LUKS header of {}", device.display()))
}

fn key_slot(number: u8) -> Result<KeySlot, Failure> {
    KeySlot::new(number).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("there is no key slot {number}"))
            .hint("LUKS2 has slots 0 to 31, LUKS1 0 to 7")
    })
}
