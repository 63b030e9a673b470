//! `offsite conf --import`: the parts of site.toml that a running vchanger site amounts to.

use std::path::Path;

use changer_model::{Config, MagazineSource};
use mount_by_uuid::{FsUuid, MountTable, System, Tag};

use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::site::Magazine;

/// Prints the parts for site.toml; nothing is written.
pub(super) fn run(root: &Root, config: &Path) -> Result<(), Failure> {
    let config = Config::load(root.path(), config).or_exit(Exit::Usage, "cannot import")?;
    println!("# from {}", config.path().display());
    println!("[changer]");
    println!("name = {:?}", config.storage());
    println!("work_dir = \"{}\"", config.work_dir().display());
    if let Some(user) = config.user() {
        println!("\n[bacula.accounts]\nuser = {user:?}");
    }
    let system = System::new(root.kernel());
    for (number, source) in config.magazines().iter().enumerate() {
        println!();
        match describe(root, &system, source) {
            Ok(magazine) => {
                println!("[[magazine]]");
                println!("name = \"M{}\"                # what the sticker says", number + 1);
                println!("fs_uuid = \"{}\"", magazine.fs_uuid);
                println!("fs_type = \"{}\"", magazine.fs_type);
                match magazine.luks_uuid {
                    Some(luks) => println!("luks_uuid = \"{luks}\""),
                    None => println!("# no LUKS container was found behind it: an unencrypted drive"),
                }
            }
            Err(why) => println!(
                "# {source}: {why}\n# plug it in and run: offsite adopt DEVICE --name M{}",
                number + 1
            ),
        }
    }
    Ok(())
}

/// Finds out what a magazine of vchanger.conf is, while its drive is here.
fn describe(root: &Root, system: &System, source: &MagazineSource) -> Result<Magazine, String> {
    let devices = system.scan().map_err(|e| e.to_string())?;
    let uuid = match source {
        MagazineSource::Uuid(uuid) => uuid.parse::<FsUuid>().map_err(|e| e.to_string())?,
        MagazineSource::Directory(directory) => {
            let mounts = MountTable::read(system).map_err(|e| e.to_string())?;
            let mount =
                mounts.at(directory).filter(|m| m.fs_type != "autofs").ok_or("nothing is mounted there")?;
            let device = devices.iter().find(|d| d.devnum == mount.devnum).ok_or("its device isn't known")?;
            match &device.tag {
                Some(Tag::Filesystem(uuid)) => uuid.clone(),
                _ => return Err("its filesystem has no UUID".into()),
            }
        }
        other => return Err(format!("{other} is of no kind known here")),
    };
    let inner = devices
        .iter()
        .find(|d| d.tag == Some(Tag::Filesystem(uuid.clone())))
        .ok_or("its drive isn't here")?;
    let luks_uuid = luks_behind(root, inner);
    Ok(Magazine {
        name: String::new(),
        luks_uuid,
        fs_uuid: uuid,
        fs_type: inner.fs_type.clone().unwrap_or_else(|| "auto".into()),
        serial: inner.serial.clone(),
    })
}

/// The LUKS container that an unlocked filesystem lies in.
fn luks_behind(root: &Root, inner: &mount_by_uuid::BlockDevice) -> Option<luks_core::LuksUuid> {
    let number = inner.devnum;
    let name = root.join(format!("/sys/dev/block/{}:{}/dm/name", number.major, number.minor));
    let name = std::fs::read_to_string(name).ok()?; // only a device-mapper device has one
    match luks_core::mapping_status_in(root.path(), name.trim()) {
        Ok(luks_core::MappingStatus::Active { luks_uuid, .. }) => luks_uuid,
        _ => None,
    }
}
