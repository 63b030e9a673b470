//! `offsite luks add`: another key for a container.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use luks_core::{AddKeyError, Container, KeySlot, RecoveryKey, Secret, SecretKind, SlotState};

use crate::base::atomic_file;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;
use crate::records::header_changes;

/// The key to be added.
pub(super) enum NewKey {
    /// From a file.
    File(Secret),
    /// Typed.
    Passphrase(Secret),
    /// Made now, to be written down.
    Recovery {
        /// The key.
        key: RecoveryKey,
        /// Where its QR code goes.
        picture: Option<PathBuf>,
    },
}

impl NewKey {
    /// Makes a recovery key; the picture's file must not be there.
    pub(super) fn recovery(picture: Option<&Path>) -> Result<Self, Failure> {
        if let Some(path) = picture {
            if !matches!(extension(path), Some("png" | "svg")) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{} ends neither in .png nor in .svg", path.display()),
                ));
            }
            if path.symlink_metadata().is_ok() {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("{} exists and is not overwritten", path.display()),
                ));
            }
        }
        let key = RecoveryKey::generate().or_fail("no recovery key was made")?;
        Ok(Self::Recovery { key, picture: picture.map(Path::to_owned) })
    }

    fn secret(&self) -> (&Secret, SecretKind) {
        match self {
            Self::File(secret) => (secret, SecretKind::KeyFile),
            Self::Passphrase(secret) => (secret, SecretKind::Passphrase),
            Self::Recovery { key, .. } => (key.secret(), SecretKind::KeyFile),
        }
    }

    /// A recovery key has a slot of its own, where it is free.
    fn usual_slot(&self, container: &Container) -> Result<Option<KeySlot>, Failure> {
        let slots = container.slots().or_fail("cannot list the key slots")?;
        let free = slots.iter().any(|info| info.slot == KeySlot::TWO && info.state == SlotState::Empty);
        Ok((free && matches!(self, Self::Recovery { .. })).then_some(KeySlot::TWO))
    }
}

/// Adds it; a recovery key is shown when it opens the container, and never again. It is shown before anything else can
/// fail.
pub(super) fn run(
    root: &Root,
    container: &Container,
    auth: &Secret,
    new: &NewKey,
    slot: Option<KeySlot>,
) -> Result<(), Failure> {
    let device = container.device().display();
    let slot = match slot {
        Some(slot) => Some(slot),
        None => new.usual_slot(container)?,
    };
    let (secret, kind) = new.secret();
    let (slot, backed_up) = header_changes::guarded(
        root,
        container,
        auth,
        auth,
        |slot| vec![*slot],
        || {
            container.add_key(auth, secret, kind, slot).map_err(|error| {
                let exit = match &error {
                    AddKeyError::Occupied { .. } | AddKeyError::Full { .. } => Exit::Refused,
                    AddKeyError::NoSuchSlot { .. } => Exit::Usage,
                    _ => Exit::Failed,
                };
                Failure::because(exit, format!("no key was added to {device}"), &error)
            })
        },
    )?;
    if let NewKey::Recovery { key, picture } = new {
        if let Err(error) = show(key, &format!("{device}: key added to slot {slot}")) {
            return Err(take_back(root, container, auth, slot, &error));
        }
        draw(key, picture.as_deref())?;
    } else {
        println!("{device}: key added to slot {slot}");
    }
    backed_up
}

/// Shows a recovery key, the only time that it can be.
fn show(key: &RecoveryKey, added: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{added}\n\nThe recovery key, shown this once; write it down and keep it away from the drive:\n\n    {}\n",
        key.expose_text()
    )?;
    out.flush()
}

/// Nobody knows a recovery key that couldn't be shown, so it must not stay.
fn take_back(root: &Root, container: &Container, auth: &Secret, slot: KeySlot, error: &io::Error) -> Failure {
    let device = container.device().display();
    let removed = header_changes::guarded(
        root,
        container,
        auth,
        auth,
        |()| vec![slot],
        || container.kill_slot(slot, auth).or_fail("it could not be removed again"),
    );
    match removed.and_then(|((), backed_up)| backed_up) {
        Ok(()) => Failure::because(
            Exit::Failed,
            "the recovery key could not be shown, so it was removed again",
            error,
        ),
        Err(failure) => Failure::new(
            Exit::Failed,
            format!("the recovery key in slot {slot} could not be shown: {error}; {}", failure.message()),
        )
        .hint(format!("nobody knows that key; remove it: offsite luks kill {device} {slot}")),
    }
}

fn draw(key: &RecoveryKey, picture: Option<&Path>) -> Result<(), Failure> {
    let drawn = key.picture().ok_or_else(|| Failure::new(Exit::Failed, "the key can't be drawn"))?;
    if let Some(path) = picture {
        let refused = || Failure::new(Exit::Failed, format!("{} could not be drawn", path.display()));
        match extension(path) {
            Some("png") => atomic_file::replace(path, 0o400, &drawn.png().ok_or_else(refused)?)?,
            _ => atomic_file::replace(path, 0o400, drawn.svg().as_bytes())?,
        }
        println!("{}: its QR code; print it, then destroy the file", path.display());
    } else if io::stdout().is_terminal() {
        // Not by the macros, whose copies would stay in memory.
        let mut out = io::stdout().lock();
        let shown = out.write_all(drawn.terminal().as_bytes()).and_then(|()| writeln!(out));
        shown.or_fail("the key's QR code could not be shown")?;
    }
    println!(
        "It opens the drive at `cryptsetup open` as well. To prove what was written down: offsite key test --recovery-key"
    );
    Ok(())
}

fn extension(path: &Path) -> Option<&str> {
    path.extension()?.to_str()
}
