//! Each trap that people fell into, by name: its check fires on it, and nothing fires on what is generated.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use bacula_conf::{
    Account, Bacula, ChangerInput, Entry, Host, Input, Mount, Password, Passwords, Period, Program, Rotation,
    check, check_machine, check_rotation, generate,
};

type Files = Vec<(PathBuf, String)>;

fn generated() -> Files {
    let mut bacula = Bacula::default();
    bacula.autochanger.drives = 2;
    bacula.jobs.push(bacula_conf::BackupJob {
        name: "Second".parse().expect("a name"),
        ..bacula_conf::BackupJob::default()
    });
    let password = |text: &str| Password::new(text).expect("a good password");
    let passwords = Passwords {
        director: password("secret-one"),
        storage: password("secret-two"),
        client: password("secret-three"),
        console: password("secret-four"),
    };
    let changer = ChangerInput::new(vec!["/mnt/offsite/one".into(), "/mnt/offsite/two".into()]);
    let source = Path::new("/etc/offsite/site.toml");
    let input = Input { source, bacula: &bacula, passwords: &passwords, changer: &changer };
    generate(&input).expect("generated").into_iter().map(|file| (file.path, file.text)).collect()
}

/// The generated files with every occurrence of a text replaced in one of them; the text has to be there.
fn spoiled(file: &str, from: &str, to: &str) -> Files {
    let mut files = generated();
    let (_, text) = files.iter_mut().find(|(path, _)| path.ends_with(file)).expect("the file");
    assert!(text.contains(from), "{file} does not hold {from:?}");
    *text = text.replace(from, to);
    files
}

/// What goes wrong, in which file it is done, from what to what, and the check that finds it.
type Trap = (&'static str, &'static str, &'static str, &'static str, &'static str);

const DIR: &str = "bacula-dir.conf";
const SD: &str = "bacula-sd.conf";
const CHANGER: &str = "vchanger.conf";

#[rustfmt::skip]
const TRAPS: &[Trap] = &[
    ("-t does not notice: Autochanger = yes missing in the Director", DIR, "  Autochanger = yes\n", "", "storage-autochanger"),
    ("-t does not notice: Autochanger = yes missing in a drive", SD, "  Autochanger = yes\n", "", "device-autochanger"),
    ("-t does not notice: Media Type differs", DIR, "Media Type = Offsite-File", "Media Type = File", "media-type"),
    ("-t does not notice: one Drive Index twice", SD, "Drive Index = 1", "Drive Index = 0", "drive-index"),
    ("-t does not notice: another console password", DIR, "secret-one", "x", "password"),
    ("-t does not notice: another storage password", DIR, "secret-two", "x", "password"),
    ("-t does not notice: another client password", DIR, "secret-three", "x", "password"),
    ("-t does not notice: another password of the named console", DIR, "secret-four", "x", "password"),
    ("Device names a drive in place of the autochanger", DIR, "Device = eSATA-Changer", "Device = eSATA-1", "storage-device"),
    ("128 characters in Changer Device", SD, "/etc/offsite/vchanger.conf", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "too-long"),
    ("None is no keyword: the client is missing", DIR, "Client {\n  Name = None", "Client {\n  Name = Nobody", "unknown-name"),
    ("None is no keyword: the set of files is missing", DIR, "FileSet {\n  Name = None", "FileSet {\n  Name = Nothing", "unknown-name"),
    ("the pool of the Admin job is missing", DIR, "Pool = Offsite-eSATA\n  Messages = Standard\n  Schedule = WeeklyToOffsiteDisk\n  Priority = 8", "Pool = Default\n  Messages = Standard\n  Schedule = WeeklyToOffsiteDisk\n  Priority = 8", "unknown-name"),
    ("a required directive is missing", DIR, "  Pool Type = Backup\n", "", "missing-directive"),
    ("Run = swallows a brace", DIR, "sat at 23:05\n", "sat at 23:05 }\n", "run-brace"),
    ("Maximum Concurrent Jobs = 1 with two drives", DIR, "Media Type = Offsite-File\n  Maximum Concurrent Jobs = 2", "Media Type = Offsite-File\n  Maximum Concurrent Jobs = 1", "concurrent-jobs"),
    ("the default, one job at a time, with two drives", DIR, "Media Type = Offsite-File\n  Maximum Concurrent Jobs = 2", "Media Type = Offsite-File", "concurrent-jobs"),
    ("jobs wait for the mounted volume, the second drive idles", DIR, "  Prefer Mounted Volumes = no\n", "", "prefer-mounted"),
    ("different priorities do not overlap", DIR, "Priority = 10\n  Allow Duplicate Jobs = no\n  Accurate = yes\n  Write Bootstrap = /var/lib/bacula/Second.bsr", "Priority = 12\n  Allow Duplicate Jobs = no\n  Accurate = yes\n  Write Bootstrap = /var/lib/bacula/Second.bsr", "mixed-priority"),
    ("clients can't reach a storage at a loopback address", DIR, "Name = backup-fd\n  Address = 127.0.0.1", "Name = backup-fd\n  Address = far.example.org", "loopback"),
    ("RunsOnClient is yes by default: the script is never run", DIR, "    RunsOnClient = no\n", "", "runs-on-client"),
    ("Fail Job On Error = no hides a failed script", DIR, "Console = \"update slots storage=c0 drive=0\"", "Command = \"/bin/false\"", "script-failure"),
    ("Console = mount is not allowed in a job", DIR, "update slots storage=c0 drive=0", "mount storage=c0 slot=1", "console-command"),
    ("purge forgets jobs, and SQLite gives their numbers away again", DIR, "update slots storage=c0 drive=0", "purge volume=c0_A_0001", "purge-command"),
    ("update slots asks for a drive, and nobody answers", DIR, " drive=0", "", "update-slots"),
    ("the Admin job prunes its placeholder", DIR, "  AutoPrune = no\n", "", "placeholder-prune"),
    ("the Admin job runs after the backups", DIR, "Priority = 8\n", "Priority = 20\n", "admin-priority"),
    ("a bare file name behind -c is looked up in /etc/bacula", DIR, "Console = \"update slots storage=c0 drive=0\"", "Command = \"bconsole -n -c bconsole.conf\"", "console-file"),
    ("a waiting job polls every five minutes", SD, "  Volume Poll Interval = 1 minute\n", "", "poll-interval"),
    ("less than a minute is silently a minute", SD, "Volume Poll Interval = 1 minute", "Volume Poll Interval = 5", "poll-interval"),
    ("m is months", DIR, "Volume Retention = 7 weeks", "Volume Retention = 7 m", "month-for-minute"),
    ("a volume without a limit fills its drive", DIR, "  Maximum Volume Bytes = 10737418240\n", "", "volume-size"),
    ("Label Media = yes labels behind the changer's back", SD, "Label Media = no", "Label Media = yes", "label-media"),
    ("without Device Type = File the daemon looks for the volume when it starts", SD, "  Device Type = File\n", "", "device-type"),
    ("a drive that waits for mount", SD, "Automatic Mount = yes", "Automatic Mount = no", "automatic-mount"),
    ("the changer is ended before its drive is unlocked", SD, "Maximum Changer Wait = 5 minutes", "Maximum Changer Wait = 10", "changer-wait"),
    ("the changer command lacks its codes", SD, "%c %o %S %a %d", "%c %o", "changer-command"),
    ("the oldest volume is purged whatever its retention says", DIR, "  AutoPrune = yes\n  Volume Retention", "  Purge Oldest Volume = yes\n  Volume Retention", "purge-oldest"),
    ("the catalog is not backed up", DIR, "make_catalog_backup.pl MyCatalog", "true", "catalog-backup"),
    ("the catalog's backup has no bootstrap file", DIR, "  Write Bootstrap = /var/lib/bacula/BackupCatalog.bsr\n", "", "catalog-bootstrap"),
    ("the storage daemon knows another Director", SD, "Director {\n  Name = backup-dir", "Director {\n  Name = other-dir", "unknown-director"),
    ("the changer updates another storage", CHANGER, "\"c0\"", "\"c1\"", "changer-storage"),
    ("the changer's console may not update", DIR, "CommandACL = update, ", "CommandACL = ", "console-acl"),
    ("an empty changer tells nobody: the catalog believes in volumes that left", CHANGER, "bconsole = \"/usr/sbin/bconsole\"", "bconsole = \"\"", "changer-silent"),
    ("a magazine that is found by UUID costs a walk through /sys for each question", CHANGER, "\"/mnt/offsite/one\"", "\"UUID:6c5b725d-50c4-4605-b750-4f23575b9b5f\"", "uuid-magazine"),
    ("vchanger 0.8 puts the volume elsewhere", CHANGER, "Storage Resource = \"c0\"", "changer_name = \"c0\"", "archive-device"),
    ("vchanger 0.8 has fewer drives than Bacula", CHANGER, "Storage Resource = \"c0\"", "changer_name = \"c0\"\nvirtual_drives = 1", "virtual-drives"),
    ("a misspelt directive", DIR, "Pool Type = Backup", "Pool Tpye = Backup", "unknown-directive"),
    ("a size in quotes is refused", DIR, "Maximum Volume Bytes = 10737418240", "Maximum Volume Bytes = \"10 gb\"", "bad-value"),
    ("on is neither yes nor no", SD, "Random Access = yes", "Random Access = on", "bad-value"),
    ("a directive set twice: the last one counts", SD, "Random Access = yes", "Random Access = yes\n  Random Access = no", "set-twice"),
    ("a shell expands paths when the daemon starts", SD, "Working Directory = /var/lib/bacula", "Working Directory = \"/var/lib/$(id)\"", "shell-path"),
    ("Bareos does not know Sync On Close, nor Bacula Maximum Open Volumes", SD, "Random Access = yes", "Maximum Open Volumes = 1", "other-version"),
    ("a second word is skipped", DIR, "Name = MyCatalog\n", "Name = MyCatalog; DB Socket = a-b c\n", "ignored-words"),
    ("a schedule without a time runs every hour", DIR, "mon-sat at 23:05\n", "mon-sat\n", "run-hourly"),
    ("an unquoted # cuts a password", SD, "Password = \"secret-two\"", "Password = secret-two#more", "cut-at-comment"),
    ("a unit behind a tab is not read", DIR, "Volume Retention = 7 weeks", "Volume Retention = 7\tweeks", "ignored-words"),
    ("what follows a comma is not read", DIR, "Volume Retention = 7 weeks", "Volume Retention = 7 weeks, 1 day", "ignored-words"),
    ("a brace behind a size is read over", DIR, "Maximum Volume Bytes = 10737418240\n}", "Maximum Volume Bytes = 10g }", "swallowed-brace"),
    ("an access list reads over a brace", DIR, "WhereACL = \"*all*\"\n}", "WhereACL = \"*all*\" }", "bad-value"),
    ("a name with an umlaut is refused", DIR, "Name = WeeklyToOffsiteDisk", "Name = Büro", "bad-value"),
    ("a name of digits is refused", DIR, "Name = WeeklyToOffsiteDisk", "Name = 2019", "bad-value"),
    ("a directive takes no brace", DIR, "  Schedule = WeeklyToOffsiteDisk\n", "  Schedule = {\n  }\n", "bad-value"),
    ("a line of a schedule names a pool that there isn't", DIR, "Run = ", "Run = Pool=Weekly ", "unknown-name"),
    ("two Directors", DIR, "Catalog {", "Director {\n  Name = other\n}\nCatalog {", "second-daemon"),
    ("a storage daemon without Messages", SD, "Messages {\n  Name = Standard\n  Director = \"backup-dir\" = all\n}\n", "", "missing-resource"),
    ("encryption without certificates", SD, "Random Access = yes", "Random Access = yes\n}\nDirector {\n  Name = x\n  Password = y\n  TLS Enable = yes", "certificates"),
    ("a kind of message that only newer versions have", SD, "= all\n", "= all, !verified\n", "other-version"),
    ("a directive that only newer versions have", SD, "Random Access = yes", "Volume Encryption = yes", "other-version"),
    ("jobs in the pool of spare volumes", DIR, "Pool = Offsite-eSATA\n", "Pool = Scratch\n", "scratch-pool"),
    ("the new run of a job that failed is cancelled as a duplicate of the failed one", DIR, "  Cancel Queued Duplicates = yes\n", "", "repeat-cancelled"),
    ("a job that a pull broke waits for its next turn", DIR, "  Reschedule On Error = yes\n", "", "not-repeated"),
    ("a limit cancels the job that waits for its drive", DIR, "  Accurate = yes\n", "  Accurate = yes\n  Max Wait Time = 8 hours\n", "waiting-cancelled"),
    ("a resource that is there twice", SD, "Name = eSATA-2\n", "Name = eSATA-1\n", "duplicate-name"),
];

#[test]
fn every_trap_has_a_check_that_fires() {
    assert_eq!(check(&generated()), []);
    for (trap, file, from, to, expected) in TRAPS {
        let files = spoiled(file, from, to);
        let findings = check(&files);
        let found = findings.iter().find(|finding| finding.check == *expected);
        let found = found.unwrap_or_else(|| panic_with(trap, expected, &findings));
        let (_, text) = files.iter().find(|(path, _)| *path == found.file).expect("the file");
        let shown = found.render(text);
        assert!(shown.contains("\nhint: ") && shown.contains('^') && found.line > 0, "{trap}: {shown}");
        assert!(!shown.contains("secret-"), "{trap}: {shown}");
    }
}

#[expect(clippy::panic, reason = "a test fails by panicking")]
fn panic_with(trap: &str, expected: &str, findings: &[bacula_conf::Finding]) -> ! {
    let shown: Vec<_> = findings.iter().map(ToString::to_string).collect();
    panic!("{trap}: no {expected} in {shown:#?}")
}

#[test]
fn what_empties_the_safe_is_shown_with_its_arithmetic() {
    let rotation = Rotation::new(6, Period::weeks(1));
    assert_eq!(check_rotation(&generated(), &rotation), []);
    for (from, to, expected) in [
        ("Volume Retention = 7 weeks", "Volume Retention = 4 weeks", "retention"),
        ("Job Retention = 26 weeks", "Job Retention = 4 weeks", "job-retention"),
    ] {
        let findings = check_rotation(&spoiled(DIR, from, to), &rotation);
        assert_eq!(findings.iter().map(|finding| finding.check).collect::<Vec<_>>(), [expected]);
        assert!(
            findings[0].message.contains("6 drives swapped every 1 week make a cycle of 6 weeks"),
            "{findings:?}"
        );
    }
}

/// A machine on which all is well, but for what a test changes.
#[derive(Default)]
struct Fake {
    /// Paths that are not there.
    missing: Vec<&'static str>,
    /// Paths with other permission bits; they belong to root.
    modes: Vec<(&'static str, u32)>,
    texts: Vec<(&'static str, &'static str)>,
    mounts: Vec<(&'static str, &'static str, u64)>,
    volumes: u32,
}

impl Host for Fake {
    fn entry(&self, path: &Path) -> Option<Entry> {
        if self.missing.iter().any(|missing| path == Path::new(missing)) {
            return None;
        }
        let mode = self.modes.iter().find(|(other, _)| path == Path::new(other));
        Some(match mode {
            Some((_, mode)) => Entry { directory: true, mode: *mode, uid: 0, gid: 0 },
            None => Entry { directory: true, mode: 0o755, uid: 100, gid: 100 },
        })
    }

    fn account(&self, _: Program) -> Option<Account> {
        Some(Account { user: "bacula".into(), uid: 100, gids: vec![26, 100] })
    }

    fn text(&self, path: &Path) -> Option<String> {
        self.texts.iter().find(|(other, _)| path == Path::new(other)).map(|(_, text)| (*text).to_owned())
    }

    fn list(&self, directory: &Path) -> Vec<PathBuf> {
        self.texts
            .iter()
            .map(|(path, _)| PathBuf::from(path))
            .filter(|path| path.parent() == Some(directory))
            .collect()
    }

    fn mount(&self, path: &Path) -> Option<Mount> {
        let found = self.mounts.iter().find(|(other, _, _)| path == Path::new(other))?;
        Some(Mount { fs_type: found.1.into(), bytes: 1 << 40, reserved: found.2 })
    }

    fn volumes(&self, _: &Path) -> Option<u32> {
        (self.volumes > 0).then_some(self.volumes)
    }
}

/// A sound machine: the magazines are below autofs.
fn sound() -> Fake {
    Fake { mounts: vec![("/mnt/offsite", "autofs", 0)], ..Fake::default() }
}

const UNIT: &str = "/lib/systemd/system/bacula-sd.service";
const PROFILE: &str = "/etc/apparmor.d/usr.sbin.bacula-sd";

#[test]
fn a_sound_machine_has_no_findings() {
    assert_eq!(check_machine(&generated(), &sound()), []);
    // As Debian's unit is, and hardened in ways that leave the changer its work.
    let unit = "[Unit]\nDescription=x\n[Service]\nType=exec\nUser=bacula\nGroup=tape\nSupplementaryGroups=bacula\n\
                ProtectSystem=strict\nReadWritePaths=/var/lib /var/log/offsite /mnt\nNoNewPrivileges=yes\nProtectHome=yes\n\
                RestrictAddressFamilies=AF_INET AF_UNIX\nLimitFSIZE=infinity\nMountFlags=slave\n";
    let profile = "/usr/sbin/bacula-sd {\n  /etc/** r,\n  /usr/** rUx,\n  /var/lib/** rwk,\n  /var/log/** rw,\n  /mnt/** rwk,\n}\n";
    let hardened = Fake { texts: vec![(UNIT, unit), (PROFILE, profile)], ..sound() };
    assert_eq!(check_machine(&generated(), &hardened), []);
}

#[test]
fn each_trap_of_the_machine_is_found() {
    let service = |line: &'static str| Fake { texts: vec![(UNIT, line)], ..sound() };
    let traps: Vec<(&str, Fake, &str)> = vec![
        (
            "-t does not notice: the changer is missing",
            Fake { missing: vec!["/usr/bin/vchanger"], ..sound() },
            "missing-path",
        ),
        (
            "root's -t does not notice: the Director can't read its configuration",
            Fake { modes: vec![("/etc/bacula/bacula-dir.conf", 0o600)], ..sound() },
            "rights",
        ),
        (
            "root's -t does not notice: the storage daemon can't pass the directory",
            Fake { modes: vec![("/etc/bacula", 0o750)], ..sound() },
            "rights",
        ),
        (
            "-t does not notice: changer.conf is missing",
            Fake { missing: vec!["/etc/offsite/vchanger.conf"], ..sound() },
            "missing-path",
        ),
        (
            "-t does not notice: the archive device's directory is missing",
            Fake { missing: vec!["/var/lib/offsite/c0"], ..sound() },
            "missing-path",
        ),
        (
            "-t fails where the database is not there yet",
            Fake { missing: vec!["/var/lib/bacula/bacula.db"], ..sound() },
            "catalog-missing",
        ),
        (
            "mkfs leaves the magazine to root",
            Fake {
                mounts: vec![("/mnt/offsite/one", "ext4", 0), ("/mnt/offsite/two", "ext4", 0)],
                modes: vec![("/mnt/offsite/one", 0o755)],
                ..sound()
            },
            "rights",
        ),
        (
            "the work directory belongs to root",
            Fake { modes: vec![("/var/lib/offsite/c0", 0o755)], ..sound() },
            "rights",
        ),
        (
            "bconsole-offsite.conf can't be read by the changer",
            Fake { modes: vec![("/etc/bacula/bconsole-offsite.conf", 0o600)], ..sound() },
            "rights",
        ),
        (
            "a directory on the way can't be passed",
            Fake { modes: vec![("/etc/offsite", 0o700)], ..sound() },
            "rights",
        ),
        (
            "tune2fs -m 0 was forgotten",
            Fake {
                mounts: vec![("/mnt/offsite/one", "ext4", 5 << 30), ("/mnt/offsite/two", "ext4", 0)],
                ..sound()
            },
            "reserved-blocks",
        ),
        ("a bare mount point counts as a magazine", Fake::default(), "magazine-unmounted"),
        (
            "more volumes than the drive holds",
            Fake {
                mounts: vec![("/mnt/offsite/one", "ext4", 0), ("/mnt/offsite/two", "ext4", 0)],
                volumes: 200,
                ..sound()
            },
            "drive-capacity",
        ),
        ("ProtectSystem=strict", service("[Service]\nProtectSystem=strict\n"), "unit"),
        ("ReadOnlyPaths", service("[Service]\nReadOnlyPaths=/var\n"), "unit"),
        ("InaccessiblePaths", service("[Service]\nInaccessiblePaths=-/etc/offsite\n"), "unit"),
        ("PrivateDevices", service("[Service]\nPrivateDevices=yes\n"), "unit"),
        ("PrivateMounts", service("[Service]\nPrivateMounts=yes\n"), "unit"),
        ("MountFlags=private", service("[Service]\nMountFlags=private\n"), "unit"),
        ("DynamicUser", service("[Service]\nDynamicUser=yes\n"), "unit"),
        ("no way to the Director", service("[Service]\nRestrictAddressFamilies=AF_UNIX\n"), "unit"),
        ("files may not be as large as a volume", service("[Service]\nLimitFSIZE=1G\n"), "unit"),
        ("another root", service("[Service]\nRootDirectory=/srv/jail\n"), "unit"),
        ("programs may not be run", service("[Service]\nNoExecPaths=/\nExecPaths=/usr/sbin\n"), "unit"),
        (
            "AppArmor knows no changer",
            Fake {
                texts: vec![(PROFILE, "/usr/sbin/bacula-sd {\n  /etc/** r,\n  /var/** rwk,\n}\n")],
                ..sound()
            },
            "apparmor",
        ),
    ];
    for (trap, host, expected) in traps {
        let findings = check_machine(&generated(), &host);
        let checks: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        assert!(!checks.is_empty() && checks.iter().all(|check| *check == expected), "{trap}: {findings:#?}");
        assert!(
            findings.iter().all(|finding| !finding.remedy.is_empty() && finding.line > 0),
            "{trap}: {findings:?}"
        );
    }
}

/// A tape library's robot and drives are devices, of a machine that may be off.
#[test]
fn a_tape_library_needs_nothing_of_a_changer_of_drives() {
    let mut files = generated();
    let (_, text) = files.iter_mut().find(|(path, _)| path.ends_with(SD)).expect("the file");
    text.push_str(
        "Autochanger {\n  Name = Library\n  Device = Tape-1\n  Changer Device = /dev/sg3\n  \
         Changer Command = \"/etc/bacula/scripts/mtx-changer %c %o %S %a %d\"\n}\n\
         Device {\n  Name = Tape-1\n  Media Type = LTO-8\n  Archive Device = /dev/nst0\n  Autochanger = yes\n}\n",
    );
    let host = Fake {
        missing: vec!["/dev/sg3", "/dev/nst0", "/etc/bacula/scripts/mtx-changer"],
        modes: vec![("/dev", 0o755)],
        ..sound()
    };
    assert_eq!(check_machine(&files, &host), []);
}

#[test]
fn a_later_word_takes_an_earlier_one_back() {
    let drop_in = "/etc/systemd/system/bacula-sd.service.d/10-own.conf";
    let host = Fake {
        texts: vec![
            (UNIT, "[Service]\nPrivateDevices=yes\nReadOnlyPaths=/var\n"),
            (drop_in, "[Service]\nPrivateDevices=no\nReadOnlyPaths=\n"),
        ],
        ..sound()
    };
    assert_eq!(check_machine(&generated(), &host), []);
    // A changer that becomes another user needs what NoNewPrivileges takes away.
    let files = spoiled(
        SD,
        "Changer Command = \"/usr/bin/vchanger",
        "Changer Command = \"/usr/bin/sudo /usr/bin/vchanger",
    );
    let host = Fake { texts: vec![(UNIT, "[Service]\nNoNewPrivileges=yes\n")], ..sound() };
    let checks: Vec<_> = check_machine(&files, &host).iter().map(|finding| finding.check).collect();
    assert_eq!(checks, ["unit"]);
}

#[test]
fn volumes_need_slots_and_a_pool_that_takes_them() {
    let host = Fake { volumes: 70, mounts: vec![("/mnt/offsite", "autofs", 0)], ..Fake::default() };
    let checks =
        |files: &Files| check_machine(files, &host).iter().map(|finding| finding.check).collect::<Vec<_>>();
    let pool = spoiled(
        DIR,
        "  Volume Retention = 7 weeks\n",
        "  Volume Retention = 7 weeks\n  Maximum Volumes = 100\n",
    );
    assert_eq!(checks(&pool), ["pool-capacity"]);
    let other = spoiled(
        DIR,
        "Pool {\n",
        "Pool {\n  Name = File\n  Pool Type = Backup\n  Maximum Volume Bytes = 50 GB\n  Maximum Volumes = 100\n}\nPool {\n",
    );
    assert!(!checks(&other).contains(&"pool-capacity"), "a pool of another storage takes what it likes");
    let slots =
        spoiled(CHANGER, "Storage Resource = \"c0\"", "changer_name = \"c0\"\nslots_per_magazine = 69");
    assert_eq!(checks(&slots), ["slots", "slots"]);
}
