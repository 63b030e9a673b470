//! A whole site inside the VM: our programs installed, drives prepared, a real Bacula at work.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::programs;
use crate::vm::{Drive, Vm};

/// What the guest's site.toml says beside the defaults: small volumes, one job over the generated tree.
const SITE: &str = r#"
[changer]
name = "c0"

[bacula.pool]
maximum_volume_bytes = "12 MB"

[[bacula.jobs]]
name = "Backup"
paths = ["/data"]
"#;

/// How long one Bacula job may take under emulation.
const JOB_LIMIT: Duration = Duration::from_mins(8);

/// A site in a running VM.
#[derive(Debug)]
pub struct GuestSite<'vm> {
    vm: &'vm Vm,
}

/// How a job ended.
#[derive(Debug)]
pub struct Job {
    /// Its number in the catalog.
    pub id: u32,
    /// The level, as `F` or `I`.
    pub level: String,
    /// Files backed up.
    pub files: u64,
    /// Bytes backed up.
    pub bytes: u64,
    /// The volumes it lies on, in order.
    pub volumes: Vec<String>,
}

impl<'vm> GuestSite<'vm> {
    /// Installs the built programs and runs `offsite init`.
    ///
    /// # Errors
    /// When they aren't built or the guest refuses.
    pub fn install(vm: &'vm Vm) -> Result<Self> {
        for name in ["offsite", "offsited", "vchanger"] {
            vm.put(&programs::release(name)?, &format!("/usr/bin/{name}"), 0o755)?;
        }
        let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bins/dist");
        for unit in ["offsited.service", "offsited-lock.service"] {
            vm.put(&units.join(unit), &format!("/etc/systemd/system/{unit}"), 0o644)?;
        }
        vm.sh("systemctl daemon-reload && modprobe dm-crypt && offsite init")?;
        vm.write("/etc/offsite/site.toml", SITE, 0o644)?;
        Ok(Self { vm })
    }

    /// Prepares a plugged blank drive as the magazine `name`; returns what `offsite prepare` said.
    ///
    /// # Errors
    /// When it fails.
    pub fn prepare(&self, drive: &Drive, name: &str) -> Result<String> {
        let serial = drive.serial();
        self.vm.sh_within(
            &format!("offsite prepare {} --name {name} --yes-destroy {serial}", drive.by_id()),
            Duration::from_mins(10),
        )
    }

    /// Generates Bacula's configuration, makes its catalog, and starts all daemons.
    ///
    /// # Errors
    /// When a daemon doesn't start.
    pub fn start(&self) -> Result<()> {
        self.vm.sh("offsite conf --replace && offsite conf --check /etc/bacula")?;
        self.vm.sh("set -e; test -s /var/lib/bacula/bacula.db || runuser -u bacula -- \
             sh -c 'sed \"s|XXX_DBNAME_XXX|bacula|\" /usr/share/bacula-director/make_sqlite3_tables | sh'; \
             chown bacula:bacula /var/lib/bacula/bacula.db")?;
        self.vm.sh_within(
            "systemctl start offsited bacula-sd bacula-fd bacula-director && \
             for n in $(seq 100); do echo version | bconsole >/dev/null 2>&1 && exit 0; sleep 0.2; done; \
             journalctl -n 40; exit 1",
            Duration::from_mins(2),
        )?;
        Ok(())
    }

    /// Fills /data: some 60 MB in large and many small files, with odd names, links and a sparse file.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn generate_tree(&self) -> Result<String> {
        self.vm.sh_within(include_str!("../guest/generate-tree.sh"), Duration::from_mins(3))
    }

    /// Changes some of /data, so that an Incremental has work.
    ///
    /// # Errors
    /// When the guest refuses.
    pub fn change_tree(&self) -> Result<()> {
        self.vm.sh(
            "cd /data && head -c 5000000 /dev/urandom > large/new && echo changed >> small/dir-3/file-7 \
             && rm small/dir-4/file-1 && mv small/dir-5/file-2 small/dir-5/renamed",
        )?;
        Ok(())
    }

    /// Runs commands in bconsole.
    ///
    /// # Errors
    /// When the console can't reach the Director.
    pub fn console(&self, commands: &str) -> Result<String> {
        self.vm.sh_within(
            &format!("bconsole -n <<'END-OF-COMMANDS'\n{commands}\nEND-OF-COMMANDS"),
            Duration::from_mins(2),
        )
    }

    /// Asks the catalog.
    ///
    /// # Errors
    /// When SQLite refuses.
    pub fn catalog(&self, query: &str) -> Result<String> {
        Ok(self
            .vm
            .sh(&format!("sqlite3 -cmd '.timeout 20000' /var/lib/bacula/bacula.db \"{query}\""))?
            .trim()
            .to_owned())
    }

    /// Waits until the catalog has exactly the volumes of `magazine` in the changer; all labelled.
    ///
    /// # Errors
    /// After `limit`, with what the catalog has instead.
    pub fn wait_for_catalog(&self, magazine: &str, limit: Duration) -> Result<usize> {
        let query = "select VolumeName from Media where InChanger=1 order by VolumeName";
        let end = Instant::now() + limit;
        loop {
            let names = self.catalog(query)?;
            let pending = self.vm.sh("offsite status --json")?.contains("\"pending\": true");
            let own = names.lines().filter(|n| n.starts_with(&format!("c0_{magazine}_"))).count();
            if own > 0 && own == names.lines().count() && !pending {
                return Ok(own);
            }
            if Instant::now() > end {
                bail!("in the changer by the catalog: {names:?}, pending: {pending}\n{}", self.journal()?);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Waits until the catalog has no volume in the changer.
    ///
    /// # Errors
    /// After `limit`.
    pub fn wait_for_empty_changer(&self, limit: Duration) -> Result<()> {
        self.vm.wait_until("no volume in the changer", limit, || {
            Ok(self.catalog("select count(*) from Media where InChanger=1")? == "0")
        })?;
        Ok(())
    }

    /// Runs the backup job at the given level and waits for its end; nobody answers any question of Bacula's.
    ///
    /// # Errors
    /// When the job doesn't end well.
    pub fn backup(&self, level: &str) -> Result<Job> {
        let said = self.console(&format!("run job=Backup level={level} yes"))?;
        let id = job_id(&said)?;
        self.wait_for_job(id, || Ok(()))
    }

    /// Starts a restore of everything to `target`, calls `between` while it waits, and returns when it ended well.
    ///
    /// # Errors
    /// When the job doesn't end well.
    pub fn restore(&self, target: &str, between: impl FnMut() -> Result<()>) -> Result<Job> {
        let said =
            self.console(&format!("restore client=backup-fd where={target} select all current done yes"))?;
        let id = job_id(&said)?;
        self.wait_for_job(id, between)
    }

    /// The volume that a waiting job asks for, if one does.
    ///
    /// # Errors
    /// When the console can't be asked.
    pub fn wanted_volume(&self) -> Result<Option<String>> {
        let text = self.console("status storage=c0")?;
        let line = text.lines().find(|l| l.contains("waiting for mount of volume"));
        Ok(line.and_then(|l| l.split('"').nth(1)).map(str::to_owned))
    }

    fn wait_for_job(&self, id: u32, mut between: impl FnMut() -> Result<()>) -> Result<Job> {
        let end = Instant::now() + JOB_LIMIT;
        loop {
            let row =
                self.catalog(&format!("select JobStatus,Level,JobFiles,JobBytes from Job where JobId={id}"))?;
            let mut fields = row.split('|');
            match fields.next().unwrap_or_default() {
                "T" => {
                    let level = fields.next().unwrap_or_default().to_owned();
                    let mut number = || {
                        fields.next().unwrap_or_default().parse::<u64>().context("a number in the catalog")
                    };
                    let (files, bytes) = (number()?, number()?);
                    let volumes = self.catalog(&format!(
                        "select distinct VolumeName from JobMedia natural join Media where JobId={id} order by JobMediaId"
                    ))?;
                    let volumes = volumes.lines().map(str::to_owned).collect();
                    return Ok(Job { id, level, files, bytes, volumes });
                }
                status @ ("E" | "f" | "A" | "e" | "W") => {
                    bail!("job {id} ended {status}\n{}\n{}", self.console("messages")?, self.journal()?)
                }
                _ if Instant::now() > end => {
                    bail!(
                        "job {id} didn't end: {}\n{}\n{}",
                        self.console("status storage=c0")?,
                        self.console("messages")?,
                        self.journal()?
                    )
                }
                _ => {}
            }
            between()?;
            std::thread::sleep(Duration::from_millis(700));
        }
    }

    fn journal(&self) -> Result<String> {
        self.vm.sh("journalctl --no-pager -n 60 -u offsited -u bacula-sd -u bacula-director; tail -n 40 /var/log/bacula/*.log 2>/dev/null || true")
    }
}

fn job_id(said: &str) -> Result<u32> {
    let word = said.split("JobId=").nth(1).context(format!("Bacula queued no job: {said}"))?;
    let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().context(format!("no job number in {word:?}"))
}
