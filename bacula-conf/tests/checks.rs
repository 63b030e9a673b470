//! Each trap is sprung in a configuration that is otherwise right, and found there and nowhere else.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use bacula_conf::{
    Bacula, ChangerInput, Input, Layout, Password, Passwords, Period, Rotation, Severity, check,
    check_rotation, generate,
};

type Files = Vec<(PathBuf, String)>;

fn generated(bacula: &Bacula) -> Files {
    let password = |text: &str| Password::new(text).expect("a good password");
    let passwords = Passwords {
        director: password("secret-one"),
        storage: password("secret-two"),
        client: password("secret-three"),
        console: password("secret-four"),
    };
    let changer = ChangerInput::new(vec!["/mnt/offsite/one".into(), "/mnt/offsite/two".into()]);
    let source = Path::new("/etc/offsite/site.toml");
    let files =
        generate(&Input { source, bacula, passwords: &passwords, changer: &changer }).expect("generated");
    files.into_iter().map(|file| (file.path, file.text)).collect()
}

fn two_drives() -> Files {
    let mut bacula = Bacula::default();
    bacula.autochanger.drives = 2;
    generated(&bacula)
}

fn fixtures(directory: &str, installed: &str) -> Files {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(directory);
    let mut files: Files = std::fs::read_dir(directory)
        .expect("fixtures")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name");
            let place =
                if path.extension().is_some() { Path::new("/etc/bacula") } else { Path::new(installed) };
            (place.join(name), std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    files.sort();
    files
}

/// Replaces a text in a file; the text has to be there.
fn with(mut files: Files, file: &str, from: &str, to: &str) -> Files {
    let (_, text) = files.iter_mut().find(|(path, _)| path.ends_with(file)).expect("the file");
    assert!(text.contains(from), "{file} does not hold {from:?}");
    *text = text.replacen(from, to, 1);
    files
}

#[test]
fn what_is_generated_has_no_findings() {
    assert_eq!(check(&two_drives()), []);
    assert_eq!(check(&generated(&Bacula::default())), []);
    assert_eq!(check(&generated(&Bacula { layout: Layout::Include, ..Bacula::default() })), []);
    assert_eq!(check(&generated(&Bacula { layout: Layout::Bareos, ..Bacula::default() })), []);
}

#[test]
fn each_trap_is_found() {
    let (dir, sd, fd) = ("bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf");
    let traps: &[(&str, &str, &str, &[&str])] = &[
        (dir, "  Autochanger = yes\n", "", &["storage-autochanger"]),
        (dir, "Media Type = Offsite-File", "Media Type = File", &["media-type"]),
        (dir, "Device = eSATA-Changer", "Device = eSATA-1", &["storage-device"]),
        (dir, "\n  Maximum Concurrent Jobs = 2\n", "\n", &["concurrent-jobs"]),
        (dir, "secret-one", "other", &["password"]),
        (dir, "secret-two", "other", &["password"]),
        (dir, "secret-three", "other", &["password"]),
        (dir, "secret-four", "other", &["password"]),
        (dir, "Name = offsite\n", "Name = offside\n", &["unknown-console"]),
        (dir, "    RunsOnClient = no\n", "", &["runs-on-client"]),
        (dir, "  AutoPrune = no\n", "", &["placeholder-prune"]),
        (dir, "slots storage=c0 drive=0", "slots storage=c0", &["update-slots"]),
        (dir, "Priority = 8\n", "Priority = 10\n", &["admin-priority"]),
        (dir, "make_catalog_backup.pl MyCatalog", "true", &["catalog-backup", "mixed-priority"]),
        (dir, "Client = None", "Client = Nobody", &["unknown-name"]),
        (dir, "FileSet = BackupServer-files", "FileSet = BackupServer-file", &["unknown-name"]),
        (dir, "Volume Retention = 7 weeks", "Volume Retention = 2 m", &["month-for-minute"]),
        (dir, "  Maximum Volume Bytes = 10737418240\n", "", &["volume-size"]),
        (dir, "Run = Level=Full sun at 23:05\n", "Run = Level=Full sun at 23:05 }\n", &["run-brace"]),
        (
            dir,
            "Name = backup-fd\n  Address = 127.0.0.1",
            "Name = backup-fd\n  Address = far.example.org",
            &["loopback"],
        ),
        (dir, "Name = MyCatalog\n", "Name = MyCatalog; DB Socket = a-b c\n", &["ignored-words"]),
        (sd, "Drive Index = 1", "Drive Index = 0", &["archive-device", "drive-index"]),
        (sd, "  Autochanger = yes\n", "", &["device-autochanger"]),
        (sd, "Device Type = File", "Device Type = Tape", &["device-type"]),
        (sd, "Label Media = no", "Label Media = yes", &["label-media"]),
        (sd, "Poll Interval = 1 minute", "Poll Interval = 5", &["poll-interval"]),
        (
            sd,
            "Archive Device = /var/lib/offsite/c0/1",
            "Archive Device = /var/lib/offsite/c0/0",
            &["archive-device"],
        ),
        (sd, "%S %a %d", "%s %a %d", &["changer-command"]),
        (sd, "Device = eSATA-1, eSATA-2", "Device = eSATA-1, eSATA-3", &["unknown-name"]),
        (sd, "Name = eSATA-2", "Name = eSATA-1", &["duplicate-name", "unknown-name"]),
        (sd, "Name = backup-dir", "Name = backup-director", &["unknown-director"]),
        (fd, "Name = backup-dir", "Name = backup-director", &["unknown-director"]),
        (fd, "secret-three", "other", &["password"]),
        ("bconsole.conf", "secret-one", "other", &["password"]),
        ("bconsole-offsite.conf", "secret-four", "other", &["password"]),
        ("vchanger.conf", "\"c0\"", "\"c1\"", &["changer-storage"]),
        (sd, "}\n\nDevice", "\n\nDevice", &["syntax"]),
    ];
    for (file, from, to, expected) in traps {
        let files = with(two_drives(), file, from, to);
        let findings = check(&files);
        let found: Vec<_> = findings.iter().map(|finding| finding.check).collect();
        let shown: Vec<_> = findings.iter().map(ToString::to_string).collect();
        let (all_found, none_else) = (
            expected.iter().all(|check| found.contains(check)),
            found.iter().all(|check| expected.contains(check)),
        );
        assert!(!found.is_empty() && all_found && none_else, "{file}: {from:?} -> {to:?}: {shown:#?}");
        for finding in &findings {
            assert!(!finding.message.contains("secret") && !finding.remedy.is_empty(), "{finding}");
            let (_, text) = files.iter().find(|(path, _)| *path == finding.file).expect("the file");
            let rendered = finding.render(text);
            assert!(!rendered.contains("secret-") && rendered.contains("hint: "), "{rendered}");
        }
    }
}

#[test]
fn what_is_not_at_hand_is_not_called_missing() {
    for include in ["@/etc/bacula/clients.conf", "@|\"sh -c 'cat /etc/bacula/clients/*'\""] {
        let files = with(two_drives(), "bacula-dir.conf", "Catalog {", &format!("{include}\nCatalog {{"));
        let files = with(files, "bacula-dir.conf", "Client = backup-fd", "Client = web-fd");
        let findings = check(&files);
        assert_eq!(
            findings.iter().map(|finding| finding.check).collect::<Vec<_>>(),
            [if include.starts_with("@/") { "include" } else { "include-command" }],
            "{findings:?}"
        );
        let mut whole = files.clone();
        whole.push((
            "/etc/bacula/clients.conf".into(),
            "Client {\n  Name = web-fd\n  Address = 127.0.0.1\n  Password = x\n  Catalog = MyCatalog\n}\n"
                .into(),
        ));
        assert_eq!(check(&whole).is_empty(), include.starts_with("@/"));
    }
}

#[test]
fn files_below_another_root_are_checked_alike() {
    let below = |files: Files| -> Files {
        files
            .into_iter()
            .map(|(path, text)| (Path::new("/tmp/new").join(path.strip_prefix("/").expect("absolute")), text))
            .collect()
    };
    let files = with(two_drives(), "vchanger.conf", "\"c0\"", "\"c1\"");
    let found = |files: &Files| check(files).iter().map(|finding| finding.check).collect::<Vec<_>>();
    assert_eq!(found(&below(files)), ["changer-storage"]);
    let included = with(two_drives(), "bacula-dir.conf", "Catalog {", "@/etc/bacula/more.conf\nCatalog {");
    assert_eq!(found(&below(included.clone())), ["include"]);
    let whole = [
        included,
        vec![("/etc/bacula/more.conf".into(), "Pool {\n  Name = More\n  Pool Type = Backup\n}\n".into())],
    ]
    .concat();
    assert_eq!(check(&below(whole)), []);
}

#[test]
fn a_changer_command_of_128_bytes_is_too_long() {
    let long = format!("/{}", "x".repeat(128 - " %c %o %S %a %d".len() - 1));
    let files = with(two_drives(), "bacula-sd.conf", "/usr/bin/vchanger", &long);
    assert_eq!(check(&files).iter().map(|finding| finding.check).collect::<Vec<_>>(), ["too-long"]);
    let files = with(files, "bacula-sd.conf", "/x", "/");
    assert_eq!(check(&files), []);
}

#[test]
fn the_tutorials_configuration_lacks_what_its_readers_found_out() {
    let files = fixtures("tutorial", "/etc/bacula/include");
    let shown: Vec<_> = check(&files).iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn the_tutorials_retention_is_shorter_than_its_rotation() {
    let files = fixtures("tutorial", "/etc/bacula/include");
    let findings = check_rotation(&files, &Rotation::new(6, Period::weeks(1)));
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].severity, Severity::Error);
    let (_, text) = files.iter().find(|(path, _)| *path == findings[0].file).expect("the file");
    insta::assert_snapshot!(findings[0].render(text));
    assert_eq!(check_rotation(&files, &Rotation::new(3, Period::weeks(1))), []);
    let late = check_rotation(&files, &Rotation::new(4, Period::weeks(1)));
    assert_eq!(late.iter().map(|finding| finding.severity).collect::<Vec<_>>(), [Severity::Warning]);
}

#[test]
fn the_default_outlasts_six_drives_swapped_weekly() {
    assert_eq!(check_rotation(&two_drives(), &Rotation::new(6, Period::weeks(1))), []);
    assert_eq!(check_rotation(&two_drives(), &Rotation::new(7, Period::weeks(1))).len(), 1);
}

/// What the stock files of Ubuntu 24.04 (Bacula 13) and Debian 13 (Bacula 15), and their manuals, have more than 9.6.
#[test]
fn what_newer_versions_have_is_a_doubt_and_no_mistake() {
    for (program, kind, line) in [
        ("dir", "Director", "Malware Database Command = /x"),
        ("dir", "Director", "Customer Id = x"),
        ("dir", "Job", "Check Malware = yes"),
        ("dir", "Job", "Storage Group Policy Threshold = 10 gb"),
        ("dir", "Pool", "Storage Group Policy = LeastUsed"),
        ("dir", "Tenant", "Maximum Jobs = 10"),
        ("dir", "Messages", "Console = all, !skipped, !verified"),
        ("sd", "Storage", "Encryption Command = /x"),
        ("sd", "Device", "Set Volume Append Only = yes"),
        ("sd", "Device", "Set Volume Immutable = yes"),
        ("sd", "Device", "Set Volume Read Only = yes"),
        ("sd", "Device", "Minimum Volume Protection Time = 30 days"),
        ("sd", "Device", "Maximum Volume Parts = 3"),
        ("sd", "Device", "Volume Encryption = strong"),
        ("sd", "Cloud", "Storage Class = S3Standard"),
        ("fd", "FileDaemon", "Plugin Options = a, b"),
        ("fd", "Director", "Allowed Backup Directories = /a, /b"),
        ("fd", "Director", "Excluded Backup Directories = /a"),
        ("fd", "Director", "Allowed Script Directories = /a"),
        ("fd", "Director", "Allowed Restore Directories = /a"),
        ("fd", "Director", "Backup Job User = x"),
        ("fd", "Director", "Restore Job User = x"),
    ] {
        // What tells the program by itself, and is no concern here.
        let own = match program {
            "dir" => "Schedule {\n  Name = own\n}\n",
            "sd" => "Device {\n  Name = own\n  Media Type = F\n  Archive Device = /x\n}\n",
            _ => "FileDaemon {\n  Name = own\n  Working Directory = /x\n  Pid Directory = /x\n}\n",
        };
        let text = format!("{own}{kind} {{\n  Name = x\n  {line}\n}}\n");
        let line_number = text.lines().count() - 1;
        let findings = check(&[(format!("/etc/bacula/bacula-{program}.conf").into(), text)]);
        let there: Vec<_> = findings.iter().filter(|finding| finding.line == line_number).collect();
        assert_eq!(
            there.iter().map(|finding| finding.check).collect::<Vec<_>>(),
            ["other-version"],
            "{line}"
        );
        assert_eq!(there[0].severity, Severity::Warning, "{line}");
    }
}

#[test]
fn what_a_command_or_a_broken_file_would_define_is_not_missed() {
    let job = "Director {\n  Name = d\n}\nJob {\n  Name = j\n  JobDefs = elsewhere\n  Pool = elsewhere\n}\n";
    let checks = |more: &str, other: Option<&str>| {
        let mut files: Files = vec![("/etc/bacula/bacula-dir.conf".into(), format!("{job}{more}"))];
        files.extend(other.map(|text| ("/etc/bacula/more.conf".into(), text.to_owned())));
        let findings = check(&files);
        let of_job = findings.iter().filter(|finding| finding.line >= 4 && finding.line < 9);
        of_job.map(|finding| finding.check).collect::<Vec<_>>()
    };
    assert_eq!(checks("", None), ["missing-directive", "unknown-name", "unknown-name"]);
    assert_eq!(checks("@|\"cat /etc/bacula/jobs\"\n", None), [""; 0]);
    assert_eq!(checks("@/etc/bacula/more.conf\n", Some("JobDefs {\n")), [""; 0]);
}

/// A tape library beside the drives, as Bacula's manual describes one.
const LIBRARY: [(&str, &str); 2] = [
    (
        "bacula-sd.conf",
        "Autochanger {\n  Name = Library\n  Device = Tape-1, Tape-2\n  Changer Device = /dev/sg3\n  \
         Changer Command = \"/etc/bacula/scripts/mtx-changer %c %o %S %a %d\"\n}\n\
         Device {\n  Name = Tape-1\n  Drive Index = 0\n  Media Type = LTO-8\n  Archive Device = /dev/nst0\n  Autochanger = yes\n  \
         Label Media = yes\n  Always Open = yes\n  Maximum Changer Wait = 30\n  Spool Directory = /var/lib/bacula\n}\n\
         Device {\n  Name = Tape-2\n  Drive Index = 1\n  Media Type = LTO-8\n  Archive Device = /dev/nst1\n  Autochanger = yes\n}\n",
    ),
    (
        "bacula-dir.conf",
        "Storage {\n  Name = Tapes\n  Address = 127.0.0.1\n  Password = \"secret-two\"\n  Device = Library\n  Autochanger = yes\n  \
         Media Type = LTO-8\n  Maximum Concurrent Jobs = 2\n}\n\
         Pool {\n  Name = Tapes\n  Pool Type = Backup\n  Volume Retention = 10 days\n  Purge Oldest Volume = yes\n  Storage = Tapes\n}\n",
    ),
];

#[test]
fn a_tape_library_is_not_judged_as_drives_are() {
    let mut files = two_drives();
    for (file, text) in LIBRARY {
        let (_, whole) = files.iter_mut().find(|(path, _)| path.ends_with(file)).expect("the file");
        whole.push_str(text);
    }
    assert_eq!(check(&files), []);
    assert_eq!(check_rotation(&files, &Rotation::new(6, Period::weeks(1))), []);
    // What is wrong with any changer is found on it too.
    for (file, from, to, expected) in [
        (
            "bacula-sd.conf",
            "Drive Index = 1\n  Media Type = LTO-8",
            "Drive Index = 0\n  Media Type = LTO-8",
            "drive-index",
        ),
        ("bacula-dir.conf", "Media Type = LTO-8", "Media Type = LTO-7", "media-type"),
        (
            "bacula-dir.conf",
            "Device = Library\n  Autochanger = yes",
            "Device = Library",
            "storage-autochanger",
        ),
        ("bacula-dir.conf", "Device = Library", "Device = Tape-1", "storage-device"),
    ] {
        let findings = check(&with(files.clone(), file, from, to));
        assert!(findings.iter().any(|finding| finding.check == expected), "{expected}: {findings:?}");
    }
}
