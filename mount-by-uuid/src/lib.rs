//! Find, mount on demand and unmount filesystems by UUID.
//!
//! For drives that are plugged and pulled at any time: which block device carries a UUID ([`System`]), what comes and
//! goes ([`Hotplug`]), what is mounted where ([`MountTable`]), mounting with safe options, flushing and unmounting
//! ([`mount()`], [`flush`], [`unmount`]), mounting when someone looks and unmounting when nobody does ([`Automount`]),
//! clearing up after a drive was torn out ([`detach`]), and what a person wants who takes a drive out: who still uses it
//! ([`device_users`]) and that it stands still ([`stop_motor`]).
//!
//! ```no_run
//! use std::path::Path;
//! use mount_by_uuid::{System, UnmountMode, flush, mount_uuid, unmount};
//!
//! let system = System::new(Path::new("/"));
//! let device = mount_uuid(&system, &"7A1B-03C4".parse()?, Path::new("/mnt"))?;
//! println!("{} is mounted", device.path.display());
//! flush(Path::new("/mnt"))?;
//! unmount(Path::new("/mnt"), UnmountMode::Now)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a name below an [`Automount`] stands for is up to its [`Keeper`]: to unlock an encrypted drive there is a matter
//! of one call in [`Keeper::mount`]. `examples/automount_loop.rs` is a whole one.
//!
//! # What it does not do
//! It knows no key files, makes and checks no filesystems, and decides nothing: it uses a device only if exactly one
//! carries the UUID, and tells what is wrong otherwise. It prints nothing and reads no environment.
//!
//! # When things go wrong
//! Whoever looks at a name gets an answer in bounded time: an absent drive is `ENOENT` at once, a failed mount `EIO`, one
//! that takes too long `ETIMEDOUT`. When the serving process dies, mounts stay, and the next one takes over; a [`Relay`] in its
//! parent answers those who were waiting for it, and no one else can. A drive that
//! is torn out leaves nothing behind after [`Automount::detach`] or [`detach`]. A flush that fails is an error and never taken for
//! success.
//!
//! # What it needs
//! `CAP_SYS_ADMIN` for mounting, read access to block devices for probing. Linux 4.18 with autofs; 5.8 for complete flush
//! errors, 5.15 for [`BlockDevice::diskseq`]. libudev and libblkid; udevd is used where it runs but not needed.

mod automount;
mod device;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
mod hotplug;
mod mount;

pub use automount::directory::Automount;
pub use automount::errors::{NameError, StopError};
pub use automount::settings::{Access, AutomountSettings, Stop};
pub use automount::{Asker, AutofsError, Keeper, Passed, Refusal, Relay, RelayError, automount_server};
pub use device::block::{Activity, BlockDevice, DevNum, DevNumError, Tag};
pub use device::find::FindError;
pub use device::fs_uuid::{FsUuid, FsUuidError};
pub use device::motor::{MotorError, start_motor, stop_motor};
pub use device::probe::ProbeError;
pub use device::system::{ScanError, System};
pub use hotplug::event::Event;
pub use hotplug::{Hotplug, HotplugError};
pub use mount::detach::{detach, detach_device};
pub use mount::filesystem::{
    MountError, MountOptions, MountUuidError, Refused, UnmountMode, flush, mount, mount_uuid, unmount,
};
pub use mount::table::{MountEntry, MountTable, MountTableError};
pub use mount::users::{DeviceUser, Process, Usage, device_users, is_held, is_in_use};
