//! What systemd may forbid the storage daemon, and so the changer that it runs.

use std::path::{Path, PathBuf};

use super::need::Need;
use super::report::{Report, Severity, finding};
use crate::schema::host::{Host, Want};
use crate::schema::resources::Set;
use crate::syntax::text::Span;
use crate::values::program::Program;

/// Where units lie, in the order in which they count (`systemd.unit(5)`).
const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The storage daemon's units: Bacula's and Bareos's.
const UNITS: [&str; 3] = ["bacula-sd.service", "bareos-sd.service", "bareos-storage.service"];

/// One assignment of the `[Service]` section.
struct Line {
    file: PathBuf,
    text: String,
    span: Span,
    key: String,
    value: String,
}

pub(super) fn check(set: &Set<'_>, needs: &[&Need], host: &dyn Host, report: &mut Report<'_>) {
    if set.virtual_changers().next().is_none() {
        return;
    }
    for unit in UNITS {
        let service = Service(read(unit, host));
        service.protections(needs, report);
        service.namespaces(report);
        service.privileges(set, report);
    }
}

/// The unit and what is dropped in, in the order in which they count.
fn read(unit: &str, host: &dyn Host) -> Vec<Line> {
    let file = DIRECTORIES
        .iter()
        .map(|directory| Path::new(directory).join(unit))
        .find(|path| host.text(path).is_some());
    let mut dropped: Vec<PathBuf> = DIRECTORIES
        .iter()
        .flat_map(|directory| host.list(&Path::new(directory).join(format!("{unit}.d"))))
        .filter(|path| path.extension().is_some_and(|extension| extension == "conf"))
        .collect();
    dropped.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    let paths = file.into_iter().chain(dropped);
    paths
        .filter_map(|path| Some((host.text(&path)?, path)))
        .flat_map(|(text, path)| assignments(&path, &text))
        .collect()
}

fn assignments(file: &Path, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut service = false;
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if trimmed.starts_with('[') {
            service = trimmed == "[Service]";
        } else if let Some((key, value)) =
            trimmed.split_once('=').filter(|_| service && !trimmed.starts_with(['#', ';']))
        {
            lines.push(Line {
                file: file.to_owned(),
                text: text.to_owned(),
                span: Span::new(start, start + line.trim_end().len()),
                key: key.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
        start += line.len();
    }
    lines
}

struct Service(Vec<Line>);

impl Service {
    /// The last assignment counts.
    fn last(&self, key: &str) -> Option<&Line> {
        self.0.iter().rfind(|line| line.key == key).filter(|line| !line.value.is_empty())
    }

    fn is_on(&self, key: &str) -> Option<&Line> {
        self.last(key).filter(|line| matches!(line.value.as_str(), "yes" | "true" | "on" | "1"))
    }

    /// The entries of a list; an empty assignment takes all before it back.
    fn paths(&self, keys: &[&str]) -> Vec<(&Line, PathBuf)> {
        let mut found = Vec::new();
        for line in self.0.iter().filter(|line| keys.contains(&line.key.as_str())) {
            if line.value.is_empty() {
                found.retain(|(other, _): &(&Line, PathBuf)| other.key != line.key);
            }
            let entries = line.value.split_whitespace().map(|entry| entry.trim_start_matches(['-', '+']));
            found
                .extend(entries.map(|entry| (line, PathBuf::from(entry.split(':').next().unwrap_or(entry)))));
        }
        found
    }

    /// Directories that the daemon can't write, or not see.
    fn protections(&self, needs: &[&Need], report: &mut Report<'_>) {
        let writable = self.paths(&["ReadWritePaths", "BindPaths", "StateDirectory", "LogsDirectory"]);
        let opened = |path: &Path| {
            writable.iter().any(|(line, open)| match line.key.as_str() {
                "StateDirectory" => path.starts_with(Path::new("/var/lib").join(open)),
                "LogsDirectory" => path.starts_with(Path::new("/var/log").join(open)),
                _ => path.starts_with(open),
            })
        };
        let mut closed: Vec<(&Line, PathBuf, bool)> = Vec::new();
        if let Some(line) = self.last("ProtectSystem") {
            let below: &[&str] = match line.value.as_str() {
                "strict" => &["/"],
                "full" => &["/usr", "/boot", "/efi", "/etc"],
                "yes" | "true" | "on" | "1" => &["/usr", "/boot", "/efi"],
                _ => &[],
            };
            closed.extend(below.iter().map(|path| (line, PathBuf::from(path), false)));
        }
        if let Some(line) = self.last("ProtectHome") {
            let hides = line.value != "read-only";
            if !matches!(line.value.as_str(), "no" | "false" | "off" | "0") {
                closed.extend(["/home", "/root", "/run/user"].map(|path| (line, PathBuf::from(path), hides)));
            }
        }
        if let Some(line) = self.is_on("PrivateTmp") {
            closed.extend(["/tmp", "/var/tmp"].map(|path| (line, PathBuf::from(path), true)));
        }
        closed.extend(
            self.paths(&["ReadOnlyPaths", "ReadOnlyDirectories"])
                .into_iter()
                .map(|(line, path)| (line, path, false)),
        );
        closed.extend(
            self.paths(&["InaccessiblePaths", "TemporaryFileSystem"])
                .into_iter()
                .map(|(line, path)| (line, path, true)),
        );
        for need in needs {
            let writes = matches!(need.want, Want::Fill | Want::Write);
            // The kernel's own filesystems stay as they are under ProtectSystem=strict.
            let kernel = ["/dev", "/proc", "/sys"].iter().any(|top| need.path.starts_with(top));
            let forbidden = closed.iter().find(|(line, below, hides)| {
                need.path.starts_with(below)
                    && (*hides || (writes && !opened(&need.path)))
                    && !(kernel && line.key == "ProtectSystem")
            });
            if let Some((line, _, hides)) = forbidden {
                let how = if *hides { "hides" } else { "makes read-only" };
                add(
                    report,
                    line,
                    Severity::Error,
                    format!(
                        "{}={} {how} {}, which the changer has to {}",
                        line.key,
                        line.value,
                        need.path.display(),
                        need.want.verb()
                    ),
                    format!(
                        "add a drop-in with `ReadWritePaths={}` (systemctl edit), or take the line back",
                        need.path.display()
                    ),
                );
            }
        }
        if let Some(line) = self.paths(&["NoExecPaths"]).first().map(|(line, _)| *line) {
            let open = self.paths(&["ExecPaths"]);
            for need in needs.iter().filter(|need| need.want == Want::Execute) {
                let closed = self.paths(&["NoExecPaths"]).iter().any(|(_, path)| need.path.starts_with(path));
                if closed && !open.iter().any(|(_, path)| need.path.starts_with(path)) {
                    let message = format!("NoExecPaths forbids to run {}", need.path.display());
                    add(
                        report,
                        line,
                        Severity::Error,
                        message,
                        format!("add `ExecPaths={}`", need.path.display()),
                    );
                }
            }
        }
    }

    /// Mounts and devices that come after the daemon's start.
    fn namespaces(&self, report: &mut Report<'_>) {
        if let Some(line) = self.last("MountFlags").filter(|line| line.value == "private") {
            add(
                report,
                line,
                Severity::Error,
                "MountFlags=private: drives that are mounted later never appear to the storage daemon, and those mounted at its start can't be locked".to_owned(),
                "set MountFlags=slave, or remove the line".to_owned(),
            );
        }
        if let Some(line) = self.is_on("PrivateMounts") {
            add(
                report,
                line,
                Severity::Warning,
                "PrivateMounts: what the changer mounts by itself, nobody else sees; offsited's mounts still arrive".to_owned(),
                "remove the line if the changer's scripts mount drives".to_owned(),
            );
        }
        if let Some(line) = self.is_on("PrivateDevices") {
            add(
                report,
                line,
                Severity::Error,
                "PrivateDevices: the changer has no /dev/disk/by-uuid and finds no magazine that is named by its UUID".to_owned(),
                "set PrivateDevices=no in a drop-in (systemctl edit)".to_owned(),
            );
        }
        for key in ["RootDirectory", "RootImage"] {
            if let Some(line) = self.last(key) {
                let message =
                    format!("{key}: the storage daemon lives in another root, in which no drive is mounted");
                add(report, line, Severity::Error, message, "remove the line".to_owned());
            }
        }
    }

    fn privileges(&self, set: &Set<'_>, report: &mut Report<'_>) {
        if let Some(line) = self.is_on("DynamicUser") {
            add(
                report,
                line,
                Severity::Error,
                "DynamicUser: the storage daemon runs as a user to whom no volume belongs".to_owned(),
                "set User=bacula, Group=tape and DynamicUser=no".to_owned(),
            );
        }
        let raised = set.virtual_changers().find(|changer| {
            let first = changer
                .text("Changer Command")
                .and_then(|command| command.split_whitespace().next())
                .unwrap_or("");
            ["sudo", "su", "doas", "pkexec"].iter().any(|program| Path::new(first).ends_with(program))
        });
        if let (Some(line), Some(changer)) = (self.is_on("NoNewPrivileges"), raised) {
            let message =
                format!("NoNewPrivileges: the command of {} can't become another user", changer.name());
            add(
                report,
                line,
                Severity::Error,
                message,
                "call the changer directly; it needs no rights but the daemon's".to_owned(),
            );
        }
        if let Some(line) = self.last("RestrictAddressFamilies").filter(|line| !line.value.starts_with('~')) {
            let inet = line.value.split_whitespace().any(|family| matches!(family, "AF_INET" | "AF_INET6"));
            if !inet {
                let message = "RestrictAddressFamilies leaves no way to the Director: neither jobs nor the changer's bconsole work".to_owned();
                add(report, line, Severity::Error, message, "add AF_INET, AF_INET6 and AF_UNIX".to_owned());
            }
        }
        let largest = set.all(Program::Director, "Pool").filter_map(super::need::volume_size).max();
        let limit = self.last("LimitFSIZE").and_then(|line| Some((line, limit(&line.value)?)));
        if let (Some((line, limit)), Some(largest)) = (limit, largest)
            && limit < largest
        {
            let message =
                format!("LimitFSIZE={}: a volume of {largest} bytes can't be written to its end", line.value);
            add(report, line, Severity::Error, message, "set LimitFSIZE=infinity".to_owned());
        }
    }
}

/// `LimitFSIZE` in bytes; systemd's suffixes are 1024-based (`systemd.exec(5)`).
fn limit(value: &str) -> Option<u64> {
    let digits = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match value.get(digits.len()..)? {
        "" | "B" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn add(report: &mut Report<'_>, line: &Line, severity: Severity, message: String, remedy: String) {
    report.findings.push(finding("unit", severity, &line.file, &line.text, line.span, message, remedy));
}
