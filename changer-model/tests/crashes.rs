//! Changers that are killed at any moment, and many at once.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod site;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use changer_model::{Environment, Privileges, run_command_line};
use site::Site;

const ROOT: &str = "CHANGER_TEST_ROOT";

/// Works until it is killed: the body of the processes below, and nothing when the tests run it themselves.
#[test]
fn victim() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let mut env = Environment::new(root.as_ref());
    env.privileges = Privileges::Keep;
    let lines = [
        "createvols 1 1 -l v",
        "load 1 dev 0",
        "load 2 dev 1",
        "refresh",
        "slots 0 dev 0",
        "unload 1 dev 0",
        "list",
        "createvols 0 2 -l w",
        "unload 1 dev 1",
        "refresh --force",
    ];
    let config = std::path::Path::new(&root).join("c.conf").into_os_string();
    for line in lines.iter().cycle().take(2_000) {
        let arguments: Vec<_> =
            std::iter::once(config.clone()).chain(line.split_whitespace().map(Into::into)).collect();
        run_command_line(&arguments, &env);
    }
}

fn slots(list: &str) -> BTreeMap<String, u32> {
    let pairs = list.lines().filter_map(|line| line.split_once(':')).filter(|(_, name)| !name.is_empty());
    pairs.map(|(slot, name)| (name.to_owned(), slot.parse().expect("a number"))).collect()
}

/// How many changers are killed; a long run: `CHANGER_KILLS=1000 cargo test --release -p changer-model --test crashes`.
fn kills() -> u32 {
    std::env::var("CHANGER_KILLS").ok().map_or(25, |text| text.parse().expect("a number"))
}

/// Takes all volumes in, and says so as the Director does.
const DIRECTOR: &str = r#"
while read -r line; do
  case "$line" in
  'update slots'*)
    echo '3306 Issuing autochanger "list" command.'
    for file in $root/m*/*; do echo "Catalog record for Volume \"${file##*/}\" is up to date."; done;;
  'list volumes') echo 'No results to list.';;
  version) echo 'd Version: 9.6.7 (1)'; echo 'd Version: 9.6.7 (2)';;
  'label '*) for file in $root/m*/*; do test -s $file || cp $root/labels/${file##*/} $file; done;;
  esac
done
"#;

#[test]
fn a_killed_changer_loses_nothing() {
    let site = Site::with("m0 m1", "bconsole = ROOT/bconsole\n");
    site.console("cat > /dev/null; exit 1");
    site.volume("m0/a");
    site.volume("m1/b");
    site.answer("list");
    let mut known = slots(&site.answer("list"));
    let mut moment = 3;
    for round in 0..kills() {
        let mut victim = Command::new(std::env::current_exe().expect("has a path"))
            .args(["--exact", "victim", "--test-threads=1"])
            .env(ROOT, site.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        // moments that differ by less than a call takes
        moment = (moment * 37 + 11) % 101;
        thread::sleep(Duration::from_micros(4_000 + moment * 700));
        victim.kill().expect("is killed");
        victim.wait().expect("ends");
        let now = slots(&site.answer("list"));
        for (name, slot) in &known {
            assert_eq!(now.get(name), Some(slot), "{name} in round {round}");
        }
        let mut numbers: Vec<u32> = now.values().copied().collect();
        numbers.dedup();
        assert_eq!(numbers.len(), now.len());
        known = now;
        assert!(site.changer().pending_catalog().expect("reads").is_some(), "what was not told stays owed");
        let loaded: u32 = site.answer("loaded 1 dev 0").trim().parse().expect("a number");
        assert!(loaded == 0 || site.path("work/0").exists(), "a full drive leads to its volume");
    }
    assert!(known.len() > 2, "the victims came to work");
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    site.labels(&names);
    site.console(DIRECTOR);
    site.answer("refresh");
    assert_eq!(site.changer().pending_catalog().expect("reads"), None, "now all of it is told");
    site.console("cat > /dev/null; exit 1");
    site.run("createvols 0 1 -l z");
    let leftovers = fs::read_dir(site.path("work")).expect("lists").flatten();
    let volumes = leftovers.filter(|e| e.file_name().to_string_lossy().starts_with("volumes-")).count();
    assert!(volumes <= 4, "old files are swept: {volumes}");
}

#[test]
fn twenty_at_once_take_turns() {
    let site = Site::new("m0");
    for number in 0..20 {
        site.volume(&format!("m0/v{number:02}"));
    }
    site.answer("list");
    let outcomes: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let site = &site;
                scope.spawn(move || site.run(&format!("load {} dev {n}", n + 1)))
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("ends")).collect()
    });
    assert!(outcomes.iter().all(|o| o.code == 0), "{outcomes:?}");
    let all = site.answer("listall");
    for n in 0..20 {
        assert!(all.contains(&format!("D:{n}:F:{}:v{n:02}\n", n + 1)), "{all}");
    }
    // twenty for one slot: one gets it
    for n in 0..20 {
        site.answer(&format!("unload 1 dev {n}"));
    }
    let done: u32 = thread::scope(|scope| {
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let site = &site;
                scope.spawn(move || u32::from(site.run(&format!("load 5 dev {n}")).code == 0))
            })
            .collect();
        calls.into_iter().map(|call| call.join().expect("ends")).sum()
    });
    assert_eq!(done, 1);
}

#[test]
fn createvols_at_once_make_different_volumes() {
    let site = Site::new("m0");
    let outputs: Vec<String> = thread::scope(|scope| {
        let site = &site;
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(move || site.run("createvols 0 5").stdout)).collect();
        calls.into_iter().map(|call| call.join().expect("ends")).collect()
    });
    let mut names: Vec<&str> =
        outputs.iter().flat_map(|o| o.lines()).filter(|l| l.starts_with("creating")).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 40);
    assert_eq!(slots(&site.answer("list")).len(), 40);
    assert_eq!(names[0], "creating label 'c0_0000_0000'");
}
