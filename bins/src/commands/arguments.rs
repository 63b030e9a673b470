//! The command line of `offsite`: words, options and their help; no work is done here.

use std::path::PathBuf;
use std::time::Duration;

use bacula_conf::{Period, Size};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::civil::Date;

use crate::site::rotation::Holiday;

/// Encrypted offsite backups on removable drives, for Bacula.
#[derive(Debug, Parser)]
#[command(name = "offsite", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 wrong usage or configuration; 3 refused for safety; \
                        4 not there (drive away, volume absent); 5 time limit."
)]
pub struct Cli {
    /// Looks for /etc, /var, /run, /dev, /proc and /sys below DIR.
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sets this server up: key file, site.toml, directories.
    Init(Init),
    /// Shows drives: serial, model, size, what is on them, whether they may be used.
    Identify(Identify),
    /// Fills drives with random data and proves it by reading back.
    Wipe(Wipe),
    /// Makes a blank drive into an enrolled one: random fill, LUKS, filesystem, volumes.
    Prepare(Prepare),
    /// Enrols a drive that was made by hand or by another server, as it is.
    Adopt(Adopt),
    /// Writes, checks or imports the configuration of Bacula and the changer.
    Conf(Conf),
    /// Shows every drive: where it is, what state it is in, what to do.
    Status(Status),
    /// Tells Bacula, flushes, unmounts, locks and stops a drive, so that it can be pulled.
    Eject(Eject),
    /// Unlocks and mounts a drive now.
    Unlock(OnMagazine),
    /// Unmounts and locks a drive now; the next access unlocks it again.
    Lock(OnMagazine),
    /// Has offsited read site.toml again; fails when it keeps the previous one.
    Reload,
    /// Plays years of backups and swaps through: when drives fill, what is recycled in the safe, what a loss costs.
    Plan(Plan),
    /// Checks the whole setup and says what to mend.
    Doctor(Doctor),
    /// Works on key files.
    Key(Key),
    /// Works on LUKS containers and header files directly.
    Luks(Luks),
    /// Prints shell completions or manual pages.
    #[command(hide = true)]
    Generate(Generate),
}

/// `offsite init`
#[derive(Debug, Args)]
pub struct Init {
    /// Shows what would be made, and makes nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `offsite identify`
#[derive(Debug, Args)]
pub struct Identify {
    /// The drives to look at; all disks of this server unless given.
    pub devices: Vec<PathBuf>,
    /// Prints a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// How a fill is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum VerifyMode {
    /// Reads the whole drive back.
    Full,
    /// Reads a random sample back.
    Sample,
    /// Reads nothing back.
    None,
}

/// What becomes of a drive with regions that can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BadSectors {
    /// Stops at the first one.
    Stop,
    /// Writes all the rest and reports them; the fill still counts as failed.
    Skip,
}

/// `offsite wipe`
#[derive(Debug, Args)]
pub struct Wipe {
    /// The drives, loop devices or files to fill.
    #[arg(required = true)]
    pub devices: Vec<PathBuf>,
    /// The id (serial) that `offsite identify` shows, once for each drive: all data on it is destroyed.
    #[arg(long, value_name = "ID")]
    pub yes_destroy: Vec<String>,
    /// How to prove what was written.
    #[arg(long, value_enum, default_value_t = VerifyMode::Full)]
    pub verify: VerifyMode,
    /// What to do where the drive can't be written.
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = BadSectors::Stop)]
    pub bad_sectors: BadSectors,
    /// Goes on where an interrupted fill of the same drive stopped.
    #[arg(long)]
    pub resume: bool,
    /// Shows what would be done, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints one JSON report on stdout; progress stays on stderr.
    #[arg(long)]
    pub json: bool,
}

/// The filesystem to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Filesystem {
    /// ext4, the default.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// ReiserFS 3, where the kernel and mkreiserfs have it.
    Reiserfs,
}

/// `offsite prepare`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub struct Prepare {
    /// The blank drive; a name below /dev/disk/by-id is safest.
    pub device: PathBuf,
    /// What stands on the drive's sticker.
    #[arg(long, value_name = "STICKER")]
    pub name: String,
    /// The id (serial) that `offsite identify` shows: all data on the drive is destroyed.
    #[arg(long, value_name = "ID")]
    pub yes_destroy: Option<String>,
    /// The filesystem to make.
    #[arg(long, value_enum, default_value_t = Filesystem::Ext4)]
    pub fs: Filesystem,
    /// Makes a LUKS1 container, as the tutorial's cryptsetup did.
    #[arg(long)]
    pub luks1: bool,
    /// Authenticates each sector (dm-integrity), so that changed data are read errors: takes room, and time at writing.
    #[arg(long, conflicts_with = "luks1")]
    pub authenticated: bool,
    /// Makes a partition table with one partition, so that other systems don't offer to initialise the drive.
    #[arg(long)]
    pub gpt: bool,
    /// How many volumes to lay on it; as many as fit unless given.
    #[arg(long, value_name = "N")]
    pub volumes: Option<u32>,
    /// How to prove the random fill.
    #[arg(long, value_enum, default_value_t = VerifyMode::Full)]
    pub verify: VerifyMode,
    /// Leaves the random fill out: what was on the drive before can be recovered between the backups.
    #[arg(long)]
    pub skip_wipe: bool,
    /// Forgets an unfinished preparation of a drive with this serial number, and begins with the first step.
    #[arg(long)]
    pub restart: bool,
    /// Shows the steps, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints one JSON report on stdout.
    #[arg(long)]
    pub json: bool,
}

/// `offsite adopt`
#[derive(Debug, Args)]
pub struct Adopt {
    /// The drive with a LUKS container that the site's key file opens.
    pub device: PathBuf,
    /// What stands on the drive's sticker; read from the names of its volumes unless given.
    #[arg(long, value_name = "STICKER")]
    pub name: Option<String>,
    /// Enrols a drive that is not encrypted: whoever has it reads every backup on it.
    #[arg(long)]
    pub unencrypted: bool,
    /// Shows what would be enrolled, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints one JSON report on stdout.
    #[arg(long)]
    pub json: bool,
}

/// Parts that mount drives without offsited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Style {
    /// A udev rule that has drives unlocked, and maps for autofs(8), as in the tutorial.
    #[value(name = "udev+autofs")]
    UdevAutofs,
    /// Units of systemd, which lock an idle drive as well.
    Systemd,
}

/// `offsite conf`
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
pub struct Conf {
    /// Writes below DIR in place of the system.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "import"])]
    pub out: Option<PathBuf>,
    /// Checks the configuration files below DIR against each other, against the machine where DIR is the installed
    /// configuration (as it is when DIR is left out), and by Bacula's own programs.
    #[arg(long, value_name = "DIR", num_args = 0..=1)]
    pub check: Option<Option<PathBuf>>,
    /// Runs the commands of `@|command` includes; without this they are never run, and what they print isn't checked.
    #[arg(long, requires = "check", conflicts_with_all = ["out", "import", "style"])]
    pub run_includes: bool,
    /// With the layout "include": adds the one line that Bacula's own files need; without this it is only shown.
    #[arg(long, conflicts_with_all = ["check", "import"])]
    pub add_includes: bool,
    /// Takes over a site that runs vchanger: extends site.toml by its changer and its plugged drives, and keeps the
    /// slots of their volumes. Stop bacula-sd before.
    #[arg(long, value_name = "VCHANGER_CONF", conflicts_with = "check")]
    pub import: Option<PathBuf>,
    /// Writes what mounts the drives without offsited, from parts that every system has, in place of Bacula's files.
    #[arg(long, value_enum, value_name = "STYLE", conflicts_with_all = ["check", "import"])]
    pub style: Option<Style>,
    /// Replaces files that offsite didn't write or that were edited; the old ones are kept beside them.
    #[arg(long)]
    pub replace: bool,
    /// Shows the differences, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// `offsite status`
#[derive(Debug, Args)]
pub struct Status {
    /// Prints JSON; the form is versioned.
    #[arg(long)]
    pub json: bool,
    /// Shows it again whenever it has changed, until interrupted; with --json one line each time.
    #[arg(long)]
    pub watch: bool,
}

/// `offsite eject`
#[derive(Debug, Args)]
pub struct Eject {
    /// The sticker (or a UUID, or the serial); the only plugged drive unless given.
    pub magazine: Option<String>,
    /// Waits until nobody uses the drive, no job and no program; at most SECONDS where given.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "ever",
          value_parser = patience)]
    pub wait: Option<Duration>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// A number of seconds, or `ever`.
fn patience(text: &str) -> Result<Duration, String> {
    if text == "ever" {
        return Ok(Duration::MAX);
    }
    text.parse().map(Duration::from_secs).map_err(|_| format!("{text:?} is no number of seconds"))
}

/// `offsite unlock` and `lock`
#[derive(Debug, Args)]
pub struct OnMagazine {
    /// The sticker (or a UUID, or the serial).
    pub magazine: String,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

/// `offsite plan`; what isn't given is taken from `[rotation]` and `[bacula]` of site.toml.
#[derive(Debug, Args)]
pub struct Plan {
    /// How many drives take turns.
    #[arg(long, value_name = "N")]
    pub drives: Option<u32>,
    /// How long a drive stays in the dock, e.g. '1 week'.
    #[arg(long, value_name = "PERIOD")]
    pub swap_every: Option<Period>,
    /// How long the pool keeps a volume, e.g. '7 weeks'.
    #[arg(long, value_name = "PERIOD")]
    pub retention: Option<Period>,
    /// What one drive holds, e.g. '750 GB'.
    #[arg(long, value_name = "SIZE")]
    pub drive_size: Option<Size>,
    /// How many volumes lie on a drive; as many as fit unless given.
    #[arg(long, value_name = "N")]
    pub volumes: Option<u32>,
    /// What a full backup takes today.
    #[arg(long, value_name = "SIZE")]
    pub full: Option<Size>,
    /// What an incremental backup takes today.
    #[arg(long, value_name = "SIZE")]
    pub incremental: Option<Size>,
    /// Days between two full backups.
    #[arg(long, value_name = "DAYS")]
    pub full_every: Option<u32>,
    /// By how many percent the backups grow in a year.
    #[arg(long, value_name = "PERCENT")]
    pub growth: Option<u32>,
    /// Days on which nobody swaps drives: 2026-12-24, or 2026-12-24..2027-01-06.
    #[arg(long = "holiday", value_name = "DAYS")]
    pub holidays: Vec<Holiday>,
    /// The first day; today unless given.
    #[arg(long, value_name = "DATE")]
    pub start: Option<Date>,
    /// How many years to play through.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub years: u32,
    /// Prints JSON; the form is versioned.
    #[arg(long)]
    pub json: bool,
}

/// `offsite doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Prints a JSON array of findings.
    #[arg(long)]
    pub json: bool,
}

/// `offsite key`
#[derive(Debug, Args)]
pub struct Key {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The subcommands of `offsite key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a random key file (0400) and prints its fingerprint; never overwrites.
    Generate {
        /// Where to write it.
        path: PathBuf,
        /// Its length in bytes.
        #[arg(long, value_name = "BYTES", default_value_t = 4096)]
        size: usize,
    },
    /// Prints the fingerprint of a key file, which reveals nothing of the key.
    Fingerprint {
        /// The key file; the site's unless given.
        path: Option<PathBuf>,
    },
    /// Proves a copy of the key without the drives: opens every header backup with it.
    Test {
        /// The copy, for example on a memory stick (its owner and mode don't matter); a sealed one; or enough shares.
        #[arg(required_unless_present = "recovery_key", conflicts_with = "recovery_key")]
        copy: Vec<PathBuf>,
        /// The file of age identities that open a sealed copy; a passphrase is asked for without it.
        #[arg(long, value_name = "PATH")]
        identity: Option<PathBuf>,
        /// Asks for a recovery key, from the terminal or standard input.
        #[arg(long)]
        recovery_key: bool,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tells which drive takes which key: by its header backup, and by the drive itself where it is plugged.
    Status {
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Puts a new key in the place of the site's; drives get it as they are plugged. Run it again to go on.
    Rotate {
        /// A copy of the new key that was put away (for shares: each of them), to be proven; only then is the old key
        /// removed from drives.
        #[arg(long, value_name = "PATH")]
        copy: Vec<PathBuf>,
        /// The file of age identities that open a sealed copy; a passphrase is asked for without it.
        #[arg(long, value_name = "PATH", requires = "copy", conflicts_with = "without_copy")]
        identity: Option<PathBuf>,
        /// Removes the old key from drives although no copy of the new one is proven.
        #[arg(long, conflicts_with = "copy")]
        without_copy: bool,
        /// Shows what would be done, and changes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Seals the key for the safe, in the format of age, or splits it among people.
    Export {
        /// The file to write; never overwritten. With --split: the beginning of the files' names.
        to: PathBuf,
        /// The key file; the site's unless given.
        #[arg(long, value_name = "PATH")]
        key_file: Option<PathBuf>,
        /// Who can open it: a public key of the form age1...; may be repeated.
        #[arg(long, value_name = "AGE1...", required_unless_present_any = ["passphrase", "split"])]
        recipient: Vec<String>,
        /// Asks for a passphrase that opens it, at the terminal or from standard input.
        #[arg(long, conflicts_with = "recipient")]
        passphrase: bool,
        /// Makes N shares, of which any K together give the key back.
        #[arg(long, value_name = "K/N", conflicts_with_all = ["recipient", "passphrase"])]
        split: Option<String>,
    },
    /// Brings a sealed, split or copied key back, and makes sure that it is the site's.
    Import {
        /// The sealed key, enough shares, or a plain copy.
        #[arg(required = true)]
        from: Vec<PathBuf>,
        /// The file of age identities that open it; a passphrase is asked for without it.
        #[arg(long, value_name = "PATH")]
        identity: Option<PathBuf>,
        /// Where to write the key; the site's key file unless given. Never overwritten.
        #[arg(long, value_name = "PATH")]
        to: Option<PathBuf>,
        /// The fingerprint that it must have; the site's unless given.
        #[arg(long, value_name = "FINGERPRINT")]
        fingerprint: Option<String>,
    },
}

/// `offsite luks`
#[derive(Debug, Args)]
pub struct Luks {
    /// What to do.
    #[command(subcommand)]
    pub command: LuksCommand,
}

/// The subcommands of `offsite luks`.
#[derive(Debug, Subcommand)]
pub enum LuksCommand {
    /// Makes a container whose only key is the key file, in slot 1.
    Format {
        /// The block device or file.
        device: PathBuf,
        /// The key file.
        #[arg(long, value_name = "PATH")]
        key_file: PathBuf,
        /// Makes LUKS1 in place of LUKS2.
        #[arg(long)]
        luks1: bool,
        /// Authenticates each sector (dm-integrity), so that changed data are read errors; writes the whole device once.
        #[arg(long, conflicts_with = "luks1")]
        authenticated: bool,
        /// Makes a partition table with one partition, and the container in it.
        #[arg(long)]
        gpt: bool,
        /// The slot that takes the key.
        #[arg(long, value_name = "N", default_value_t = 1)]
        slot: u8,
        /// The device's id (serial; the path of a file): what it holds is destroyed.
        #[arg(long, value_name = "ID")]
        yes_destroy: Option<String>,
        /// Shows what would be done, and writes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Lists the key slots.
    Slots {
        /// The block device or file.
        device: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Adds another key: a key file, a new recovery key that is shown once, or a typed passphrase.
    Add {
        /// The block device or file.
        device: PathBuf,
        /// The key that opens it now.
        #[command(flatten)]
        auth: AuthKey,
        /// The key file to add.
        #[arg(long, value_name = "PATH", required_unless_present_any = ["new_recovery_key", "new_passphrase"])]
        new_key_file: Option<PathBuf>,
        /// Makes a recovery key, to be written down: 256 random bits, in slot 2 unless said otherwise.
        #[arg(long, conflicts_with = "new_key_file")]
        new_recovery_key: bool,
        /// Asks for a passphrase, stretched by Argon2id.
        #[arg(long, conflicts_with_all = ["new_key_file", "new_recovery_key"])]
        new_passphrase: bool,
        /// Draws the recovery key as a QR code: a file ending in .png or .svg.
        #[arg(long, value_name = "FILE", requires = "new_recovery_key", conflicts_with_all = ["new_key_file", "new_passphrase"])]
        picture: Option<PathBuf>,
        /// The slot to take; the first empty one unless given.
        #[arg(long, value_name = "N")]
        slot: Option<u8>,
    },
    /// Puts another key file in the place of the given one, which is removed when the new one was proven.
    Change {
        /// The block device or file.
        device: PathBuf,
        /// The key file that goes.
        #[arg(long, value_name = "PATH")]
        key_file: PathBuf,
        /// The key file that comes.
        #[arg(long, value_name = "PATH")]
        new_key_file: PathBuf,
    },
    /// Empties a key slot; the key given must open another one.
    Kill {
        /// The block device or file.
        device: PathBuf,
        /// The slot to empty.
        slot: u8,
        /// The key that opens it now.
        #[command(flatten)]
        auth: AuthKey,
        /// Shows what would be done, and writes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Tells which slot a key opens.
    Test {
        /// The block device or file.
        device: PathBuf,
        /// The key that opens it now.
        #[command(flatten)]
        auth: AuthKey,
    },
    /// Mends one damaged copy of a LUKS2 header from the other one.
    Repair {
        /// The block device or file.
        device: PathBuf,
    },
    /// Makes the header that an enrolled drive has now the enrolled one, after it was changed by hand, and backs it up; its
    /// volume key must be the enrolled one.
    Accept {
        /// The magazine's sticker.
        magazine: String,
        /// Goes on although nothing is left of the enrolled header by which this one could be proven.
        #[arg(long)]
        unproven: bool,
        /// Shows what was changed, and takes nothing over.
        #[arg(long)]
        dry_run: bool,
    },
    /// Writes an enrolled drive's ruined header anew, from its backup, after making sure that it is this drive's.
    Restore {
        /// The drive.
        device: PathBuf,
        /// The sticker; found by the drive's serial number unless given.
        #[arg(long, value_name = "STICKER")]
        name: Option<String>,
        /// The id (serial) that `offsite identify` shows: its header is overwritten.
        #[arg(long, value_name = "ID")]
        yes_overwrite: Option<String>,
        /// Goes on although nothing on the drive speaks for it (more than its header is lost); serial number, size and
        /// place must leave no doubt then.
        #[arg(long)]
        unproven: bool,
        /// Shows what would be done, and writes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// A key that opens a container now.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct AuthKey {
    /// A key file that opens the container.
    #[arg(long, value_name = "PATH")]
    pub key_file: Option<PathBuf>,
    /// Asks for a recovery key, from the terminal or standard input.
    #[arg(long)]
    pub recovery_key: bool,
    /// Asks for a passphrase, at the terminal or from standard input.
    #[arg(long)]
    pub passphrase: bool,
}

/// `offsite generate`
#[derive(Debug, Args)]
pub struct Generate {
    /// The directory to write to.
    pub directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        super::Cli::command().debug_assert();
    }

    /// clap drops the demand for another option where that one is excluded.
    #[test]
    fn no_option_is_ignored_in_silence() {
        for line in [
            "luks add d --key-file k --new-key-file n --picture p.png",
            "luks add d --key-file k --new-passphrase --picture p.png",
            "luks add d --key-file k --picture p.png",
            "conf --out o --run-includes",
            "conf --style systemd --run-includes",
            "conf --import v --run-includes",
            "key rotate --without-copy --identity i",
        ] {
            let words = ["offsite"].into_iter().chain(line.split(' '));
            assert!(super::Cli::command().try_get_matches_from(words).is_err(), "{line}");
        }
    }
}
