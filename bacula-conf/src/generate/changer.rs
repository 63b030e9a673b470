//! vchanger.conf, in the syntax of vchanger 1.0: the keys look like Bacula's, there are no resources.

use std::path::Path;

use super::console;
use super::error::GenerateError;
use super::input::Input;
use crate::syntax::tree::{Directive, Document, Value};

pub(super) fn document(input: &Input<'_>) -> Result<Document, GenerateError> {
    let (bacula, changer) = (input.bacula, input.changer);
    let mut document = Document::default();
    let mut add = |key: &'static str, text: &str| {
        let value = Value::quoted(text).map_err(|source| GenerateError::Value {
            resource: changer.config_path.display().to_string(),
            directive: key.to_owned(),
            source,
        })?;
        document.push(Directive::new(key, value));
        Ok::<(), GenerateError>(())
    };
    let absolute = |key: &'static str, path: &Path| match path.to_str() {
        Some(text) if path.is_absolute() => Ok(text.to_owned()),
        _ => Err(GenerateError::Path {
            resource: changer.config_path.display().to_string(),
            directive: key.to_owned(),
            path: path.to_owned(),
        }),
    };
    add("Storage Resource", &changer.storage_name)?;
    add("Work Dir", &absolute("Work Dir", &changer.work_dir)?)?;
    add("Logfile", &absolute("Logfile", &changer.log_file)?)?;
    add("Log Level", "3")?;
    add("User", &bacula.accounts.user)?;
    add("Group", &bacula.accounts.storage_group)?;
    add("bconsole", &absolute("bconsole", &bacula.paths.bconsole)?)?;
    add("bconsole config", &absolute("bconsole config", &console::restricted_path(input))?)?;
    add("Default Pool", &bacula.pool.name)?;
    for magazine in &changer.magazines {
        add("Magazine", &absolute("Magazine", magazine)?)?;
    }
    Ok(document)
}
