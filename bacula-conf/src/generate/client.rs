//! bacula-fd.conf.

use crate::generate::builder::{Resource, document};
use crate::generate::{GenerateError, Input};
use crate::tree::Document;

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
