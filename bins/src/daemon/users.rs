//! Who uses a drive, and what lets go of it.

use std::path::Path;

use mount_by_uuid::{DevNum, DeviceUser, System, Usage, device_users};

use crate::base::shell::quoted;
use crate::protocol::site_status::Problem;

/// Maximum number of users that are named.
const NAMED: usize = 3;

/// What uses a drive's filesystem or its device.
#[derive(Debug)]
pub(super) struct Users(Vec<DeviceUser>);

impl Users {
    /// Looks for them; a mount at `place` is where the drive belongs.
    pub(super) fn of(system: &System, device: DevNum, place: Option<&Path>) -> Self {
        Self(device_users(system, device, place))
    }

    /// Their names, a colon and a blank before them; nothing if none is seen.
    pub(super) fn named(&self) -> String {
        let mut named: Vec<_> = self.0.iter().take(NAMED).map(ToString::to_string).collect();
        if self.0.len() > NAMED {
            named.push(format!("{} more", self.0.len() - NAMED));
        }
        if named.is_empty() { String::new() } else { format!(": {}", named.join("; ")) }
    }

    /// Where its filesystem is mounted, if that is what uses it first.
    pub(super) fn mounted_at(&self) -> Option<&Path> {
        match self.0.first()? {
            DeviceUser::Mount { at, seen_by: None } => Some(at),
            _ => None,
        }
    }

    /// What makes the first of them let go; none if none is seen.
    pub(super) fn remedy(&self) -> Option<String> {
        Some(match self.0.first()? {
            DeviceUser::Mount { at, seen_by: None } => format!("unmount it: umount {}", shown(at)),
            DeviceUser::Mount { at, seen_by: Some(process) } => {
                let (pid, name) = (process.pid, &process.name);
                format!(
                    "end {name}, or unmount it there: nsenter --target {pid} --mount umount {}",
                    shown(at)
                )
            }
            DeviceUser::Process { process, usage: Usage::Directory(_) } => {
                format!("have {} leave that directory, or end it: kill {}", process.name, process.pid)
            }
            DeviceUser::Process { process, .. } => {
                format!("end {} when it is done: kill {}", process.name, process.pid)
            }
            DeviceUser::Device { path } => format!("close {}", shown(path)),
        })
    }

    /// What a person should know of a drive that is unmounted where it belongs, but not free. `at` is that place.
    pub(super) fn problem(&self, drive: &str, at: &Path) -> Problem {
        let message =
            format!("it is unmounted, but its filesystem or its mapping is still in use{}", self.named());
        let remedy = self.remedy().unwrap_or_else(|| {
            format!(
                "if it was frozen (fsfreeze): offsite unlock {} && fsfreeze --unfreeze {}; else what keeps it is \
                 the kernel (a loop device or a swap file on it) or a program that ends just now",
                quoted(drive),
                shown(at)
            )
        });
        Problem { message, remedy }
    }
}

/// A path for a command line.
fn shown(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use mount_by_uuid::Process;

    use super::*;

    fn process(pid: u32) -> Process {
        Process { pid, name: "bash".into() }
    }

    #[test]
    fn each_kind_of_user_has_a_command_that_lets_go() {
        let mount = |seen_by| DeviceUser::Mount { at: "/mnt/a b".into(), seen_by };
        let file = |usage| DeviceUser::Process { process: process(7), usage };
        let cases = [
            (mount(None), "umount '/mnt/a b'"),
            (mount(Some(process(9))), "nsenter --target 9 --mount umount '/mnt/a b'"),
            (file(Usage::Directory("/x".into())), "kill 7"),
            (file(Usage::File("/x".into())), "kill 7"),
            (file(Usage::Device("/dev/dm-0".into())), "kill 7"),
            (DeviceUser::Device { path: "/dev/dm-1".into() }, "close /dev/dm-1"),
        ];
        for (user, command) in cases {
            let remedy = Users(vec![user.clone()]).remedy().unwrap();
            assert!(remedy.ends_with(command), "{user}: {remedy}");
        }
        let none = Users(Vec::new()).problem("A", Path::new("/srv/offsite/u"));
        assert!(none.remedy.contains("offsite unlock A && fsfreeze --unfreeze /srv/offsite/u"), "{none:?}");
    }

    #[test]
    fn a_crowd_is_counted() {
        let user = |pid| DeviceUser::Process { process: process(pid), usage: Usage::File("/x".into()) };
        let named = Users((1..=5).map(user).collect()).named();
        assert_eq!(named.matches("bash").count(), 3);
        assert!(named.starts_with(": bash (process 1)") && named.ends_with("; 2 more"), "{named}");
    }
}
