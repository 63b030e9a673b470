//! The passwords that Bacula's daemons and consoles share: made once, root's alone.

use std::os::unix::fs::MetadataExt as _;

use bacula_conf::{Password, Passwords};
use serde::Deserialize;

use crate::base::atomic_file;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;

/// The file's members.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Texts {
    director: String,
    storage: String,
    client: String,
    console: String,
}

/// Random bytes behind each password.
const PASSWORD_BYTES: usize = 24;

/// Writes a new set of passwords.
pub fn generate(root: &Root) -> Result<(), Failure> {
    let mut text =
        String::from("# Shared by the generated configurations of Bacula's daemons; keep it to root.\n");
    for name in ["director", "storage", "client", "console"] {
        let mut bytes = [0; PASSWORD_BYTES];
        getrandom::fill(&mut bytes).or_fail("the kernel gives no random numbers")?;
        let digits: Vec<_> = bytes.iter().map(|b| format!("{b:02x}")).collect();
        text.push_str(&format!("{name} = \"{}\"\n", digits.concat()));
    }
    atomic_file::replace(&root.passwords_toml(), 0o600, text.as_bytes())
}

/// Reads the passwords; they are refused when others can read them too.
pub fn load(root: &Root) -> Result<Passwords, Failure> {
    let path = root.passwords_toml();
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::because(Exit::Usage, format!("cannot read {shown}"), &error).hint("`offsite init` makes it")
    })?;
    let mode = path.metadata().or_fail(format!("cannot look at {shown}"))?.mode();
    if mode & 0o077 != 0 {
        return Err(Failure::new(
            Exit::Usage,
            format!("{shown} can be read by others (mode {:04o})", mode & 0o7777),
        )
        .hint(format!("chmod 0600 {shown}")));
    }
    let texts: Texts = toml::from_str(&text).or_exit(Exit::Usage, format!("cannot parse {shown}"))?;
    let password = |text: String| Password::new(text).or_exit(Exit::Usage, format!("{shown}"));
    Ok(Passwords {
        director: password(texts.director)?,
        storage: password(texts.storage)?,
        client: password(texts.client)?,
        console: password(texts.console)?,
    })
}
