//! Each command is killed before each of its system calls that changes a file; what is left must be good, no volume
//! may have another slot, and Bacula must still hear of what it was not told.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../../luks-core/tests/tracer/mod.rs"]
mod tracer;

mod site;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use changer_model::{Environment, MagazineSource, Privileges, run_command_line};
use libtest_mimic::{Arguments, Failed, Trial};
use site::Site;
use tracer::{End, kill_before};

const CHILD: &str = "--be-the-child";
const TAKE_OVER: &str = "take over";
const MOST_CALLS: usize = 500;

/// Notes what it saw in the changer whenever it is asked to update the slots.
const DIRECTOR: &str = r#"
while read -r line; do
  case "$line" in
  'update slots'*)
    echo '3306 Issuing autochanger "list" command.'
    ls $root/m0 $root/m1 | grep -v : | sort > $root/catalog.$$
    mv $root/catalog.$$ $root/catalog
    for file in $root/m*/*; do echo "Catalog record for Volume \"${file##*/}\" is up to date."; done;;
  'list volumes') echo 'No results to list.';;
  version) echo 'd Version: 9.6.7 (1)'; echo 'd Version: 9.6.7 (2)';;
  'label '*) for file in $root/m*/*; do test -s $file || cp $root/labels/${file##*/} $file; done;;
  esac
done
"#;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [first, root, line] = words.as_slice()
        && first == CHILD
    {
        return be_the_child(Path::new(root), line);
    }
    let arguments = Arguments::from_args();
    let possible = tracer::possible();
    let commands = [
        "refresh",
        "refresh --force",
        "list",
        "slots 0 dev 0",
        "load 2 dev 0",
        "load 1 dev 1",
        "unload 1 dev 1",
        "createvols 0 3 -l new",
        TAKE_OVER,
    ];
    let trial = |line: &'static str| {
        let run = move || {
            matrix(line);
            Ok::<(), Failed>(())
        };
        let trial = Trial::test(format!("W19 {line}"), run).with_ignored_flag(!possible);
        if possible { trial } else { trial.with_kind("no-ptrace") }
    };
    libtest_mimic::run(&arguments, commands.map(trial).into()).exit_code()
}

fn be_the_child(root: &Path, line: &str) -> ExitCode {
    let mut env = Environment::new(root);
    env.privileges = Privileges::Keep;
    let config = root.join("c.conf");
    if line == TAKE_OVER {
        let config = changer_model::Config::load(root, &config).expect("loads");
        let changer = changer_model::Changer::open(&config, &env).expect("opens");
        let source = |name: &str| MagazineSource::Directory(root.join(name));
        changer.take_over(&[(source("m0"), source("m7"))]).expect("is taken over");
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<_> =
        std::iter::once(config.into_os_string()).chain(line.split_whitespace().map(Into::into)).collect();
    ExitCode::from(run_command_line(&arguments, &env).code)
}

/// A site whose Director knows `a`, `b`, `c`; then `c` left, `d` came, and one more waits for its label.
fn site() -> Site {
    let site = Site::with("m0 m1", "bconsole = ROOT/bconsole\n");
    site.console(DIRECTOR);
    site.labels(&["blank", "new0000", "new0001", "new0002"]);
    for name in ["m0/a", "m0/b", "m1/c"] {
        site.volume(name);
    }
    site.answer("refresh");
    site.answer("load 1 dev 1");
    fs::remove_file(site.path("m1/c")).expect("removes");
    site.volume("m1/d");
    fs::write(site.path("m0/blank"), "").expect("writes");
    site
}

fn slots(site: &Site) -> BTreeSet<(String, String)> {
    let list = site.answer("list");
    let pairs = list.lines().filter_map(|line| line.split_once(':')).filter(|(_, name)| !name.is_empty());
    pairs.map(|(slot, name)| (name.to_owned(), slot.to_owned())).collect()
}

fn matrix(line: &'static str) {
    for n in 1..MOST_CALLS {
        let site = site();
        let mut command = Command::new("/proc/self/exe");
        command.arg(CHILD).arg(&site.env.root).arg(line).stderr(std::process::Stdio::null());
        let end = kill_before(command, n).expect("is traced");
        check(&site, line, n);
        if let End::Exited(status) = end {
            assert_eq!(status, 0, "{line} failed by itself");
            assert!(n > 3, "only {n} changing calls: the tracer misses something");
            return;
        }
    }
    panic!("{line} makes more than {MOST_CALLS} changing calls");
}

fn check(site: &Site, line: &str, n: usize) {
    let at = format!("{line}, killed before change {n}");
    if line == TAKE_OVER && site.run("list").stdout.starts_with("1:\n") {
        // it is done: the magazine goes by its new name
        fs::rename(site.path("m0"), site.path("m7")).expect("renames");
        let text = fs::read_to_string(site.path("c.conf")).expect("reads").replace("/m0\n", "/m7\n");
        fs::write(site.path("c.conf"), text).expect("writes");
        let slots = slots(site);
        assert!(
            slots.contains(&("a".into(), "1".into())) && slots.contains(&("b".into(), "2".into())),
            "{at}"
        );
        return;
    }
    for drive in [0, 1] {
        let loaded = site.answer(&format!("loaded 1 dev {drive}"));
        let opens = fs::File::open(site.path(&format!("work/{drive}"))).is_ok();
        assert_eq!(loaded != "0\n", opens, "{at}: drive {drive} says {loaded}");
        let links = site.links().into_iter().filter(|(name, _)| name.contains(&drive.to_string()));
        assert!(links.count() <= usize::from(opens), "{at}: drive {drive} says {loaded}: {:?}", site.links());
    }
    let before = slots(site);
    for known in [("a", "1"), ("b", "2")] {
        assert!(before.contains(&(known.0.into(), known.1.into())), "{at}: {before:?}");
    }
    let numbers: BTreeSet<&String> = before.iter().map(|(_, slot)| slot).collect();
    assert_eq!(numbers.len(), before.len(), "{at}: two volumes in one slot: {before:?}");
    assert_eq!(site.run("refresh").code, 0, "{at}");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None, "{at}");
    let after = slots(site);
    assert!(after.is_superset(&before), "{at}: {before:?} {after:?}");
    let catalog = fs::read_to_string(site.path("catalog")).expect("is there");
    let told: BTreeSet<&str> = catalog.lines().filter(|name| !name.is_empty()).collect();
    let shown: BTreeSet<&str> = after.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(told, shown, "{at}: the catalog was not told");
}
