//! A filter of system calls for programs that parse what a stranger may have written.
//!
//! Three kinds: what such a program needs is allowed; what only an intruder tries ends the program at once (SIGSYS);
//! everything else fails as if the kernel didn't know it, which a newer C library takes well.

use std::collections::BTreeMap;
use std::env::consts::ARCH;
use std::ffi::c_long;

use nix::libc;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{MaskedEq, Ne};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch};

/// What a filtered program may do with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Read them.
    Read,
    /// Read them, and open for reading and writing what its user may write. It makes and empties none.
    Write,
}

/// What the kernel runs at each system call: that which ends the program, and that which allows.
pub(super) type Filters = [BpfProgram; 2];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Compiles the filter. The one execve(2) that is allowed is that of the path at this address of the memory before it.
pub(super) fn compile(files: Files, path_at: u64) -> Result<Filters, seccompiler::BackendError> {
    let arch = TargetArch::try_from(ARCH)?;
    let intrusion = rules_of([INTRUSIONS, INTRUSIONS_HERE], conditional(files, path_at)?);
    let ending = SeccompFilter::new(intrusion, SeccompAction::Allow, SeccompAction::KillProcess, arch)?;
    let unknown = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let allowing =
        SeccompFilter::new(rules_of([NEEDED, NEEDED_HERE], Vec::new()), unknown, SeccompAction::Allow, arch)?;
    Ok([ending.try_into()?, allowing.try_into()?])
}

fn rules_of(always: [&[c_long]; 2], conditional: Vec<(c_long, SeccompRule)>) -> Rules {
    let mut rules: Rules = always.into_iter().flatten().map(|call| (*call, Vec::new())).collect();
    for (call, rule) in conditional {
        rules.entry(call).or_default().push(rule);
    }
    rules
}

/// What ends the program, depending on its arguments.
fn conditional(files: Files, path_at: u64) -> Result<Vec<(c_long, SeccompRule)>, seccompiler::BackendError> {
    let rule = |argument, length, operator, value| {
        SeccompRule::new(vec![SeccompCondition::new(argument, length, operator, value)?])
    };
    let bits = |bits: libc::c_int| u64::from(bits.cast_unsigned());
    let set = |flags| (bits(flags), bits(flags));
    let access = |mode| (bits(libc::O_ACCMODE), bits(mode));
    // O_TMPFILE without the flag for directories that is part of it.
    let nameless = libc::O_TMPFILE & !libc::O_DIRECTORY;
    let mut opening = vec![set(libc::O_CREAT), set(libc::O_TRUNC), set(nameless), access(libc::O_WRONLY)];
    if files == Files::Read {
        opening.push(access(libc::O_RDWR));
    }
    let mut rules = vec![
        (libc::SYS_execve, rule(0, Qword, Ne, path_at)?),
        // A thread is no new process.
        (libc::SYS_clone, rule(0, Qword, MaskedEq(bits(libc::CLONE_THREAD)), 0)?),
    ];
    for (mask, value) in opening {
        rules.push((libc::SYS_openat, rule(2, Dword, MaskedEq(mask), value)?));
        #[cfg(target_arch = "x86_64")]
        rules.push((libc::SYS_open, rule(1, Dword, MaskedEq(mask), value)?));
    }
    Ok(rules)
}

/// What a checker of filesystems never does by itself.
const INTRUSIONS: &[c_long] = &[
    // programs and processes
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_personality,
    // the network, and the kernel's other doors
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // mounts
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    // files
    libc::SYS_open_by_handle_at,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_setxattr,
];

/// The same of this architecture alone.
#[cfg(target_arch = "x86_64")]
const INTRUSIONS_HERE: &[c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_creat,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_chmod,
    libc::SYS_chown,
];

#[cfg(not(target_arch = "x86_64"))]
const INTRUSIONS_HERE: &[c_long] = &[];

/// What programs need that read and repair a filesystem, with threads, by one device: more than the versions at hand
/// were seen to call, since others follow.
const NEEDED: &[c_long] = &[
    // its own memory, threads, end
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_msync,
    libc::SYS_membarrier,
    libc::SYS_clone,
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_get_robust_list,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_wait4,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_yield,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_getcpu,
    libc::SYS_prctl,
    // who and where it is
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getresuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_prlimit64,
    libc::SYS_times,
    // time
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // files and descriptors
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_ioctl,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_readahead,
    libc::SYS_fadvise64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_io_getevents,
    libc::SYS_io_destroy,
];

/// The same of this architecture alone.
#[cfg(target_arch = "x86_64")]
const NEEDED_HERE: &[c_long] = &[
    libc::SYS_arch_prctl,
    libc::SYS_open,
    libc::SYS_access,
    libc::SYS_stat,
    libc::SYS_fstat,
    libc::SYS_lstat,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
];

#[cfg(not(target_arch = "x86_64"))]
const NEEDED_HERE: &[c_long] = &[];
