//! bacula-sd.conf, or the part of it that is included.

use super::builder::{Resource, document};
use super::error::GenerateError;
use super::input::{Input, plain_command_path};
use crate::site::description::Layout;
use crate::syntax::tree::Document;

pub(super) fn complete(input: &Input<'_>) -> Result<Document, GenerateError> {
    let (bacula, paths) = (input.bacula, &input.bacula.paths);
    let daemon = Resource::new("Storage", &bacula.storage.name)
        .number("SDPort", bacula.storage.port)
        .address("SDAddress", &bacula.storage.address)
        .path("Working Directory", &paths.working)
        .path("Pid Directory", &paths.run)
        .path("Plugin Directory", &paths.plugins)
        .number("Maximum Concurrent Jobs", bacula.storage.maximum_concurrent_jobs);
    let director = Resource::new("Director", &bacula.director.name).password(&input.passwords.storage);
    let messages =
        Resource::new("Messages", &bacula.messages.jobs).messages("Director", &bacula.director.name, "all");
    let mut resources = vec![daemon, director, messages];
    resources.extend(changer(input)?);
    document(resources)
}

pub(super) fn include(input: &Input<'_>) -> Result<Document, GenerateError> {
    document(changer(input)?)
}

pub(super) fn changer(input: &Input<'_>) -> Result<Vec<Resource>, GenerateError> {
    let settings = &input.bacula.autochanger;
    let names: Vec<String> =
        (1..=settings.drives).map(|drive| format!("{}-{drive}", settings.drive_prefix)).collect();
    let mut resources = vec![
        Resource::new("Autochanger", &settings.name)
            .texts("Device", names.iter().map(String::as_str))
            .short("Changer Command", &command(input)?)
            .path("Changer Device", &input.changer.config_path),
    ];
    for (index, name) in (0_u32..).zip(&names) {
        resources.push(
            Resource::new("Device", name)
                .number("Drive Index", index)
                .yes("Autochanger")
                .keyword("Device Type", "File")
                .text("Media Type", &settings.media_type)
                .path("Archive Device", &input.changer.work_dir.join(index.to_string()))
                .no("Label Media")
                .yes("Random Access")
                .yes("Removable Media")
                // A job counts as done only when its data is on the drive, which may be pulled the next moment. Bareos
                // does not know the directive; there the daemon flushes what was written.
                .when(input.bacula.layout != Layout::Bareos, |device| device.yes("Sync On Close"))
                .yes("Automatic Mount")
                .no("Always Open")
                .number("Maximum Concurrent Jobs", 1_u32)
                .line("Maximum Changer Wait", &settings.maximum_changer_wait.to_string())
                .line("Volume Poll Interval", &settings.poll_interval.to_string()),
        );
    }
    Ok(resources)
}

fn command(input: &Input<'_>) -> Result<String, GenerateError> {
    for path in [&input.changer.command, &input.changer.config_path] {
        plain_command_path(path)?;
        if !path.is_absolute() || path.to_str().is_none() {
            return Err(GenerateError::Path {
                resource: format!("Autochanger {}", input.bacula.autochanger.name),
                directive: "Changer Command".to_owned(),
                path: path.clone(),
            });
        }
    }
    Ok(format!("{} %c %o %S %a %d", input.changer.command.display()))
}
