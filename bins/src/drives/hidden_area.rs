//! What an ATA drive hides behind its end: a host protected area (HPA), and what a device configuration overlay (DCO)
//! cuts off. A fill doesn't reach it. hdparm asks the drive, where it is installed; nothing here changes the drive.

use std::path::Path;

use media_wipe::Identity;

use crate::base::paths::Root;
use crate::base::program::Program;
use crate::base::shell::quoted;
use crate::base::{confirm, escape};
use crate::protocol::site_status::Problem;

/// What is known of the hidden part of a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HiddenArea {
    /// It is nothing that could have one: a file, a loop device, an NVMe drive.
    Impossible,
    /// hdparm isn't installed.
    NotAsked,
    /// The drive didn't say, or not in words that are understood; what it said.
    Unknown(String),
    /// What it said.
    Told(Ends),
}

/// The ends of a drive, in its own sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// Bytes of a sector.
    sector: u64,
    /// The end that it shows.
    shown: u64,
    /// Its end without a host protected area.
    native: u64,
    /// Its end without a configuration overlay either, as far as it told.
    real: Option<u64>,
}

/// Asks a drive. The drive isn't written to, nor are its settings changed.
pub fn look(root: &Root, device: &Path) -> HiddenArea {
    // The kernel's name of drives that take ATA commands, directly or through a bridge.
    let name = device.canonicalize().ok();
    let name = name.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    if !name.starts_with("sd") {
        return HiddenArea::Impossible;
    }
    let block = root.kernel().join("sys/class/block").join(&*name);
    // A partition has no queue of its own.
    let sector = ["queue", "../queue"].iter().find_map(|queue| {
        std::fs::read_to_string(block.join(queue).join("logical_block_size")).ok()?.trim().parse().ok()
    });
    ask(root, device, sector.unwrap_or(512))
}

fn ask(root: &Root, device: &Path, sector: u64) -> HiddenArea {
    let said = |option: &str| {
        let finished = Program::installed(root, "hdparm")?.args([option]).args([device]).run();
        Some(finished.map_or_else(|failure| failure.message().to_owned(), |finished| finished.text))
    };
    match said("-N") {
        None => HiddenArea::NotAsked,
        Some(text) => judge(&text, &said("--dco-identify").unwrap_or_default(), sector),
    }
}

/// Decides by what hdparm says to `-N` and to `--dco-identify` (hdparm 9.65).
fn judge(limits: &str, overlay: &str, sector: u64) -> HiddenArea {
    // max sectors   = 586072368/586114704, HPA is enabled
    let ends = limits.lines().find_map(|line| {
        let (shown, native) =
            line.trim().strip_prefix("max sectors")?.trim_start().strip_prefix('=')?.split_once('/')?;
        Some((shown.trim().parse::<u64>().ok()?, number(native)?))
    });
    // hdparm prints a native end that can't be true together with a question mark.
    let Some((shown, native)) = ends.filter(|(shown, native)| *shown > 0 && native >= shown) else {
        let why = limits.lines().map(str::trim).rfind(|line| !line.is_empty() && !line.ends_with(':'));
        return HiddenArea::Unknown(why.unwrap_or("it said nothing").to_owned());
    };
    let real = overlay.lines().find_map(|line| number(line.trim().strip_prefix("Real max sectors:")?));
    HiddenArea::Told(Ends { sector, shown, native, real: real.filter(|real| *real >= native) })
}

/// The number at the start of a text.
fn number(text: &str) -> Option<u64> {
    let text = text.trim_start();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

impl HiddenArea {
    /// What a person should know before the drive is filled, if anything.
    pub fn problem(&self, device: &Path) -> Option<Problem> {
        let at = quoted(&device.display().to_string());
        let shown = device.display();
        let ends = match self {
            Self::Impossible => return None,
            Self::NotAsked => {
                return Some(Problem {
                    message: format!(
                        "{shown}: nobody looked for hidden areas (HPA, DCO): hdparm isn't installed"
                    ),
                    remedy: "apt-get install hdparm".into(),
                });
            }
            Self::Unknown(why) => {
                return Some(Problem {
                    message: format!(
                        "{shown}: whether it hides an area (HPA, DCO) is unknown; hdparm says: {why}"
                    ),
                    remedy: "many USB bridges pass no such question on; a SATA port does".into(),
                });
            }
            Self::Told(ends) => ends,
        };
        let protected = (ends.native - ends.shown).saturating_mul(ends.sector);
        let cut_off = ends.real.map_or(0, |real| real - ends.native).saturating_mul(ends.sector);
        let consequence = "a fill doesn't reach it, and what lies there can be read once it is removed";
        let sure = "--yes-i-know-what-i-am-doing";
        if protected > 0 {
            return Some(Problem {
                message: format!(
                    "{shown}: a host protected area (HPA) hides {} behind its end: {consequence}",
                    confirm::size(protected)
                ),
                remedy: format!(
                    "to remove it: hdparm {sure} -N p{} {at}, then plug the drive again",
                    ends.native
                ),
            });
        }
        (cut_off > 0).then(|| Problem {
            message: format!(
                "{shown}: a device configuration overlay (DCO) cuts off {}: {consequence}",
                confirm::size(cut_off)
            ),
            remedy: format!("to remove it: hdparm {sure} --dco-restore {at}, then plug the drive again"),
        })
    }
}

/// Lists what a person should know of the hidden part of a drive that is to be filled.
pub fn list(root: &Root, identity: &Identity) {
    if let Some(problem) = of(root, identity) {
        println!("  {}", problem.message);
        println!("  {}", problem.remedy);
    }
}

/// Says on stderr what a person should know before the drive is filled; of one that is refused nothing.
pub fn warn(root: &Root, identity: &Identity) {
    if !identity.refusals.is_empty() {
        return;
    }
    if let Some(problem) = of(root, identity) {
        eprintln!("warning: {}", escape::line(&problem.message));
        eprintln!("    {}", escape::line(&problem.remedy));
    }
}

fn of(root: &Root, identity: &Identity) -> Option<Problem> {
    look(root, &identity.device).problem(&identity.device)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const DEVICE: &str = "/dev/sdz";

    fn told(limits: &str, overlay: &str) -> Option<Problem> {
        judge(limits, overlay, 512).problem(Path::new(DEVICE))
    }

    fn limits(line: &str) -> String {
        format!("\n{DEVICE}:\n {line}\n")
    }

    const NOTHING: &str = "\n/dev/sdz:\nDCO Checksum verified.\nDCO Revision: 0x0001\nThe following features can be \
                           selectively disabled via DCO:\n\tReal max sectors: 2000\n";

    #[test]
    fn a_drive_that_shows_all_of_itself_needs_no_word() {
        assert_eq!(told(&limits("max sectors   = 2000/2000, HPA is disabled"), NOTHING), None);
        assert_eq!(told(&limits("max sectors   = 2000/2000, ACCESSIBLE MAX ADDRESS disabled"), ""), None);
        // A drive without the feature.
        assert_eq!(
            told(&limits("max sectors   = 2000/2000, HPA is disabled"), "SG_IO: bad/missing sense data"),
            None
        );
    }

    #[test]
    fn a_host_protected_area_is_named_with_what_it_hides() {
        let word = told(&limits("max sectors   = 586072368/586114704, HPA is enabled"), "").unwrap();
        assert_eq!(
            word.message,
            "/dev/sdz: a host protected area (HPA) hides 21.7 MB behind its end: a fill doesn't reach it, and what lies \
             there can be read once it is removed"
        );
        assert_eq!(
            word.remedy,
            "to remove it: hdparm --yes-i-know-what-i-am-doing -N p586114704 /dev/sdz, then plug the drive again"
        );
        // In sectors of 4096 bytes it is eight times as much.
        let large = judge(&limits("max sectors   = 1000/2000, HPA is enabled"), "", 4096);
        assert!(large.problem(Path::new(DEVICE)).unwrap().message.contains("hides 4.1 MB"));
    }

    #[test]
    fn an_overlay_is_found_behind_a_drive_without_a_protected_area() {
        let overlay = NOTHING.replace("2000", "2500");
        let word = told(&limits("max sectors   = 2000/2000, HPA is disabled"), &overlay).unwrap();
        assert!(word.message.contains("(DCO) cuts off 256.0 kB"), "{word:?}");
        assert!(word.remedy.contains("--dco-restore /dev/sdz"), "{word:?}");
        // The protected area goes first: the drive restores no overlay under one.
        let word = told(&limits("max sectors   = 1000/2000, HPA is enabled"), &overlay).unwrap();
        assert!(word.message.contains("HPA"), "{word:?}");
    }

    #[test]
    fn what_the_drive_did_not_say_is_not_taken_for_nothing_hidden() {
        let mute = "\n/dev/sdz:\nSG_IO: bad/missing sense data, sb[]:  70 00 05 00 00 00 00 0a\n";
        let word = told(mute, "").unwrap();
        assert!(word.message.contains("is unknown; hdparm says: SG_IO: bad/missing sense data"), "{word:?}");
        let nonsense =
            limits("max sectors   = 1953525168/14715056(18446744073321613488?), HPA setting seems invalid");
        assert!(matches!(judge(&nonsense, "", 512), HiddenArea::Unknown(_)));
        assert!(matches!(judge("", "", 512), HiddenArea::Unknown(_)));
        // An overlay that ends before the drive does is no overlay that is understood.
        let ends = judge(&limits("max sectors   = 9000/9000, HPA is disabled"), NOTHING, 512);
        assert_eq!(ends, HiddenArea::Told(Ends { sector: 512, shown: 9000, native: 9000, real: None }));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_said_is_judged(limits in "(max sectors = )?[0-9/ (),?A-Z\n:]{0,60}", overlay in "(Real max sectors:)?[ 0-9a-z\n]{0,40}") {
            let _ = judge(&limits, &overlay, 512).problem(Path::new(DEVICE));
        }
    }

    #[test]
    fn hdparm_is_asked_nothing_that_changes_a_drive() {
        let directory = tempfile::tempdir().unwrap();
        let programs = directory.path().join("usr/sbin");
        std::fs::create_dir_all(&programs).unwrap();
        let (program, asked) = (programs.join("hdparm"), directory.path().join("asked"));
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>'{}'\ncase \"$1\" in -N) echo ' max sectors   = 10/30, HPA is enabled' ;; esac\n",
            asked.display()
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let found = ask(&Root::new(directory.path()), Path::new(DEVICE), 512);
        assert_eq!(found, HiddenArea::Told(Ends { sector: 512, shown: 10, native: 30, real: None }));
        assert_eq!(std::fs::read_to_string(asked).unwrap(), "-N /dev/sdz\n--dco-identify /dev/sdz\n");
    }

    #[test]
    fn a_missing_hdparm_is_named_and_what_is_no_such_drive_is_not_asked() {
        let word = HiddenArea::NotAsked.problem(Path::new(DEVICE)).unwrap();
        assert!(word.message.ends_with("hdparm isn't installed"), "{word:?}");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(look(&Root::new("/"), file.path()), HiddenArea::Impossible);
        assert_eq!(HiddenArea::Impossible.problem(file.path()), None);
    }
}
