//! The command line of `offsite`: words, options and their help; no work is done here.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

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
    /// How many volumes to lay on it; as many as fit unless given.
    #[arg(long, value_name = "N")]
    pub volumes: Option<u32>,
    /// How to prove the random fill.
    #[arg(long, value_enum, default_value_t = VerifyMode::Full)]
    pub verify: VerifyMode,
    /// Leaves the random fill out: what was on the drive before can be recovered between the backups.
    #[arg(long)]
    pub skip_wipe: bool,
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
    /// What stands on the drive's sticker.
    #[arg(long, value_name = "STICKER")]
    pub name: String,
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
pub struct Conf {
    /// Writes below DIR in place of the system.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "import"])]
    pub out: Option<PathBuf>,
    /// Checks the configuration files below DIR against each other, and by Bacula's own programs.
    #[arg(long, value_name = "DIR")]
    pub check: Option<PathBuf>,
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
    /// Shows it again every second until interrupted.
    #[arg(long, conflicts_with = "json")]
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
    /// Adds another key file.
    Add {
        /// The block device or file.
        device: PathBuf,
        /// A key file that opens the container now.
        #[arg(long, value_name = "PATH")]
        key_file: PathBuf,
        /// The key file to add.
        #[arg(long, value_name = "PATH")]
        new_key_file: PathBuf,
        /// The slot to take; the first empty one unless given.
        #[arg(long, value_name = "N")]
        slot: Option<u8>,
    },
    /// Empties a key slot; the key file given must open another one.
    Kill {
        /// The block device or file.
        device: PathBuf,
        /// The slot to empty.
        slot: u8,
        /// A key file that opens another slot.
        #[arg(long, value_name = "PATH")]
        key_file: PathBuf,
        /// Shows what would be done, and writes nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Tells which slot a key file opens.
    Test {
        /// The block device or file.
        device: PathBuf,
        /// The key file.
        #[arg(long, value_name = "PATH")]
        key_file: PathBuf,
    },
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
}
