//! Runs a program by ptrace(2) and kills it just before its n-th system call that could change a file.
#![expect(unsafe_code, reason = "ptrace has no safe form here")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use libc::{c_long, c_void, pid_t};

/// Everything that changes what is in a file or directory; between two of these the disk stays the same. (Creating a
/// file is seen before the next of them.)
const CHANGING: [c_long; 24] = [
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_mknodat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
];

/// How a traced program ended.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    /// It was killed before its n-th changing call.
    Killed,
    /// It made fewer of them and ended with this status.
    Exited(i32),
}

/// Whether this process may trace another one.
pub(crate) fn possible() -> bool {
    matches!(kill_before(Command::new("/bin/true"), usize::MAX), Ok(End::Exited(0)))
}

/// Runs `command` and kills it before its changing call number `n`, counted from 1.
pub(crate) fn kill_before(mut command: Command, n: usize) -> io::Result<End> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: the closure only makes one system call, which is allowed between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    let child = command.spawn()?;
    let pid = pid_t::try_from(child.id()).map_err(io::Error::other)?;
    // The first stop is the one at exec.
    wait(pid)?;
    request(libc::PTRACE_SETOPTIONS, pid, (libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD) as usize)?;
    let mut count = 0;
    let mut signal = 0;
    loop {
        request(libc::PTRACE_SYSCALL, pid, signal)?;
        let status = wait(pid)?;
        if libc::WIFEXITED(status) {
            return Ok(End::Exited(libc::WEXITSTATUS(status)));
        }
        if libc::WIFSIGNALED(status) {
            return Err(io::Error::other(format!("ended by signal {}", libc::WTERMSIG(status))));
        }
        let stop = libc::WSTOPSIG(status);
        signal = 0;
        if stop != libc::SIGTRAP | 0x80 {
            signal = if stop == libc::SIGTRAP { 0 } else { usize::try_from(stop).unwrap_or_default() };
            continue;
        }
        if entered(pid)?.is_some_and(|call| CHANGING.contains(&call)) {
            count += 1;
            if count == n {
                // SAFETY: the process is our traced child, so its number can't belong to another one.
                unsafe { libc::kill(pid, libc::SIGKILL) };
                while !libc::WIFSIGNALED(wait(pid)?) {}
                return Ok(End::Killed);
            }
        }
    }
}

/// The number of the system call that is about to run; `None` at the end of one.
fn entered(pid: pid_t) -> io::Result<Option<c_long>> {
    // SAFETY: all fields are numbers, for which zero is valid.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into `info`.
    let result = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info), (&raw mut info).cast::<c_void>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        return Ok(None);
    }
    // SAFETY: `op` says that the entry part is the valid one.
    Ok(c_long::try_from(unsafe { info.u.entry.nr }).ok())
}

fn request(request: libc::c_uint, pid: pid_t, data: usize) -> io::Result<()> {
    // SAFETY: these requests take numbers only.
    match unsafe { libc::ptrace(request, pid, 0, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn wait(pid: pid_t) -> io::Result<libc::c_int> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    match unsafe { libc::waitpid(pid, &raw mut status, 0) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(status),
    }
}
