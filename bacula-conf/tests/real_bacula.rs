//! Bacula's own programs judge the generated files: `-t` of the daemons and of the console has to accept them, and
//! the programs that print a configuration as JSON have to read the same values as this crate.
//!
//! A test whose programs are not installed is listed as ignored, with the program that is missing.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bacula_conf::{
    Bacula, Block, ChangerInput, Document, Input, KnownDirective, Layout, Password, Passwords, Period,
    Program, Size, WordKind, adopt_names, existing_passwords, generate, include_lines, known_directives,
};
use libtest_mimic::{Arguments, Failed, Trial};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value as Json;
use tempfile::TempDir;

/// Where the packages install their files.
const STOCK: &str = "/etc/bacula";

const TABLES: &str = "/usr/share/bacula-director/make_sqlite3_tables";

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        trial("complete_is_accepted", &["bacula-dir", "bacula-sd", "bacula-fd", "bconsole"], || {
            accepted(&Bacula::default())
        }),
        trial(
            "complete_with_everything_is_accepted",
            &["bacula-dir", "bacula-sd", "bacula-fd", "bconsole"],
            || accepted(&everything()),
        ),
        trial("include_is_accepted", &["bacula-dir", "bacula-sd", "bconsole"], include_is_accepted),
        stock(trial(
            "include_into_the_packages_own_files_is_accepted",
            &["bacula-dir", "bacula-sd", "bconsole", "bdirjson"],
            include_into_stock_files,
        )),
        trial("names_at_the_limit_are_accepted", &["bacula-sd"], limits),
    ];
    trials.push(trial("bsdjson_reads_any_value_as_we_do", &["bsdjson"], any_value));
    for (program, reader) in [
        ("bdirjson", Program::Director),
        ("bsdjson", Program::Storage),
        ("bfdjson", Program::Client),
        ("bbconsjson", Program::Console),
    ] {
        trials.push(trial(&format!("{program}_knows_the_directives_that_we_know"), &[program], move || {
            knows_directives(program, reader)
        }));
    }
    for (program, file) in [
        ("bdirjson", "bacula-dir.conf"),
        ("bsdjson", "bacula-sd.conf"),
        ("bfdjson", "bacula-fd.conf"),
        ("bbconsjson", "bconsole.conf"),
    ] {
        trials.push(trial(&format!("{program}_reads_the_same_values"), &[program], move || {
            same_values(program, file, &Bacula::default())?;
            same_values(program, file, &everything())
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A test that is ignored, saying why, where one of its programs is missing.
fn trial(name: &str, programs: &[&str], test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    let needs_tables = programs.contains(&"bacula-dir") && !Path::new(TABLES).exists();
    let missing = programs.iter().find(|program| !sbin(program).exists()).copied();
    match missing.or(needs_tables.then_some("make_sqlite3_tables")) {
        None => Trial::test(name, test),
        Some(missing) => {
            Trial::test(name, test).with_kind(format!("no {missing} here")).with_ignored_flag(true)
        }
    }
}

/// A test of the files that the packages installed, which only root and Bacula may read.
fn stock(trial: Trial) -> Trial {
    match ["bacula-dir.conf", "bacula-sd.conf"]
        .into_iter()
        .find(|file| fs::read(Path::new(STOCK).join(file)).is_err())
    {
        None => trial,
        Some(file) => trial.with_kind(format!("can't read {STOCK}/{file}")).with_ignored_flag(true),
    }
}

fn sbin(program: &str) -> PathBuf {
    Path::new("/usr/sbin").join(program)
}

/// A site that uses what the default leaves out.
fn everything() -> Bacula {
    toml::from_str(
        r#"
        [autochanger]
        drives = 3
        [messages]
        mail = "root@localhost"
        [pool]
        retention = "8 weeks"
        maximum_volume_bytes = "10 MB"
        volume_use_duration = "90 min"
        [schedule]
        runs = ["Level=Full 1st sun at 23:05", "Level=Differential 2nd-5th sun at 23:05", "Level=Incremental mon-sat at 23:05", "Incremental hourly"]
        [[jobs]]
        name = "Etc"
        paths = ["/etc", "/a path with blanks; and } # \"quotes\" \\ and @"]
        exclude = ["/etc/mtab"]
        [[jobs]]
        name = "Web"
        paths = ["/srv/ünïcode"]
        priority = 12
        "#,
    )
    .expect("a good description")
}

struct Installed {
    root: TempDir,
}

impl Installed {
    /// Writes the generated files into a directory of their own and makes an empty catalog beside them.
    fn new(bacula: &Bacula) -> Self {
        let root = TempDir::new().expect("a temporary directory");
        let mut bacula = bacula.clone();
        root.path().clone_into(&mut bacula.paths.configuration);
        root.path().clone_into(&mut bacula.paths.working);
        root.path().clone_into(&mut bacula.paths.run);
        bacula.messages.log = root.path().join("bacula.log");
        let password = |text: &str| Password::new(text).expect("a good password");
        let passwords = Passwords {
            director: password("a \"quoted\" \\ password; } # @"),
            storage: password("storage"),
            client: password("12345"),
            console: password("@console"),
        };
        let mut changer = ChangerInput::new(vec!["/mnt/offsite/one".into()]);
        changer.config_path = root.path().join("vchanger.conf");
        let source = Path::new("/etc/offsite/site.toml");
        let input = Input { source, bacula: &bacula, passwords: &passwords, changer: &changer };
        for file in generate(&input).expect("generated") {
            fs::write(&file.path, file.text).expect("written");
        }
        Self { root }
    }

    fn make_catalog(&self) {
        let tables = fs::read_to_string(TABLES).expect("Bacula's tables");
        let script = tables
            .replace("cd /var/lib/bacula", &format!("cd {}", self.root.path().display()))
            .replace("XXX_DBNAME_XXX", "bacula");
        let path = self.root.path().join("make_tables");
        fs::write(&path, script).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("executable");
        let output = Command::new("/bin/sh").arg(&path).output().expect("sh runs");
        assert!(output.status.success(), "{}", shown(&output));
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    /// Has a program test a file.
    fn test(&self, program: &str, file: &str) -> Result<(), Failed> {
        let output = Command::new(sbin(program)).arg("-t").arg("-c").arg(self.path(file)).output()?;
        if output.status.success() {
            return Ok(());
        }
        let text = fs::read_to_string(self.path(file))?;
        Err(format!("{program} -t refuses {file}: {}\n{text}", shown(&output)).into())
    }
}

fn shown(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{stdout}\n{stderr}", output.status)
}

fn accepted(bacula: &Bacula) -> Result<(), Failed> {
    let installed = Installed::new(bacula);
    installed.make_catalog();
    installed.test("bacula-dir", "bacula-dir.conf")?;
    installed.test("bacula-sd", "bacula-sd.conf")?;
    installed.test("bacula-fd", "bacula-fd.conf")?;
    installed.test("bconsole", "bconsole.conf")?;
    installed.test("bconsole", "bconsole-offsite.conf")
}

/// Small configurations as somebody may have them, and our files included into them.
fn include_is_accepted() -> Result<(), Failed> {
    let installed = Installed::new(&Bacula { layout: Layout::Include, ..everything() });
    installed.make_catalog();
    let root = installed.root.path().display();
    fs::write(
        installed.path("bacula-dir.conf"),
        format!(
            "Director {{ Name = backup-dir; DIRport = 9101; QueryFile = /q; WorkingDirectory = {root}\n PidDirectory = {root}\n \
             Password = p; Messages = Standard }}\nMessages {{ Name = Standard; console = all }}\n\
             Catalog {{ Name = MyCatalog; dbname = bacula; dbuser = \"\"; dbpassword = \"\" }}\n@{root}/offsite-dir.conf\n"
        ),
    )?;
    fs::write(
        installed.path("bacula-sd.conf"),
        format!(
            "Storage {{ Name = backup-sd; WorkingDirectory = {root}\n PidDirectory = {root}\n }}\n\
             Director {{ Name = backup-dir; Password = p }}\nMessages {{ Name = Standard; director = backup-dir = all }}\n\
             @{root}/offsite-sd.conf\n"
        ),
    )?;
    installed.test("bacula-dir", "bacula-dir.conf")?;
    installed.test("bacula-sd", "bacula-sd.conf")?;
    installed.test("bconsole", "bconsole-offsite.conf")
}

/// What the packages installed gets one line a file; names and passwords are taken over from there.
fn include_into_stock_files() -> Result<(), Failed> {
    let root = TempDir::new()?;
    let mut files = Vec::new();
    for file in ["bacula-dir.conf", "bacula-sd.conf", "bacula-fd.conf", "bconsole.conf"] {
        let text = fs::read_to_string(Path::new(STOCK).join(file))?;
        // The catalog that -t opens lies in the working directory.
        let text = text.replace("\"/var/lib/bacula\"", &format!("\"{}\"", root.path().display()));
        files.push((root.path().join(file), text));
    }
    let mut bacula = Bacula { layout: Layout::Include, ..Bacula::default() };
    root.path().clone_into(&mut bacula.paths.configuration);
    adopt_names(&mut bacula, &files);
    let found = existing_passwords(&bacula, &files);
    let storage = found.storage.ok_or("the storage daemon's password was not found")?;
    let other = |text: &str| Password::new(text).expect("a good password");
    let passwords = Passwords { director: other("d"), storage, client: other("c"), console: other("o") };
    let mut changer = ChangerInput::new(vec!["/mnt/offsite/one".into()]);
    changer.config_path = root.path().join("vchanger.conf");
    let source = Path::new("/etc/offsite/site.toml");
    for file in generate(&Input { source, bacula: &bacula, passwords: &passwords, changer: &changer })? {
        fs::write(&file.path, file.text)?;
    }
    for (path, text) in &mut files {
        let before = text.clone();
        for line in include_lines(&bacula).iter().filter(|line| line.file == *path) {
            *text = line.add(text)?.ok_or("the line was there already")?;
            assert_eq!(line.add(text)?, None, "a second time changes nothing");
            assert_eq!(*text, format!("{before}{}\n", line.line()), "nothing else changes");
        }
        fs::write(path, text)?;
    }
    let installed = Installed { root };
    installed.make_catalog();
    installed.test("bacula-dir", "bacula-dir.conf")?;
    installed.test("bacula-sd", "bacula-sd.conf")?;
    installed.test("bconsole", "bconsole-offsite.conf")?;
    let output = Command::new(sbin("bdirjson")).arg("-c").arg(installed.path("bacula-dir.conf")).output()?;
    let theirs: Json = serde_json::from_slice(&output.stdout)?;
    let has = |kind: &str, name: &str| {
        theirs
            .as_array()
            .into_iter()
            .flatten()
            .any(|entry| entry.get(kind).is_some_and(|one| one["Name"] == name))
    };
    if has("Storage", "c0")
        && has("Pool", "Offsite-eSATA")
        && has("Job", "UpdateSlots")
        && has("Console", "offsite")
    {
        Ok(())
    } else {
        Err(format!("the Director knows nothing of what was included: {theirs}").into())
    }
}

/// A changer command of 127 bytes is taken by Bacula, so ours refuses no more than it has to.
fn limits() -> Result<(), Failed> {
    let installed = Installed::new(&Bacula::default());
    let path = installed.path("bacula-sd.conf");
    let text = fs::read_to_string(&path)?;
    let command = format!("/{} %c %o %S %a %d", "x".repeat(127 - 16));
    for (length, taken) in [(127, true), (128, false)] {
        let command = format!("{}{command}", "/".repeat(length - command.len()));
        let edited = text.replace("/usr/bin/vchanger %c %o %S %a %d", &command);
        assert_eq!(command.len(), length);
        assert_ne!(edited, text);
        fs::write(&path, edited)?;
        if installed.test("bacula-sd", "bacula-sd.conf").is_ok() != taken {
            return Err(format!("a changer command of {length} bytes: taken should be {taken}").into());
        }
    }
    Ok(())
}

/// Compares each directive of each resource with what Bacula's own parser made of it.
fn same_values(program: &str, file: &str, bacula: &Bacula) -> Result<(), Failed> {
    let installed = Installed::new(bacula);
    let output = Command::new(sbin(program)).arg("-c").arg(installed.path(file)).output()?;
    let theirs: Json =
        serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {}", shown(&output)))?;
    let ours: Document = fs::read_to_string(installed.path(file))?.parse()?;
    let mut compared = 0;
    for block in ours.blocks() {
        let name = block.text("Name").expect("a name");
        let found = theirs.as_array().into_iter().flatten().find_map(|entry| {
            let (kind, resource) = entry.as_object()?.iter().next()?;
            (kind.eq_ignore_ascii_case(block.name()) && resource.get("Name")?.as_str()? == name)
                .then_some(resource)
        });
        let found = found.ok_or_else(|| format!("{program} does not know {} {name}", block.name()))?;
        for directive in block.directives() {
            // Messages, addresses, runs and scripts are printed in forms of their own.
            if block.is("Messages")
                || directive.key().starts_with("Run")
                || directive.key().ends_with("Address")
            {
                continue;
            }
            let key: String = directive.key().split_whitespace().collect();
            let value =
                found.as_object().into_iter().flatten().find(|(theirs, _)| theirs.eq_ignore_ascii_case(&key));
            let Some((_, value)) = value else {
                // A daemon's own port is part of the addresses; an empty string counts as not set.
                if key.to_ascii_lowercase().ends_with("port") {
                    continue;
                }
                assert_eq!(directive.value().text(), Some(""), "{program}: {key} of {} {name}", block.name());
                continue;
            };
            if !same(block, &key, value) {
                return Err(format!(
                    "{program}: {key} of {} {name} is {value}, ours {}",
                    block.name(),
                    directive.value()
                )
                .into());
            }
            compared += 1;
        }
    }
    if compared == 0 { Err("nothing was compared".into()) } else { Ok(()) }
}

fn same(block: &Block, key: &str, theirs: &Json) -> bool {
    let directive =
        block.directives().find(|directive| key.eq_ignore_ascii_case(&directive.key().replace(' ', "")));
    let value = directive.expect("the key was found before").value();
    let text = value.text().unwrap_or("");
    match theirs {
        Json::String(theirs) if key.eq_ignore_ascii_case("Autochanger") && block.is("Storage") => {
            text == "yes" && block.text("Name") == Some(theirs)
        }
        Json::String(theirs) => theirs == text,
        Json::Bool(theirs) => *theirs == (text == "yes"),
        Json::Number(theirs) => {
            let line = value.line();
            let seconds = Period::from_bacula(&line).map(Period::as_seconds);
            let bytes = Size::from_bacula(&line).map(Size::as_bytes);
            theirs.as_u64().is_some_and(|theirs| seconds == Some(theirs) || bytes == Some(theirs))
        }
        Json::Array(theirs) => {
            let ours: Vec<_> = value
                .words()
                .iter()
                .filter(|word| word.kind != WordKind::Comma)
                .map(|word| word.text.as_str())
                .collect();
            theirs.iter().filter_map(Json::as_str).eq(ours)
        }
        other => panic!("{key}: {other}"),
    }
}

/// Gives a program one directive after the other: those of 9.6 it has to take or to miss a value in, all others it
/// has to refuse by name.
fn knows_directives(program: &str, reader: Program) -> Result<(), Failed> {
    let root = TempDir::new()?;
    let path = root.path().join("one.conf");
    let (mut taken, mut refused) = (0, 0);
    for known in known_directives().filter(|known| known.program == reader) {
        let KnownDirective { resource, name, .. } = known;
        // Profile is Bareos's, Tenant is newer.
        if matches!(resource, "Profile" | "Tenant") {
            continue;
        }
        fs::write(&path, format!("{resource} {{\n  {name} = yes\n}}\n"))?;
        let output = Command::new(sbin(program)).arg("-c").arg(&path).output()?;
        let said = shown(&output);
        let unknown =
            said.contains("not permitted in this resource") || said.contains("expected resource name");
        if unknown == (known.bacula == Some(9)) {
            return Err(format!(
                "{resource} {{ {name} }}: {known:?}, but {program} says: {}",
                shown(&output)
            )
            .into());
        }
        if unknown { refused += 1 } else { taken += 1 }
    }
    if taken == 0 || refused == 0 { Err(format!("{taken} taken, {refused} refused").into()) } else { Ok(()) }
}

/// Values as somebody may write them: bare or quoted, with blanks, escapes, comments and surplus words.
fn written_value() -> impl Strategy<Value = String> {
    let bare = "[a-zA-Z/%!$&*+.:_-][a-zA-Z0-9/%!$&*+.:_@-]{0,10}([ \t]{1,2}[a-zA-Z0-9/._-]{1,5}){0,3}";
    let quoted = r#""([a-zA-Z0-9 ;{}#=,@|/]|\\"|\\\\|\\a|\n){1,12}""#;
    let end = prop::sample::select(vec![
        "",
        " ",
        ";",
        " ; ",
        "  # a \" comment }",
        "\t",
        "\r",
        ", more",
        " = more",
    ]);
    (prop_oneof![bare, quoted], end).prop_map(|(value, end)| format!("{value}{end}"))
}

/// Bacula's own lexer is the judge of ours.
fn any_value() -> Result<(), Failed> {
    let root = TempDir::new()?;
    let path = root.path().join("bacula-sd.conf");
    let mut runner = TestRunner::new(ProptestConfig::with_cases(24));
    let outcome = runner.run(&prop::collection::vec(written_value(), 40), |values| {
        let mut text = String::from(
            "Storage {\n Name = s\n WorkingDirectory = /tmp\n PidDirectory = /tmp\n}\n\
             Director {\n Name = d\n Password = x\n}\nMessages {\n Name = m\n director = d = all\n}\n",
        );
        for (number, value) in values.iter().enumerate() {
            writeln!(
                text,
                "Device {{\n Name = d{number:02}\n Media Type = File\n Archive Device = {value}\n}}"
            )
            .expect("a string takes it");
        }
        fs::write(&path, &text).expect("written");
        let output = Command::new(sbin("bsdjson")).arg("-c").arg(&path).output().expect("bsdjson runs");
        let theirs: Json = serde_json::from_slice(&output.stdout)
            .map_err(|error| TestCaseError::fail(format!("{error}: {}", shown(&output))))?;
        let theirs: Vec<_> = theirs
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.get("Device")?.get("ArchiveDevice")?.as_str())
            .collect();
        let ours: Document = text.parse().map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        let ours: Vec<_> =
            ours.blocks_named("Device").filter_map(|device| device.text("Archive Device")).collect();
        prop_assert_eq!(ours.len(), values.len());
        prop_assert_eq!(ours, theirs);
        Ok(())
    });
    outcome.map_err(|error| Failed::from(error.to_string()))
}
