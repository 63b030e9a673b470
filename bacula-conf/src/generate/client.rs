//! bacula-fd.conf.

use super::builder::{Resource, document};
use super::error::GenerateError;
use super::input::Input;
use crate::syntax::tree::Document;

pub(super) fn complete(input: &Input<'_>) -> Result<Document, GenerateError> {
    let (bacula, paths) = (input.bacula, &input.bacula.paths);
    document([
        Resource::new("Director", &bacula.director.name).password(&input.passwords.client),
        Resource::new("FileDaemon", &bacula.client.name)
            .number("FDport", bacula.client.port)
            .address("FDAddress", &bacula.client.address)
            .path("Working Directory", &paths.working)
            .path("Pid Directory", &paths.run)
            .path("Plugin Directory", &paths.plugins)
            .number("Maximum Concurrent Jobs", 20_u32),
        Resource::new("Messages", &bacula.messages.jobs).messages(
            "Director",
            &bacula.director.name,
            "all, !skipped, !restored",
        ),
    ])
}
