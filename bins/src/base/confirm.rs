//! The last question before a drive's data is destroyed: its id, typed.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use media_wipe::Identity;

use super::failure::{Exit, Failure, OrFail as _};
use super::shell::quoted;

/// Returns the id that the administrator confirmed: given on the command line, or typed at a terminal.
pub fn destroy(identity: &Identity, given: Option<&str>) -> Result<String, Failure> {
    if let Some(reason) = identity.refusals.first() {
        return Err(refused(identity, reason));
    }
    let what = describe(identity);
    let question = Question {
        will: format!("All data on {what} will be destroyed."),
        nobody: format!("nobody confirmed that {what} may be destroyed"),
        option: "--yes-destroy",
    };
    ask(identity, given, &question)
}

/// Asks before a drive's header is overwritten; its data stay.
pub fn overwrite_header(identity: &Identity, magazine: &str, given: Option<&str>) -> Result<String, Failure> {
    let what = describe(identity);
    let question = Question {
        will: format!("The LUKS header on {what} will be overwritten by the backup of {magazine}."),
        nobody: format!("nobody confirmed that the header on {what} may be overwritten"),
        option: "--yes-overwrite",
    };
    ask(identity, given, &question)
}

/// What is asked, and how it is answered without a terminal.
struct Question {
    will: String,
    nobody: String,
    option: &'static str,
}

fn ask(identity: &Identity, given: Option<&str>, question: &Question) -> Result<String, Failure> {
    let device = identity.device.display();
    let id = &identity.id;
    if let Some(given) = given {
        if given == id {
            return Ok(given.to_owned());
        }
        return Err(Failure::new(Exit::Refused, format!("{device} has the id {id:?}, not {given:?}"))
            .hint("look again which drive is meant: offsite identify"));
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Refused, question.nobody.clone()).hint(format!(
            "if it may: {} {}",
            question.option,
            quoted(id)
        )));
    }
    eprintln!("{}", question.will);
    eprint!("Type its id to go on, anything else to stop: ");
    io::stderr().flush().or_fail("cannot write to the terminal")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).or_fail("cannot read from the terminal")?;
    if line.trim() == id {
        return Ok(id.clone());
    }
    Err(Failure::new(Exit::Refused, "not confirmed; nothing was touched"))
}

/// One line that lets a person recognise the drive.
pub fn describe(identity: &Identity) -> String {
    let model = identity.model.as_deref().map(|m| format!(", {m}")).unwrap_or_default();
    format!(
        "{} (id {}{model}, {}, holds: {})",
        identity.device.display(),
        identity.id,
        size(identity.size_bytes),
        identity.contents
    )
}

/// What stands in the way of what a dry run has shown.
pub fn list_refusals(identity: &Identity) {
    for refusal in &identity.refusals {
        println!("  but: {refusal}");
    }
}

fn refused(identity: &Identity, first: &media_wipe::Refusal) -> Failure {
    let more = identity.refusals.len() - 1;
    let others = if more == 0 { String::new() } else { format!(" (and {more} more: offsite identify)") };
    let first_message = first.message();
    Failure::new(
        Exit::Refused,
        format!("{} can't be used: {first_message}{others}", identity.device.display()),
    )
    .hint(first.remedy())
}

/// Bytes as a person reads them on a drive's label: powers of ten.
#[expect(clippy::cast_precision_loss, reason = "one decimal of a size is shown")]
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64 / 1000.0;
    let mut unit = UNITS[0];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    for next in &UNITS[1..] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read_as_on_the_label() {
        assert_eq!(size(512), "512 B");
        assert_eq!(size(750_156_374_016), "750.2 GB");
        assert_eq!(size(999_999), "1.0 MB");
        assert_eq!(size(20_000_000_000_000), "20.0 TB");
    }
}
