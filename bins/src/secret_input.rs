//! Secrets that a person types: from the terminal, or from a line of standard input where there is none.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use luks_core::{RecoveryKey, Secret};
use nix::errno::Errno;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, OrFail as _};

/// Longer than anything that a person types.
const LONGEST: usize = 4096;

/// Asks for a passphrase without showing it; a new one is asked for twice at a terminal.
pub fn passphrase(what: &str, new: bool) -> Result<Secret, Failure> {
    let first = line(&format!("{what}: "), false)?;
    if new && io::stdin().is_terminal() {
        let again = line(&format!("{what}, once more: "), false)?;
        if *first != *again {
            return Err(Failure::new(Exit::Usage, "the two were not the same; nothing was done"));
        }
    }
    Ok(Secret::from_bytes(first.to_vec()))
}

/// Asks for a recovery key and says where a typing mistake is.
pub fn recovery_key() -> Result<RecoveryKey, Failure> {
    let typed = line("Recovery key (13 groups of five): ", true)?;
    let text = std::str::from_utf8(&typed).or_exit(Exit::Usage, "that is no recovery key")?;
    RecoveryKey::parse(text).map_err(|error| {
        Failure::because(Exit::Usage, "that is no recovery key", &error).hint("type it again, slowly")
    })
}

/// Reads byte by byte, so that no buffer of the standard library keeps what was typed.
fn line(prompt: &str, shown: bool) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let stdin = io::stdin();
    let input = stdin.as_fd();
    let _echo = if stdin.is_terminal() {
        eprint!("{prompt}");
        io::stderr().flush().or_fail("cannot write to the terminal")?;
        (!shown).then(|| Hidden::begin(input)).transpose().or_fail("cannot hide what is typed")?
    } else {
        None
    };
    let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = [0];
    loop {
        match nix::unistd::read(input, &mut byte) {
            Ok(0) if typed.is_empty() => {
                return Err(Failure::new(Exit::Usage, "nothing was typed").hint("give it on standard input"));
            }
            Ok(0) => break,
            Ok(_) if byte == *b"\n" => break,
            Ok(_) if typed.len() == LONGEST => {
                return Err(Failure::new(Exit::Usage, "that line is too long"));
            }
            Ok(_) => typed.extend_from_slice(&byte),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(Failure::because(Exit::Failed, "cannot read what is typed", &error)),
        }
    }
    Ok(typed)
}

/// A terminal that doesn't show what is typed, until this is dropped.
struct Hidden<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn begin(terminal: BorrowedFd<'a>) -> Result<Self, Errno> {
        let before = tcgetattr(terminal)?;
        let mut hidden = before.clone();
        hidden.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &hidden)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _terminal_gone = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
        eprintln!();
    }
}
