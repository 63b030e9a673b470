//! `offsite conf`: everything that other programs read, generated from site.toml.

pub(crate) mod check;
mod import;
mod include;
mod live;
mod machine;
mod plan;
mod stock;

use std::io;
use std::path::{Path, PathBuf};

use bacula_conf::{Bacula, ChangerInput, GeneratedFile, Input, Layout, Name, Origin, Passwords};
use plan::{Action, Plan};
use serde::Serialize;

use super::arguments::{Conf, Style};
use crate::base::failure::{Exit, Failure};
use crate::base::paths::Root;
use crate::base::report;
use crate::site::description::Site;
use crate::site::passwords;
use crate::site::working_directories::working_directories;

#[derive(Debug, Serialize)]
struct Written<'a> {
    path: &'a Path,
    action: Action,
}

/// Runs `offsite conf`.
pub fn run(root: &Root, options: &Conf) -> Result<(), Failure> {
    if let Some(directory) = &options.check {
        return check::run(root, directory.as_deref(), options);
    }
    if let Some(config) = &options.import {
        return import::run(root, config, options);
    }
    let site = Site::load(root)?;
    let target = Target::new(root, options.out.as_deref());
    let files = match options.style {
        None => files(root, &site)?,
        Some(style) => stock::files_beside(&site, style, &target.directory)?,
    };
    let plan = Plan::make(&files, &target.directory, target.owners)?;
    if !options.replace && !plan.conflicts().is_empty() {
        print!("{}", plan.differences());
        let first = plan.conflicts().first().map(|f| f.path.display().to_string()).unwrap_or_default();
        return Err(Failure::new(Exit::Refused, format!("{first} was edited or made by someone else; nothing was written"))
            .hint("take the change into site.toml, or let it be replaced (the old file is kept): offsite conf --replace"));
    }
    let lines =
        if options.style.is_none() { include::pending(&site.bacula, &target.directory)? } else { Vec::new() };
    if options.dry_run {
        print!("{}", plan.differences());
        for line in &lines {
            print!("{}", line.difference());
        }
    } else {
        plan.apply()?;
        if options.add_includes {
            lines.iter().try_for_each(include::Pending::add)?;
        }
        if target.owners && options.style.is_none() {
            working_directories(root, &site)?;
        }
    }
    if options.json {
        let written: Vec<_> = plan.files().map(|f| Written { path: &f.path, action: f.action }).collect();
        return report::json(&written);
    }
    if site.magazines.is_empty() {
        println!("the changer's configuration comes with the first drive: offsite prepare, offsite adopt");
    }
    for file in plan.files() {
        println!("{:9} {}", file.action.word(options.dry_run), file.path.display());
    }
    for line in &lines {
        let file = line.path.display();
        if options.add_includes && !options.dry_run {
            println!("{:9} {file}: {}", "extended", line.line);
        } else {
            println!("{:9} {file} lacks this line (offsite conf --add-includes adds it):", "open");
            println!("          {}", line.line);
        }
    }
    if let Some(style) = options.style {
        println!("next: {}", stock::next_steps(&site, style));
    }
    Ok(())
}

/// Brings generated files up to date after a drive was enrolled; a site that has none yet gets none.
pub fn refresh(root: &Root, site: &Site) -> Result<(), Failure> {
    let files = files(root, site)?;
    let ours = |f: &GeneratedFile| {
        std::fs::read_to_string(root.join(&f.path))
            .is_ok_and(|text| bacula_conf::inspect(&text) != Origin::Foreign)
    };
    let mut files = if files.iter().any(ours) {
        files
    } else {
        eprintln!("next: `offsite conf` writes the configuration of Bacula and of the changer");
        Vec::new()
    };
    for style in <Style as clap::ValueEnum>::value_variants() {
        let stock = stock::files(site, *style);
        if stock.iter().any(ours) {
            files.extend(stock);
            eprintln!("next: {}", stock::next_steps(site, *style));
        }
    }
    let target = Target::new(root, None);
    let plan = Plan::make(&files, &target.directory, target.owners)?;
    for kept in plan.conflicts() {
        eprintln!(
            "warning: {} was edited, so it doesn't know the new drive; `offsite conf` shows it",
            kept.path.display()
        );
    }
    plan.apply()
}

/// Every generated file, as it would be installed.
pub fn files(root: &Root, site: &Site) -> Result<Vec<GeneratedFile>, Failure> {
    let source = Path::new("/etc/offsite/site.toml");
    let wrong = |error: &dyn std::error::Error| Failure::because(Exit::Usage, source.display(), error);
    let storage_name = Name::new(&*site.changer.name).map_err(|error| wrong(&error))?;
    let magazines = site.magazines.iter().map(|m| site.mount_point(m)).collect();
    let changer =
        ChangerInput { storage_name, work_dir: site.changer.work_dir(), ..ChangerInput::new(magazines) };
    let mut passwords = passwords::load(root)?;
    let mut bacula = site.bacula.clone();
    if bacula.layout != Layout::Complete {
        take_over(root, &mut bacula, &mut passwords)?;
    }
    let input = Input { source, bacula: &bacula, passwords: &passwords, changer: &changer };
    bacula_conf::generate(&input).map_err(|error| wrong(&error))
}

/// What is installed already keeps its names and passwords; what is generated fits in.
fn take_over(root: &Root, bacula: &mut Bacula, passwords: &mut Passwords) -> Result<(), Failure> {
    let directory = root.join(&bacula.paths.configuration);
    if !directory.is_dir() {
        return Ok(());
    }
    let installed = live::read(root, &directory, false)?;
    bacula_conf::adopt_names(bacula, &installed.files);
    let found = bacula_conf::existing_passwords(bacula, &installed.files);
    if let Some(storage) = found.storage {
        passwords.storage = storage;
    }
    Ok(())
}

/// The text of a generated file as it is installed, and whether it has its owner and its permission bits. They count
/// where they are set: not below another root.
pub(crate) fn installed_text(root: &Root, file: &GeneratedFile, path: &Path) -> io::Result<(String, bool)> {
    let (bytes, stat) = plan::read(path)?.ok_or(io::ErrorKind::NotFound)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((text, !Target::new(root, None).owners || plan::is_right(&stat, file)))
}

/// Where the files go, and whether they get their owners.
struct Target {
    directory: PathBuf,
    owners: bool,
}

impl Target {
    pub(crate) fn new(root: &Root, out: Option<&Path>) -> Self {
        match out {
            Some(directory) => Self { directory: directory.to_owned(), owners: false },
            None => Self { directory: root.path().to_owned(), owners: root.path() == Path::new("/") },
        }
    }
}
