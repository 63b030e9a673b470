//! Bacula's user stays Bacula's user, on the real parts: systemd's unit, dm-crypt, udev and a Bacula at work.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use offsite_tests::guest_site::GuestSite;
use offsite_tests::vm::{Size, Vm, run_trials, trial};

/// Whatever is waited for comes within this time.
const SOON: Duration = Duration::from_mins(2);

/// Writes commands into all that Bacula's user can write, and into its console's configuration of old installations.
const PLANT: &str = r#"
set -e
install -d -m 0777 /var/traces
cat > /var/plant <<'END'
line='@|"sh -c '"'"'touch /var/traces/$(id -u)'"'"'"'
find /etc /run /srv /var/lib/offsite /var/log -xdev -type f -writable 2>/dev/null | while read -r file; do
    { printf '%s\n' "$line"; cat "$file"; } > /var/traces/new && cat /var/traces/new > "$file" && echo "$file"
done
rm -f /var/traces/new
END
runuser -u bacula -g tape -G bacula -- sh /var/plant
"#;

/// The configuration of the changer's console.
const CONSOLE: &str = "/etc/bacula/bconsole-offsite.conf";

fn main() -> ExitCode {
    run_trials(vec![trial("root_runs_nothing_that_bacula_wrote", nothing_is_run)])
}

fn nothing_is_run(vm: &Vm) -> Result<()> {
    let site = GuestSite::install(vm)?;
    let a = vm.blank_drive("DRIVE-A", Size::mib(160))?;
    vm.plug(&a)?;
    vm.wait_for("the drive", SOON, &format!("test -b {}", a.by_id()))?;
    vm.sh(&format!("offsite prepare {} --name A --skip-wipe --yes-destroy {}", a.by_id(), a.serial()))?;
    site.start()?;
    site.wait_for_catalog("A", Duration::from_mins(3))?;
    let first = vm.sh(PLANT)?;
    vm.sh(&format!("chown bacula:bacula {CONSOLE}"))?;
    let second = vm.sh(PLANT)?;
    ensure!(second.contains(CONSOLE), "the old installation is like the old ones: {second}");

    // The administrator looks, the drive is used and rests, which has the daemon ask, and the drive is ejected.
    vm.sh("offsite status; offsite status --json; offsite conf --check; offsite conf --check --run-includes; true")?;
    vm.sh("offsite unlock A && offsite lock A; offsite doctor; true")?;
    vm.wait_for("the daemon to have asked", SOON, "test -n \"$(ls /var/traces)\"")?;
    vm.sh_within("offsite eject A; systemctl restart offsited; offsite status; true", SOON)?;
    let traces = vm.sh("ls /var/traces")?;
    let bacula = vm.sh("id -u bacula")?;
    ensure!(traces.trim() == bacula.trim(), "planted commands ran as the users {traces}");
    ensure!(!first.contains(CONSOLE), "Bacula's user may write its console's configuration: {first}");

    // What was found is mended by one command.
    ensure!(vm.sh("offsite doctor; true")?.contains("bconsole-offsite.conf is not root:bacula"), "doctor");
    vm.sh(&format!("offsite conf --replace && test \"$(stat -c %U:%G:%a {CONSOLE})\" = root:bacula:640"))?;
    Ok(())
}
