//! Who may change what the programs make and read, whatever umask and planted links they meet.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use world::{World, shown, text};

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o7777
}

/// Everything below a directory.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in directory.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn an_open_umask_opens_nothing() {
    let world = World::new();
    let script = format!(
        "umask 000; exec {} --root {} init",
        env!("CARGO_BIN_EXE_offsite"),
        world.root.path().display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let made = below(world.root.path());
    assert!(made.len() > 5, "{made:?}");
    for path in made {
        assert_eq!(mode(&path) & 0o022, 0, "{}: {:04o}", path.display(), mode(&path));
    }
    assert_eq!(mode(&world.path("var/lib/offsite/headers")), 0o700);
    assert_eq!(mode(&world.path("etc/offsite/passwords.toml")), 0o600);
}

#[test]
fn header_backups_close_only_their_own_directory() {
    let world = World::new();
    let (key, other, file) = (world.path("key"), world.path("other"), world.path("container"));
    for key in [&key, &other] {
        assert!(world.offsite(&["key", "generate", shown(key)]).status.success());
    }
    fs::File::create(&file).unwrap().set_len(32 << 20).unwrap();
    let format = ["luks", "format", shown(&file), "--key-file", shown(&key), "--yes-destroy", shown(&file)];
    let output = world.offsite(&format);
    assert!(output.status.success(), "{}", text(&output));
    let change = ["luks", "change", shown(&file), "--key-file", shown(&key), "--new-key-file", shown(&other)];
    let output = world.offsite(&change);
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(mode(&world.path("var/lib/offsite/headers")), 0o700);
    for above in ["var", "var/lib", "var/lib/offsite"] {
        assert_eq!(mode(&world.path(above)), 0o755, "{above}: Bacula's work directory lies below it");
    }
}

#[test]
fn a_site_that_others_may_write_stops_every_command() {
    let world = World::initialised();
    fs::set_permissions(world.path("etc/offsite/site.toml"), Permissions::from_mode(0o666)).unwrap();
    world.fails(&["status"], 2, "can be written by others (mode 0666)", "chmod go-w");
    world.fails(&["conf"], 2, "can be written by others", "chmod go-w");
}

#[test]
fn a_configuration_that_others_may_write_is_not_imported() {
    let world = World::new();
    let config = world.path("vchanger.conf");
    fs::write(&config, "Storage Resource = c0\nWork Dir = /var/spool/vchanger/c0\nUser = root\n").unwrap();
    fs::set_permissions(&config, Permissions::from_mode(0o664)).unwrap();
    let import = ["conf", "--import", shown(&config)];
    world.fails(&import, 2, "can be written by others (mode 0664)", "chmod go-w");
    assert!(!world.path("etc/offsite/site.toml").exists());
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    let pipe = world.path("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    world.fails(&["conf", "--import", shown(&pipe)], 2, "not a regular file", "");
}

#[test]
fn a_mount_root_of_the_system_is_refused() {
    let world = World::initialised();
    for directory in ["/etc", "/usr", "/home", "/var/lib"] {
        fs::write(world.path("etc/offsite/site.toml"), format!("mount_root = \"{directory}\"\n")).unwrap();
        world.fails(&["status"], 2, "is a directory of the system", "such as /srv/offsite");
    }
}

#[test]
fn generated_files_follow_no_planted_link() {
    let world = World::initialised();
    let bacula = world.path("etc/bacula");
    fs::create_dir_all(&bacula).unwrap();
    fs::set_permissions(&bacula, Permissions::from_mode(0o777)).unwrap();
    fs::write(world.path("victim"), "as before").unwrap();
    symlink(world.path("victim"), bacula.join("bconsole-offsite.conf")).unwrap();
    let site = "[[bacula.jobs]]\nname = \"Backup\"\npaths = [\"/etc\"]\n";
    fs::write(world.path("etc/offsite/site.toml"), site).unwrap();
    world.fails(&["conf", "--replace"], 1, "symbolic link", "");
    assert_eq!(fs::read_to_string(world.path("victim")).unwrap(), "as before");
}
