//! A running vchanger site is taken over by `offsite conf --import`: afterwards each volume has the slot it had.
//!
//! The sites are made by vchanger itself where it is there (named in `PEER_VCHANGER`, 1.0.x, and `PEER_VCHANGER_08`,
//! 0.8.x), and once by hand, in the form in which 1.0.3 leaves its files.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::unistd::User;
use offsite_tests::loop_drive::{LoopDrive, run};
use offsite_tests::{own_system, programs};

const WORK: &str = "/var/lib/vchanger";
const CONF: &str = "/etc/vchanger.conf";

fn main() {
    let arguments = Arguments::from_args();
    let lacking = own_system::lacking()
        .or_else(|| {
            User::from_name("bacula").ok().flatten().is_none().then(|| "no user bacula here".to_owned())
        })
        .or_else(|| programs::release("offsite").err().map(|error| format!("{error:#}")))
        .or_else(|| {
            own_system::enter().and_then(|()| own_semaphores()).err().map(|error| format!("{error:#}"))
        });
    let peer = |variable: &str| {
        let named = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_file());
        named.ok_or_else(|| format!("no peer: name a vchanger in {variable}"))
    };
    let trial = |name: &str, needs: Option<&String>, test: Box<dyn Fn() -> Result<()> + Send>| {
        let trial = Trial::test(name, move || test().map_err(|error| Failed::from(format!("{error:?}"))));
        match lacking.as_ref().or(needs) {
            Some(reason) => trial.with_kind(reason.clone()).with_ignored_flag(true),
            None => trial,
        }
    };
    let (new, old) = (peer("PEER_VCHANGER"), peer("PEER_VCHANGER_08"));
    let (no_new, no_old) = (new.clone().err(), old.clone().err());
    let trials = vec![
        trial("state_files_of_1_0", None, Box::new(state_files)),
        trial("names_with_blanks_and_magazines_behind_links", None, Box::new(awkward)),
        trial("a_name_that_bacula_refuses_is_told_of_its_own_file", None, Box::new(refused)),
        trial(
            "a_site_of_1_0",
            no_new.as_ref(),
            Box::new(move || site_of_1_0(new.as_deref().unwrap_or(Path::new("")))),
        ),
        trial(
            "a_site_of_0_8",
            no_old.as_ref(),
            Box::new(move || site_of_0_8(old.as_deref().unwrap_or(Path::new("")))),
        ),
    ];
    // One at a time: they share /etc and /var/lib.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    libtest_mimic::run(&arguments, trials).exit();
}

/// vchanger's locks are the host's, and belong to whoever called one first.
fn own_semaphores() -> Result<()> {
    let none = None::<&str>;
    Ok(nix::mount::mount(Some("own"), "/dev/shm", Some("tmpfs"), nix::mount::MsFlags::empty(), none)?)
}

/// Two drives, mounted as somebody mounts them by hand, and a work directory.
struct Machine {
    drives: [LoopDrive; 2],
}

impl Machine {
    fn new() -> Result<Self> {
        let mut drives = [LoopDrive::ext4(16)?, LoopDrive::ext4(16)?];
        for (number, drive) in drives.iter_mut().enumerate() {
            let device = drive.plug()?.to_owned();
            let at = at(number);
            fs::create_dir_all(&at)?;
            run(Command::new("mount").arg(device).arg(&at))?;
            give(&at)?;
        }
        fs::create_dir(WORK)?;
        give(Path::new(WORK))?;
        Ok(Self { drives })
    }

    /// Mounts the drives where the daemon will.
    fn hand_over(&self) -> Result<()> {
        for (number, drive) in self.drives.iter().enumerate() {
            let directory = Path::new("/srv/offsite").join(drive.uuid());
            fs::create_dir_all(&directory)?;
            run(Command::new("mount").arg("--move").arg(at(number)).arg(directory))?;
        }
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for (number, drive) in self.drives.iter().enumerate() {
            for directory in [at(number), Path::new("/srv/offsite").join(drive.uuid())] {
                if let Err(error) = nix::mount::umount(&directory)
                    && !matches!(error, nix::Error::EINVAL | nix::Error::ENOENT)
                {
                    eprintln!("{} was not unmounted: {error}", directory.display());
                }
            }
        }
        for left in [WORK, "/etc/offsite", "/srv/offsite", "/run/out"] {
            if let Err(error) = fs::remove_dir_all(left)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                eprintln!("{left} was not removed: {error}");
            }
        }
    }
}

fn at(number: usize) -> PathBuf {
    Path::new("/srv").join(format!("m{number}"))
}

fn give(path: &Path) -> Result<()> {
    let bacula = User::from_name("bacula")?.context("no user bacula")?;
    Ok(chown(path, Some(bacula.uid.as_raw()), Some(bacula.gid.as_raw()))?)
}

fn configure(head: &str) -> Result<()> {
    let magazines = [0, 1].map(|number| format!("Magazine = \"{}\"\n", at(number).display()));
    Ok(fs::write(CONF, format!("{head}{}", magazines.concat()))?)
}

fn call(program: &Path, line: &str) -> Result<String> {
    run(Command::new(program).args(line.split_whitespace()))
}

fn offsite(line: &str) -> Result<String> {
    call(&programs::release("offsite")?, line)
}

/// The slots that hold something.
fn full(list: &str) -> Vec<&str> {
    list.lines().filter(|line| !line.ends_with(':')).collect()
}

const V1: &str = "Storage Resource = c0\nWork Dir = /var/lib/vchanger\nLogfile = /var/lib/vchanger/log\n\
                  User = bacula\nGroup = tape\nbconsole = \"\"\n";

const V08: &str = "changer_name = c0\nwork_dir = /var/lib/vchanger\nlogfile = /var/lib/vchanger/log\nVirtual_Drives = 2\n\
                   slots_per_magazine = 4\nmagazine_bays = 2\n";

/// Imports, and compares what the new configuration lists with what the old one listed.
fn import(machine: &Machine, before: &str) -> Result<()> {
    offsite("init")?;
    let shown = offsite(&format!("conf --import {CONF} --dry-run"))?;
    ensure!(shown.contains("+[[magazine]]") && shown.contains("nothing was written"), "{shown}");
    ensure!(!fs::read_to_string("/etc/offsite/site.toml")?.contains("[[magazine]]\nname"), "a dry run wrote");
    let said = offsite(&format!("conf --import {CONF}"))?;
    let site = fs::read_to_string("/etc/offsite/site.toml")?;
    for drive in &machine.drives {
        ensure!(site.contains(&drive.uuid()), "{said}\n{site}");
    }
    let again = offsite(&format!("conf --import {CONF}"))?;
    ensure!(fs::read_to_string("/etc/offsite/site.toml")? == site, "not the same the second time: {again}");
    machine.hand_over()?;
    offsite("conf --out /run/out")?;
    let conf = Path::new("/run/out/etc/offsite/vchanger.conf");
    let text = fs::read_to_string(conf)?;
    let log = text.lines().find(|line| line.starts_with("Logfile")).context("no log")?;
    fs::write(conf, text.replace(log, "Logfile = \"/var/lib/vchanger/log\""))?;
    let ours = programs::release("vchanger")?;
    let after = call(&ours, &format!("{} list", conf.display()))?;
    ensure!(full(&after) == full(before), "{said}\nbefore:\n{before}\nafter:\n{after}");
    for line in full(before) {
        let slot = line.split(':').next().unwrap_or_default();
        call(&ours, &format!("{} load {slot} dev 1", conf.display()))?;
        ensure!(Path::new(WORK).join("1").is_file(), "slot {slot} leads nowhere");
        call(&ours, &format!("{} unload {slot} dev 1", conf.display()))?;
    }
    Ok(())
}

fn state_files() -> Result<()> {
    let machine = Machine::new()?;
    configure(V1)?;
    for (number, first, names) in [(0, 5, ["b", "d"]), (1, 2, ["a", "c"])] {
        for name in names {
            fs::write(at(number).join(name), "")?;
            give(&at(number).join(name))?;
        }
        let state = Path::new(WORK).join(format!("bay_state-{number}"));
        fs::write(state, format!("{},2,{first}\n", at(number).display()))?;
    }
    fs::write(Path::new(WORK).join("dynamic.conf"), "max_used_slot=12\n")?;
    import(&machine, "2:a\n3:c\n5:b\n6:d\n")
}

fn site_of_1_0(peer: &Path) -> Result<()> {
    let machine = Machine::new()?;
    configure(V1)?;
    // the second magazine first, so that its slots are not those of the configuration's order
    for line in ["createvols 1 2", "createvols 0 3", "load 4 dev 0", "refresh"] {
        call(peer, &format!("{CONF} {line}"))?;
    }
    let before = call(peer, &format!("{CONF} list"))?;
    ensure!(full(&before).len() == 5 && before.starts_with("1:c0_0001_"), "{before}");
    let ours = call(&programs::release("vchanger")?, &format!("{CONF} list"))?;
    ensure!(ours == before, "exchanging the program alone: {before}\n{ours}");
    fs::remove_file(Path::new(WORK).join("state.json"))?;
    import(&machine, &before)
}

fn site_of_0_8(peer: &Path) -> Result<()> {
    let machine = Machine::new()?;
    configure(V08)?;
    for line in ["initmag 2 -m 7", "initmag 1", "load 6 dev 0"] {
        call(peer, &format!("{CONF} -u bacula -g tape {line}"))?;
    }
    let before = call(peer, &format!("{CONF} -u bacula -g tape list"))?;
    ensure!(full(&before).len() == 8, "{before}");
    let ours = programs::release("vchanger")?;
    for line in ["list", "listmags", "slots", "loaded 6 dev 0", "loaded 1 dev 1"] {
        // vchanger first, for it does not know what ours makes of the drives' links
        let theirs = call(peer, &format!("{CONF} -u bacula -g tape {line}"))?;
        fs::create_dir("/run/work")?;
        run(Command::new("cp").args(["-a", "/var/lib/vchanger/.", "/run/work"]))?;
        let conf = fs::read_to_string(CONF)?.replace("work_dir = /var/lib/vchanger", "work_dir = /run/work");
        fs::write("/run/conf", conf)?;
        let same = call(&ours, &format!("/run/conf -u bacula -g tape {line}"))?;
        fs::remove_dir_all("/run/work")?;
        ensure!(same == theirs, "{line}: {theirs}\n{same}");
    }
    import(&machine, &before)
}

/// What people name and link: all of it comes over, each drive once.
fn awkward() -> Result<()> {
    let machine = Machine::new()?;
    std::os::unix::fs::symlink(at(0), "/run/drive")?;
    fs::create_dir(at(1).join("inside"))?;
    for (number, name) in [(0, "a"), (1, "b")] {
        fs::write(at(number).join(name), "")?;
        give(&at(number).join(name))?;
    }
    let uuid = machine.drives[0].uuid();
    let text = format!(
        "Storage Resource = \"USB Autochanger\"\nDefault Pool = \"Off Site\"\nWork Dir = {WORK}\nUser = bacula\nGroup = tape\n\
         bconsole = bconsole\nMagazine = UUID={uuid}\nMagazine = /run/drive\nMagazine = /srv/../srv/m1\nMagazine = \"UUID:{uuid}\"\nMagazine = /srv/m1/inside\n"
    );
    fs::write(CONF, text)?;
    offsite("init")?;
    let said = offsite(&format!("conf --import {CONF}"))?;
    ensure!(said.contains("neither `UUID:` with") && said.contains("line 7 is left out"), "{said}");
    ensure!(said.contains("listed twice") && said.contains("mv /srv/m1/inside/* /srv/m1"), "{said}");
    let site = fs::read_to_string("/etc/offsite/site.toml")?;
    ensure!(site.matches("[[magazine]]\nname").count() == 2, "{said}\n{site}");
    let again = offsite(&format!("conf --import {CONF}"))?;
    ensure!(fs::read_to_string("/etc/offsite/site.toml")? == site, "not the same the second time: {again}");
    machine.hand_over()?;
    offsite("conf --out /run/out")?;
    let director = fs::read_to_string("/run/out/etc/bacula/bacula-dir.conf")?;
    for line in [
        "  Name = \"USB Autochanger\"",
        "  Pool = \"Off Site\"",
        "    Console = \"update slots storage=\\\"USB Autochanger\\\" drive=0\"",
    ] {
        ensure!(director.lines().any(|there| there == line), "{line}: {director}");
    }
    let conf = Path::new("/run/out/etc/offsite/vchanger.conf");
    let text = fs::read_to_string(conf)?;
    let log = text.lines().find(|line| line.starts_with("Logfile")).context("no log")?;
    fs::write(conf, text.replace(log, "Logfile = \"/var/lib/vchanger/log\""))?;
    let listed = call(&programs::release("vchanger")?, &format!("{} list", conf.display()))?;
    let volumes: Vec<_> = full(&listed).iter().filter_map(|line| line.split(':').nth(1)).collect();
    ensure!(volumes == ["a", "b"], "{listed}");
    Ok(())
}

fn refused() -> Result<()> {
    let _machine = Machine::new()?;
    configure(&format!("{V1}Default Pool = \"Off/Site\"\n"))?;
    offsite("init")?;
    let before = fs::read_to_string("/etc/offsite/site.toml")?;
    let error = offsite(&format!("conf --import {CONF}")).err().context("it was imported")?.to_string();
    ensure!(error.contains("/etc/vchanger.conf can't be imported: the name \"Off/Site\""), "{error}");
    ensure!(!error.contains("site.toml:"), "a line of a file that nobody wrote: {error}");
    ensure!(fs::read_to_string("/etc/offsite/site.toml")? == before, "it was changed");
    Ok(())
}
