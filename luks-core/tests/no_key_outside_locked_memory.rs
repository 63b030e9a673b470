//! Looks into a process that has a key in use: command line, environment, and all memory that a core dump would hold.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed, Trial};
use luks_core::{
    Container, FormatOptions, KeySlot, LuksVersion, RecoveryKey, Secret, SecretKind, generate_key_file,
    load_key_file,
};

const CHILD: &str = "--be-the-child";
const READY: &str = "ready";
/// Bytes of a key that must not be found; so many don't occur by chance.
const NEEDLE: usize = 24;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(CHILD) {
        use_keys(Path::new(&words.next().unwrap()));
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::from_args();
    let readable = File::open("/proc/self/mem").is_ok();
    let trial = Trial::test("a_key_in_use_is_only_in_locked_memory", || {
        only_in_locked_memory();
        Ok::<(), Failed>(())
    });
    let trial = if readable { trial } else { trial.with_ignored_flag(true).with_kind("no-proc-mem") };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

/// What the child does: every operation with a key, and then it waits with the key in its hands.
fn use_keys(directory: &Path) {
    let key = load_key_file(&directory.join("key")).unwrap();
    let other = load_key_file(&directory.join("other")).unwrap();
    let recovery = RecoveryKey::generate().unwrap();
    for (name, version, area) in
        [("one", LuksVersion::Luks1, None), ("two", LuksVersion::Luks2, Some(0x10_0000))]
    {
        let drive = directory.join(name);
        File::create(&drive).unwrap().set_len(4 << 20).unwrap();
        let options = FormatOptions { version, keyslots_area_bytes: area, ..FormatOptions::default() };
        let container = Container::format(&drive, &options, &key, SecretKind::KeyFile, KeySlot::ONE).unwrap();
        container.add_key(&key, &other, SecretKind::KeyFile, None).unwrap();
        container.test_key(&key).unwrap();
        container.add_key(&key, recovery.secret(), SecretKind::KeyFile, None).unwrap();
        assert!(container.test_key(&Secret::random(64).unwrap()).is_err());
        container.kill_slot(KeySlot::ONE, &other).unwrap();
    }
    println!("{READY} {}", key.fingerprint());
    // Until the parent closes the pipe.
    let _end = std::io::stdin().read(&mut [0]);
    drop((key, other, recovery));
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _already_gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn only_in_locked_memory() {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["key", "other"].map(|name| directory.path().join(name));
    for path in &paths {
        generate_key_file(path, 4096).unwrap();
    }
    let mut child = Command::new("/proc/self/exe")
        .arg(CHILD)
        .arg(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let child = Running(child);
    assert!(line.starts_with(READY), "the child failed");
    let process = Path::new("/proc").join(child.0.id().to_string());
    for path in &paths {
        let key = fs::read(path).unwrap();
        let needles: Vec<&[u8]> = key.chunks_exact(NEEDLE).collect();
        for place in ["cmdline", "environ"] {
            assert_eq!(found(&fs::read(process.join(place)).unwrap(), &needles), 0, "a key is in {place}");
        }
        let (mut dumped, mut kept_out) = (0, 0);
        let mappings = mappings(&fs::read_to_string(process.join("smaps")).unwrap());
        for mapping in mappings.into_iter().filter(|mapping| mapping.writable) {
            let Some(bytes) = read(&process.join("mem"), &mapping) else { continue };
            let count = found(&bytes, &needles);
            if mapping.dumped {
                dumped += count;
            } else {
                kept_out += count;
            }
        }
        // The second number shows that the search does find what is there.
        assert_eq!(kept_out, needles.len(), "the key is not where it should be");
        assert_eq!(dumped, 0, "so many parts of a key would be in a core dump");
    }
}

struct Mapping {
    from: u64,
    to: u64,
    writable: bool,
    dumped: bool,
}

/// The mappings of smaps, see proc(5); the flag `dd` keeps one out of core dumps.
fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in smaps.lines() {
        let mut words = line.split(' ');
        let range = words.next().and_then(|word| word.split_once('-'));
        if let Some((Ok(from), Ok(to))) =
            range.map(|(from, to)| (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)))
        {
            // What can't be written to holds no secrets, and is left out of core dumps.
            let writable = words.next().is_some_and(|permissions| permissions.contains('w'));
            mappings.push(Mapping { from, to, writable, dumped: true });
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && let Some(last) = mappings.last_mut()
        {
            last.dumped = !flags.split_whitespace().any(|flag| flag == "dd");
        }
    }
    mappings
}

/// The bytes of a mapping; `None` when they can't be read (such as the kernel's own pages).
fn read(memory: &Path, mapping: &Mapping) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(mapping.to - mapping.from).ok()?];
    File::open(memory).ok()?.read_exact_at(&mut bytes, mapping.from).ok()?;
    Some(bytes)
}

/// How many of the needles occur.
fn found(hay: &[u8], needles: &[&[u8]]) -> usize {
    let starts: std::collections::HashMap<[u8; 4], &[u8]> =
        needles.iter().filter_map(|needle| Some((*needle.first_chunk()?, *needle))).collect();
    let hits = hay.windows(NEEDLE).filter(|window| {
        window.first_chunk().and_then(|start| starts.get(start)).is_some_and(|needle| *needle == *window)
    });
    hits.count()
}
