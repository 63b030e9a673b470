use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::sync::atomic::Ordering;
use std::time::Instant;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::base::program::*;

fn shell(script: &str) -> Program {
    Program::find("sh", "dash").unwrap().args(["-c", script])
}

/// A FIFO in a directory of its own: its reader sees the end when the last process that opened it for writing is gone.
fn fifo() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("held");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    (directory, path)
}

#[test]
fn a_missing_program_names_its_package() {
    let failure = Program::find("mkfs.no-such", "no-such-progs").unwrap_err();
    assert!(failure.remedy().unwrap().contains("apt-get install no-such-progs"));
}

#[test]
fn output_longer_than_a_pipe_is_drained() {
    let text = Program::find("seq", "coreutils").unwrap().args(["1", "100000"]).must().unwrap();
    assert_eq!(text.lines().count(), 100_000);
}

#[test]
fn output_without_end_is_kept_in_part_and_ended_in_time() {
    let failure = shell("yes").keep(1000).limit(Duration::from_millis(300)).run().unwrap_err();
    assert_eq!(failure.exit(), Exit::TimeLimit);
    assert!(failure.message().len() < 2000, "{}", failure.message().len());
}

#[test]
fn of_long_output_the_beginning_and_the_end_are_kept() {
    let finished = shell("echo first; seq 1 1000000; echo last").keep(4096).run().unwrap();
    assert!(finished.is_cut && finished.text.len() < 5000);
    assert!(finished.text.starts_with("first\n") && finished.text.ends_with("\nlast\n"), "{}", finished.text);
    let failure = shell("seq 1 1000000").keep(4096).answer().unwrap_err();
    assert!(failure.message().contains("more than 4096 bytes"), "{failure}");
}

#[test]
fn a_program_that_hangs_is_ended() {
    let failure = shell("echo words; exec sleep 600").limit(Duration::from_millis(300)).run().unwrap_err();
    assert_eq!(failure.exit(), Exit::TimeLimit);
    assert!(failure.message().ends_with("words"), "{failure}");
}

#[test]
fn a_failure_quotes_the_last_words() {
    let failure = Program::find("ls", "coreutils").unwrap().args(["/no/such/place"]).must().unwrap_err();
    assert!(failure.message().contains("/no/such/place"), "{failure}");
}

#[test]
fn a_child_that_holds_the_output_prolongs_nothing() {
    let (_directory, held) = fifo();
    let reader = std::thread::spawn({
        let held = held.clone();
        move || File::open(held).unwrap().read_to_end(&mut Vec::new()).unwrap()
    });
    let script = format!("exec 3>{}; sleep 600 & echo done", held.display());
    let text = shell(&script).limit(Duration::from_mins(5)).must().unwrap();
    assert_eq!(text, "done\n");
    reader.join().unwrap(); // the child was ended with its group
}

#[test]
fn all_descendants_end_with_a_program_that_is_ended() {
    let (_directory, held) = fifo();
    // A grandchild in a session of its own, orphaned, and a child that ignores what it may.
    let script = format!(
        "exec 3>{}; (setsid sh -c 'echo grandchild >&3; sleep 600 & sleep 600' &) ; \
         (trap '' TERM HUP INT; echo child >&3; sleep 600) & echo parent >&3; sleep 600",
        held.display()
    );
    let stop = Arc::new(AtomicBool::new(false));
    let program = shell(&script).limit(Duration::from_mins(5)).until(Arc::clone(&stop));
    let run = std::thread::spawn(move || program.run());
    let mut reader = BufReader::new(File::open(held).unwrap());
    let mut said = String::new();
    while said.lines().count() < 3 {
        assert!(reader.read_line(&mut said).unwrap() > 0, "ended too early: {said}");
    }
    stop.store(true, Ordering::SeqCst);
    assert!(run.join().unwrap().unwrap_err().message().contains("was stopped"));
    assert_eq!(reader.read_line(&mut said).unwrap(), 0, "nobody holds it any more");
}

#[test]
fn a_program_reads_what_it_is_given() {
    let long = "x".repeat(1 << 20);
    let finished = shell("wc -c").input(long.clone()).run().unwrap();
    assert_eq!(finished.text.trim(), "1048576");
    // One that reads nothing of it is no failure.
    assert_eq!(shell("echo no").input(long).must().unwrap(), "no\n");
    assert_eq!(shell("cat").must().unwrap(), "");
}

#[test]
fn stderr_stays_out_of_an_answer() {
    assert_eq!(shell("echo warning >&2; echo answer").answer().unwrap(), "answer\n");
    let failure = shell("echo half; echo why >&2; exit 3").answer().unwrap_err();
    assert!(failure.message().ends_with("with status 3: why"), "{failure}");
}

#[test]
#[expect(unsafe_code, reason = "a signal has to be ignored")]
fn nothing_is_inherited() {
    // What another library might forget, under a number that `ls` below doesn't take for itself.
    let leaked = fcntl(tempfile::tempfile().unwrap(), FcntlArg::F_DUPFD(100)).unwrap();
    // SAFETY: nothing runs at the signal, neither before nor now.
    unsafe { signal(Signal::SIGUSR2, SigHandler::SigIgn) }.unwrap();
    // The shell's own are 0, 1, 2 and the directory that `ls` reads.
    let text =
        shell("ls /proc/self/fd; env; pwd; umask; ulimit -c; grep -E '^Sig(Ign|Blk)' /proc/self/status")
            .must()
            .unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(!lines.contains(&&*leaked.to_string()), "{text}");
    let variables: Vec<_> =
        lines.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    assert!(
        variables.iter().all(|name| matches!(*name, "PATH" | "LC_ALL" | "PWD" | "_" | "OLDPWD" | "SHLVL")),
        "{text}"
    );
    for expected in ["/", "0022", "0", "SigBlk:\t0000000000000000"] {
        assert!(lines.contains(&expected), "{expected:?} in {text}");
    }
    let ignored = lines.iter().find_map(|line| line.strip_prefix("SigIgn:\t")).unwrap();
    let own = 0b11 << 31; // 32 and 33 belong to the C library, which lets nobody change them
    assert_eq!(u64::from_str_radix(ignored, 16).unwrap() & !own, 0, "{text}");
}

#[test]
fn memory_is_limited() {
    let text = shell("ulimit -v").memory(64 << 20).must().unwrap();
    assert_eq!(text.trim(), "65536");
}

#[test]
fn a_program_leads_a_session_of_its_own() {
    let text = shell("cut -d' ' -f1,5,6,7 /proc/$$/stat").must().unwrap();
    let fields: Vec<_> = text.split_whitespace().collect();
    assert_eq!((fields[0], fields[0], "0"), (fields[1], fields[2], fields[3]), "no terminal: {text}");
}

/// Another user for root, who alone can become one; else the own one.
fn other() -> Account {
    if nix::unistd::geteuid().is_root() {
        return Account { uid: 65_534, gid: 65_533, groups: vec![65_532, 65_533] };
    }
    let groups = nix::unistd::getgroups().unwrap();
    Account {
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        groups: groups.into_iter().map(nix::unistd::Gid::as_raw).collect(),
    }
}

#[test]
fn another_user_is_nobody_else() {
    let Account { uid, gid, groups } = other();
    let groups: Vec<_> = groups.iter().map(u32::to_string).collect();
    let text = shell("cat /proc/self/status").user(other()).must().unwrap();
    for expected in [
        &*format!("Uid:\t{uid}\t{uid}\t{uid}\t{uid}"),
        &format!("Gid:\t{gid}\t{gid}\t{gid}\t{gid}"),
        &format!("Groups:\t{}", groups.join(" ")),
        "NoNewPrivs:\t1",
        "CapPrm:\t0000000000000000",
        "CapEff:\t0000000000000000",
        "CapAmb:\t0000000000000000",
    ] {
        assert!(text.lines().any(|line| line.trim_end() == expected), "{expected:?} in {text}");
    }
}

#[test]
fn a_program_ends_with_the_thread_that_runs_it() {
    // Also as another user: becoming one takes the setting back, if it comes first.
    for account in [None, Some(other())] {
        let mut command = Command::new("/bin/sleep");
        command.arg("600");
        child::isolate(&mut command, account.as_ref(), None, None, None);
        let started = std::thread::spawn(move || command.spawn().unwrap());
        let mut child = started.join().unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_mins(5), "it lives on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A program that makes one system call by its number, and tells the error's number.
fn calling(call: &str) -> Finished {
    let script = format!("$r = syscall({call}); print $r == -1 ? $! + 0 : 'done'");
    let perl = Program::find("perl", "perl-base").unwrap();
    perl.args(["-e", &script]).filter(Files::Write).memory(1 << 30).run().unwrap()
}

#[test]
fn what_only_an_intruder_calls_ends_a_filtered_program() {
    use nix::libc;
    let numbered = |number: libc::c_long, arguments: &str| format!("{number}, {arguments}");
    let create = libc::O_CREAT | libc::O_RDWR;
    let forbidden = [
        // Its own program again, by a path that isn't at the place of the first.
        format!("{}, my $p = '/bin/true', 0, 0", libc::SYS_execve),
        numbered(libc::SYS_execveat, "0, 0, 0, 0, 0"),
        numbered(libc::SYS_clone, "17, 0, 0, 0, 0"),
        numbered(libc::SYS_socket, "1, 1, 0"),
        numbered(libc::SYS_ptrace, "0, 0, 0, 0"),
        numbered(libc::SYS_mount, "0, 0, 0, 0, 0"),
        numbered(libc::SYS_fsopen, "0, 0"),
        numbered(libc::SYS_bpf, "0, 0, 0"),
        numbered(libc::SYS_keyctl, "0, 0, 0, 0, 0"),
        numbered(libc::SYS_add_key, "0, 0, 0, 0, 0"),
        numbered(libc::SYS_io_uring_setup, "1, 0"),
        numbered(libc::SYS_unshare, "268435456"),
        numbered(libc::SYS_setns, "0, 0"),
        format!("{}, -100, my $p = '/tmp/made-by-a-checker', {create}, 384", libc::SYS_openat),
        format!("{}, -100, my $p = '/dev/null', {}, 0", libc::SYS_openat, libc::O_WRONLY),
        format!("{}, -100, my $p = '/tmp', {}, 384", libc::SYS_openat, libc::O_TMPFILE | libc::O_RDWR),
        format!("{}, -100, my $p = '/dev/null', {}, 0", libc::SYS_openat, libc::O_TRUNC),
        format!("{}, -100, my $p = '/tmp/made-by-a-checker', 0", libc::SYS_unlinkat),
    ];
    for call in &forbidden {
        let finished = calling(call);
        assert_eq!(finished.signal, Some(Signal::SIGSYS), "{call}: {finished:?}");
        assert!(finished.text.is_empty(), "{call}: {finished:?}");
    }
    // What isn't known fails, as in an older kernel.
    assert_eq!(calling(&numbered(libc::SYS_clone3, "0, 0")).text, libc::ENOSYS.to_string());
    assert_eq!(calling("5000").text, libc::ENOSYS.to_string());
    assert_eq!(calling(&numbered(libc::SYS_setuid, "0")).text, libc::ENOSYS.to_string());
    // A call of another kind of process (x32, whose numbers have a bit of their own) is none of ours.
    assert_eq!(calling(&format!("{}, 1, 1, 0", 0x4000_0000 + libc::SYS_socket)).text, "38");
    assert_eq!(calling(&numbered(libc::SYS_getpid, "0")).text, "done");
    assert_eq!(
        calling(&format!("{}, -100, my $p = '/dev/null', {}, 0", libc::SYS_openat, libc::O_RDWR)).text,
        "done"
    );
}

#[test]
fn a_filtered_program_starts_no_other_one() {
    let shell = |script| shell(script).filter(Files::Read).run().unwrap();
    assert_eq!(shell("echo words").text, "words\n");
    for script in ["exec ls /", "ls / & wait", "(echo a child)", "echo x >/tmp/made-by-a-checker"] {
        let finished = shell(script);
        assert_eq!(finished.signal, Some(Signal::SIGSYS), "{script}: {finished:?}");
    }
}
