//! Ending a program with everything that it started.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Timeout for the end of the descendants; one that waits for a device may end later.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    state: char,
    parent: i32,
}

/// Kills a program and all its descendants, also those that made sessions of their own.
///
/// `leader` is the reaper of its descendants (prctl(2), `PR_SET_CHILD_SUBREAPER`) and not waited for yet. It is
/// stopped first: then it starts nothing more, and orphans stay below it.
pub(super) fn end(leader: Pid) {
    let _ = kill(leader, Signal::SIGSTOP); // it may have ended by itself just now
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = living_below(leader.as_raw(), &processes());
        if left.is_empty() || Instant::now() > deadline {
            break;
        }
        for process in left {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL); // it may have ended meanwhile
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = kill(leader, Signal::SIGKILL);
}

/// The descendants of `leader` that haven't ended.
fn living_below(leader: i32, processes: &BTreeMap<i32, Process>) -> BTreeSet<i32> {
    let mut below = BTreeSet::from([leader]);
    loop {
        let children = processes.iter().filter(|(_, process)| below.contains(&process.parent));
        let more: Vec<i32> = children.map(|(pid, _)| *pid).filter(|pid| !below.contains(pid)).collect();
        if more.is_empty() {
            break;
        }
        below.extend(more);
    }
    below.remove(&leader);
    below.retain(|pid| processes.get(pid).is_some_and(|process| !matches!(process.state, 'Z' | 'X')));
    below
}

/// Every process that /proc shows; one that ends meanwhile is left out.
fn processes() -> BTreeMap<i32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of = |pid: i32| Some((pid, parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?));
    entries.filter_map(|entry| of(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Reads state and parent, the fields behind the program's name, which may hold blanks and brackets (proc_pid_stat(5)).
fn parse(stat: &str) -> Option<Process> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    Some(Process { state: fields.next()?.chars().next()?, parent: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_hides_no_parent() {
        assert_eq!(parse("7 (a) Z 1 (b) S 42 7 7 0"), Some(Process { state: 'S', parent: 42 }));
        assert_eq!(parse("7 (a"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn descendants_are_found_at_any_depth() {
        let process = |state, parent| Process { state, parent };
        let all = BTreeMap::from([
            (1, process('S', 0)),
            (5, process('T', 1)),
            (4, process('S', 5)),
            (9, process('Z', 5)),
            (3, process('D', 9)),
            (6, process('S', 1)),
        ]);
        assert_eq!(living_below(5, &all), BTreeSet::from([3, 4]));
        assert_eq!(living_below(3, &all), BTreeSet::new());
    }
}
