use std::fs;

use crate::config::*;

const TUTORIAL: &str = r#"
changer_name = "c0"
work_dir = /var/lib/bacula/vchanger/c0
logfile = /var/lib/bacula/vchanger/c0.log
log_level = LOG_ERR
Virtual_Drives = 1
slots_per_magazine = 69
magazine_bays = 1
automount_dir = /mnt/eSATA-1_Backups

magazine = "UUID:6c5b725d-50c4-4605-b750-4f23575b9b5f"
magazine = "UUID:e6ffe50b-bbe7-854f-fea8-766ae1265eba"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("vchanger.conf"), text)
}

fn message(text: &str) -> String {
    parse(text).expect_err("is refused").to_string()
}

#[test]
fn the_tutorials_file_is_understood() {
    let config = parse(TUTORIAL).expect("parses");
    assert_eq!(config.generation(), Generation::V08);
    assert_eq!(config.storage(), "c0");
    assert_eq!(config.work_dir(), Path::new("/var/lib/bacula/vchanger/c0"));
    let layout = BayLayout { bays: 1, slots_per_magazine: 69, virtual_drives: 1 };
    assert_eq!(config.layout(), Some(layout));
    assert_eq!(config.magazines().len(), 2);
    assert_eq!(
        config.settings()[0].directory.as_deref(),
        Some(Path::new("/mnt/eSATA-1_Backups/6c5b725d-50c4-4605-b750-4f23575b9b5f"))
    );
    assert_eq!(config.console(), None);
    assert_eq!(config.log_level, 3);
}

#[test]
fn a_file_of_today_is_understood() {
    let config = parse(
        "STORAGE resource = c0\nWork Dir = /w\nLog Level = 7\nbconsole = \"\"\ndefault pool = Off Site\n\
         Magazine = uuid:ABC-1\nMagazine = /mnt/m2/\nMagazine =\nMagazine = /mnt/m2\nuser=me\n",
    )
    .expect("parses");
    assert_eq!(config.generation(), Generation::V1);
    assert_eq!((config.storage(), config.pool(), config.user()), ("c0", "Off Site", Some("me")));
    assert_eq!(config.console(), None);
    let ids: Vec<_> = config.magazines().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["UUID:abc-1", "/mnt/m2"]);
    assert_eq!(config.logfile, Some((PathBuf::from("/var/log/vchanger/c0.log"), false)));
}

#[test]
fn defaults_are_the_peers() {
    let config = parse("Magazine = /m\n").expect("parses");
    assert_eq!(config.storage(), "vchanger");
    assert_eq!(config.work_dir(), Path::new("/var/spool/vchanger/vchanger"));
    assert_eq!(
        (config.user(), config.user.name.as_str(), config.group.name.as_str(), config.pool()),
        (None, "bacula", "tape", "Scratch")
    );
    assert_eq!(config.console().map(|c| c.program.as_path()), Some(Path::new("/usr/sbin/bconsole")));
}

#[test]
fn errors_say_where_and_what_would_be_right() {
    let expected = [
        ("Magazine = /m\nMagzine = /n\n", r#"2:1: unknown key "Magzine"; did you mean "Magazine"?"#),
        (
            "Work Dir = /w\nlog_level = 3\nMagazine = /m",
            r#"2:1: "log_level" belongs to vchanger 0.8, but this file is of 1.0; write "Log Level""#,
        ),
        (
            "changer_name = c0\nbconsole = /x\nmagazine = /m",
            r#"2:1: "bconsole" belongs to vchanger 1.0, but this file is of 0.8"#,
        ),
        ("Magazine = \"\"\n", r#"1:12: "Magazine" must not be empty"#),
        (
            "Storage Resource = 'c\"0'\nMagazine = /m",
            r#"1:20: "Storage Resource" must be a name Bacula allows (at most 127 letters, digits, blanks and : . - _ /), not "c\"0""#,
        ),
        (
            "changer_name = c\nmagazine_bays = 33\nmagazine = /m",
            r#"2:17: "magazine_bays" must be a number from 1 to 32, not "33""#,
        ),
        (
            "changer_name = c\nvirtual_drives = 12\nmagazine = /m",
            r#" "virtual_drives" must be at most the number of slots, 10, not "12""#,
        ),
        (
            "Magazine = mnt\n",
            r#"1:12: "Magazine" must be an absolute path without control characters, not "mnt""#,
        ),
        (
            "Magazine = UUID:../x\n",
            r#"1:12: "Magazine" must be 'UUID:' and a file system's UUID (see blkid), not "UUID:../x""#,
        ),
        ("[main]\n", "1:1: sections in brackets are not known here; remove the line"),
        ("\nWork Dir = '/w\n", "2:12: this quote is not closed on its line"),
    ];
    for (text, expected) in expected {
        assert_eq!(message(text), format!("vchanger.conf:{expected}"));
    }
    assert!(message("Storage Resource = c0\n").contains("no magazine is configured"));
}

/// One bad line must not keep the volumes of all other magazines from the jobs.
#[test]
fn a_line_that_a_job_can_do_without_is_left_out() {
    let config = parse(
        "Magazine = /m\nMagazine = UUID=ABC-1\nMagazine = UUID:../x\nMagazine = UUID:ABC-2\nLog Level = loud\n\
         bconsole = bin/bconsole\nbconsole config = bconsole.conf\n",
    )
    .expect("parses");
    let ids: Vec<String> = config.magazines().iter().map(ToString::to_string).collect();
    assert_eq!(ids, ["/m", "invalid: UUID=ABC-1", "invalid: UUID:../x", "UUID:abc-2"]);
    assert!(config.magazines().iter().all(|m| m.id().uuid().is_none_or(|uuid| uuid == "abc-2")));
    assert_eq!(config.settings()[1].directory, None);
    assert_eq!(config.log_level, 3);
    let console = config.console().expect("the default one");
    assert_eq!((console.program.as_path(), console.explicit), (Path::new("/usr/sbin/bconsole"), false));
    assert_eq!(console.config, None);
    let left_out: Vec<String> =
        config.ignored().iter().map(|line| format!("{}: {}", line.position, line.problem)).collect();
    assert_eq!(
        left_out,
        [
            r#"2:12: "Magazine" must be 'UUID:' and a file system's UUID (see blkid), not "UUID=ABC-1""#,
            r#"3:12: "Magazine" must be 'UUID:' and a file system's UUID (see blkid), not "UUID:../x""#,
            r#"5:13: "Log Level" must be a number from 0 to 7 or a name such as LOG_ERR, not "loud""#,
            r#"6:12: "bconsole" must be an absolute path without control characters, not "bin/bconsole""#,
            r#"7:19: "bconsole config" must be an absolute path without control characters, not "bconsole.conf""#,
        ]
    );
}

#[test]
fn a_file_without_an_end_is_refused() {
    let error = Config::load(Path::new("/"), Path::new("/dev/zero")).expect_err("is refused");
    let ConfigError::Unreadable { source, .. } = error else { unreachable!("{error}") };
    assert!(source.to_string().contains("more than"), "{source}");
}

#[test]
fn a_program_may_be_named_without_its_directory() {
    let config = parse("Magazine = /m\nbconsole = bconsole\n").expect("parses");
    let expected = ConsoleSetting { program: "bconsole".into(), config: None, explicit: true };
    assert_eq!(config.console(), Some(&expected));
    assert_eq!(config.ignored(), []);
}

#[test]
fn text_that_is_not_utf8_is_refused_with_its_place() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("c.conf");
    fs::write(&path, b"Magazine = /m\nUser = \xff\n").expect("writes");
    let error = Config::load(Path::new("/"), &path).expect_err("is refused").to_string();
    assert!(error.ends_with("c.conf:2:8: the file is not UTF-8 text"), "{error}");
}

/// Files of those days were often in Latin-1, as umlauts in their comments show.
#[test]
fn only_a_value_has_to_be_utf8() {
    let directory = tempfile::tempdir().expect("a directory");
    let load = |bytes: &[u8]| {
        fs::write(directory.path().join("vchanger.conf"), bytes).expect("is written");
        Config::load(directory.path(), Path::new("/vchanger.conf"))
    };
    let config = load(b"# B\xfcro, 2. Stock\nMagazine = /m # gr\xfcn\n").expect("a comment is no matter");
    assert_eq!(config.magazines().len(), 1);
    let error = load(b"# fine\nMagazine = /m\nMagazine = /B\xfcro\n").expect_err("which path would that be?");
    let ConfigError::Invalid { position, problem: ConfigProblem::NotUtf8, .. } = error else {
        unreachable!("{error}")
    };
    assert_eq!((position.line, position.column), (3, 12));
}
