//! Mounting on demand, and unmounting when idle, by the kernel's autofs protocol.
//!
//! The protocol is described in the kernel's `Documentation/filesystems/autofs.rst`. Version 5, indirect: names
//! directly below one directory are mounted when someone looks at them.

mod attach;
mod deadline;
pub(crate) mod directory;
pub(crate) mod errors;
mod hand_over;
mod keeper;
mod kernel;
mod link;
mod locking;
mod names;
mod packet;
mod relay;
mod serve;
pub(crate) mod settings;
mod teardown;

pub use attach::AutofsError;
pub use attach::automount_server;
pub use keeper::{Asker, Keeper, Refusal};
pub use relay::{Passed, Relay, RelayError};
