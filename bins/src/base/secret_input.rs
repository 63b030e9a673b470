//! Secrets that a person types: from the terminal, or from a line of standard input where there is none.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use luks_core::{RecoveryKey, Secret, check_passphrase};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::{Exit, Failure, OrFail as _};
use super::interrupt;

/// Longer than anything that a person types.
const LONGEST: usize = 4096;

/// Asks for a passphrase without showing it; a new one must not be a weak one, and is asked for twice at a terminal.
pub fn passphrase(what: &str, new: bool) -> Result<Secret, Failure> {
    let mut first = line(&format!("{what}: "), false)?;
    let first = Secret::from_bytes(std::mem::take(&mut *first));
    if new {
        check_passphrase(&first).map_err(|weak| {
            Failure::new(Exit::Usage, weak.to_string()).hint("several words are easier to keep than signs")
        })?;
    }
    if new && io::stdin().is_terminal() {
        let again = line(&format!("{what}, once more: "), false)?;
        if first.expose() != &**again {
            return Err(Failure::new(Exit::Usage, "the two were not the same; nothing was done"));
        }
    }
    Ok(first)
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
    let hidden = if stdin.is_terminal() {
        eprint!("{prompt}");
        io::stderr().flush().or_fail("cannot write to the terminal")?;
        (!shown).then(|| Hidden::begin(input)).transpose().or_fail("cannot hide what is typed")?
    } else {
        None
    };
    let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = [0];
    loop {
        if let Some(hidden) = &hidden
            && !hidden.wait().or_fail("cannot wait for what is typed")?
        {
            // The signal is let through when the terminal shows again what is typed; it seldom comes back from that.
            return Err(Failure::new(Exit::Failed, "interrupted; nothing was done"));
        }
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
    // A file from another system ends its lines with CR and LF; nobody types a CR.
    if typed.last() == Some(&b'\r') {
        typed.pop();
    }
    Ok(typed)
}

/// A terminal that doesn't show what is typed, until this is dropped. Signals that end the program wait until then.
struct Hidden<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
    mask: SigSet,
    signals: SignalFd,
}

impl<'a> Hidden<'a> {
    fn begin(terminal: BorrowedFd<'a>) -> Result<Self, Errno> {
        let before = tcgetattr(terminal)?;
        let ending = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
        let ends = |signal: &Signal| !interrupt::ignored_from_the_start(*signal as i32);
        let ending: SigSet = ending.into_iter().filter(ends).collect();
        let signals = SignalFd::with_flags(&ending, SfdFlags::SFD_CLOEXEC)?;
        let mask = ending.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let hidden = Self { terminal, before, mask, signals };
        let mut quiet = hidden.before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(hidden)
    }

    /// Waits until something was typed; `false` when a signal came before that.
    fn wait(&self) -> Result<bool, Errno> {
        let mut awaited = [
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.terminal, PollFlags::POLLIN),
        ];
        poll(&mut awaited, PollTimeout::NONE)?;
        let [signal, _typed] = awaited;
        Ok(signal.any() != Some(true))
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        let _terminal_gone = tcsetattr(self.terminal, SetArg::TCSANOW, &self.before);
        eprintln!();
        let _still_blocked = self.mask.thread_set_mask();
    }
}
