//! Mounts filesystems on demand: `automount_loop DIR` (as root), then look at `DIR/UUID` from another terminal.

use std::{env, error::Error, ffi::OsStr, path::Path, sync::Arc, time::Duration};

use mount_by_uuid::{Automount, Keeper, Refusal, System, UnmountMode, flush, mount_uuid, unmount};

struct ByUuid(System);

impl Keeper for ByUuid {
    fn mount(&self, name: &OsStr, at: &Path) -> Result<(), Refusal> {
        let uuid = name.to_str().and_then(|name| name.parse().ok()).ok_or(Refusal::Absent)?;
        mount_uuid(&self.0, &uuid, at)?;
        Ok(())
    }

    fn unmount(&self, _name: &OsStr, at: &Path) -> Result<(), Refusal> {
        flush(at)?;
        Ok(unmount(at, UnmountMode::Now)?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = env::args_os().nth(1).ok_or("name a directory to mount on")?;
    let automount = Automount::mount(Path::new(&dir), Duration::from_secs(30))?;
    automount.serve(Arc::new(ByUuid(System::new(Path::new("/")))))?;
    automount.wait();
    Ok(())
}
