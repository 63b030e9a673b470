//! bconsole.conf for the administrator, and bconsole-offsite.conf for the changer.

use std::path::PathBuf;

use super::builder::{Resource, document};
use super::error::GenerateError;
use super::input::Input;
use crate::syntax::tree::Document;

pub(super) fn full(input: &Input<'_>) -> Result<Document, GenerateError> {
    document([director(input).password(&input.passwords.director)])
}

pub(super) fn restricted(input: &Input<'_>) -> Result<Document, GenerateError> {
    document([
        // Demanded by the parser; a named console proves itself with its own password.
        director(input).quoted("Password", "unused"),
        Resource::new("Console", &input.bacula.console.name).password(&input.passwords.console),
    ])
}

/// Where the restricted console's configuration belongs.
pub(super) fn restricted_path(input: &Input<'_>) -> PathBuf {
    input.bacula.paths.configuration.join("bconsole-offsite.conf")
}

fn director(input: &Input<'_>) -> Resource {
    let director = &input.bacula.director;
    Resource::new("Director", &director.name)
        .address("Address", &director.address)
        .number("DIRport", director.port)
}
