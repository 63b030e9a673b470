//! Bareos's layout: one resource a file, in a directory for each program and each type of resource.
//!
//! Known from Bareos's sources and manual, not tried with its daemons. What its packages install by themselves (the
//! Director, its catalog and messages, the daemons' own resources) is left alone: these files only add to it.

use std::path::PathBuf;

use super::builder::{Resource, document};
use super::error::GenerateError;
use super::input::Input;
use super::output::{GeneratedFile, file};
use super::{director, storage};

/// The files of the Director and of the storage daemon.
pub(super) fn files(input: &Input<'_>) -> Result<Vec<GeneratedFile>, GenerateError> {
    let mut of_director = vec![director::storage(input), director::pool(input), director::schedule(input)];
    for job in &input.bacula.jobs {
        of_director.push(director::files_of(job));
        of_director.push(director::backup(input, job));
    }
    of_director.extend(director::update_slots(input));
    of_director.push(director::console(input));
    let mut files = Vec::new();
    for (program, resources) in [("bareos-dir.d", of_director), ("bareos-sd.d", storage::changer(input)?)] {
        for resource in resources {
            files.push(one(input, program, resource)?);
        }
    }
    Ok(files)
}

fn one(input: &Input<'_>, program: &str, resource: Resource) -> Result<GeneratedFile, GenerateError> {
    let (kind, name) = resource.kind_and_name();
    let path: PathBuf = input
        .bacula
        .paths
        .configuration
        .join(program)
        .join(kind.to_ascii_lowercase())
        .join(format!("{name}.conf"));
    // Its packages give these files to the daemons' user; one that only reads them can't make them run commands.
    let accounts = &input.bacula.accounts;
    Ok(file(input, path, ("root", &accounts.group), &document([resource])?, &[]))
}
