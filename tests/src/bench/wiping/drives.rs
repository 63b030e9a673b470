//! Loop drives, and the commands that fill them: ours and what people type today.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use tempfile::TempDir;

use super::super::measure::{Cost, cost, find};

/// What fills a drive today.
pub(super) struct Peer {
    /// What it is called in figures.
    pub(super) name: &'static str,
    /// How it is called.
    pub(super) call: &'static str,
    /// How much it fills: less where it is slow.
    pub(super) bytes: u64,
    /// In which rounds it runs: one in that many.
    pub(super) every: usize,
    /// The program that must be there.
    pub(super) program: &'static str,
    /// The shell's words for `$device` and `$bytes`; a shell costs a millisecond.
    script: &'static str,
}

/// How much is filled by ours and by whoever is as fast.
pub(super) const WHOLE: u64 = 1 << 30;
/// How large the other drives are: each has its own costs of beginning and ending, which a short fill would show.
pub(super) const SMALL: u64 = WHOLE / 2;
const PART: u64 = 256 << 20;

pub(super) const PEERS: [Peer; 5] = [
    Peer {
        name: "dd zero",
        call: "dd if=/dev/zero bs=4M oflag=direct conv=fsync",
        bytes: WHOLE,
        every: 1,
        program: "dd",
        script: "exec dd if=/dev/zero of=$device bs=4M count=$((bytes >> 22)) oflag=direct conv=fsync",
    },
    Peer {
        name: "dd urandom",
        call: "dd if=/dev/urandom bs=1M conv=fsync, 256 MiB",
        bytes: PART,
        every: 1,
        program: "dd",
        script: "exec dd if=/dev/urandom of=$device bs=1M count=$((bytes >> 20)) conv=fsync",
    },
    Peer {
        name: "shred",
        call: "shred -n1 -v, 256 MiB",
        bytes: PART,
        every: 1,
        program: "shred",
        script: "exec shred -n1 -v -s $bytes $device",
    },
    Peer {
        name: "openssl",
        call: "openssl enc -aes-256-ctr </dev/zero | dd bs=1M conv=fsync, 512 MiB",
        bytes: WHOLE / 2,
        every: 1,
        program: "openssl",
        script: "head -c $bytes /dev/zero | \
            openssl enc -aes-256-ctr -pbkdf2 -nosalt -pass pass:$$ | dd of=$device bs=1M iflag=fullblock conv=fsync",
    },
    // Of its generators this is the fastest. It is shown no drive but this one.
    Peer {
        name: "nwipe",
        call: "nwipe --method=random --prng=twister --verify=off --noblank, 512 MiB",
        bytes: SMALL,
        every: 2,
        program: "nwipe",
        script: "set -e\n\
            numbers=$(stat -c '0x%t 0x%T' $device)\n\
            exec unshare --mount sh -ec \"mount -t tmpfs dev /dev; \
            mknod /dev/null c 1 3; mknod /dev/random c 1 8; mknod /dev/urandom c 1 9; \
            mknod $device b $((${numbers% *})) $((${numbers#* })); \
            exec nwipe --autonuke --nogui --nowait --method=random --prng=twister --rounds=1 --verify=off \
            --noblank --logfile=/dev/null $device\"",
    },
];

/// A loop device of our own; detached by its name when dropped.
pub(super) struct Loop {
    directory: TempDir,
    device: PathBuf,
    id: String,
}

impl Loop {
    pub(super) fn attach(parent: &Path, bytes: u64, direct: bool) -> Result<Self> {
        let directory = TempDir::with_prefix_in("offsite-bench-", parent)?;
        let file = directory.path().join("drive");
        std::fs::File::create_new(&file)?.set_len(bytes)?;
        let output = Command::new(find("losetup")?)
            .args(["--find", "--show"])
            .arg(format!("--direct-io={}", if direct { "on" } else { "off" }))
            .arg(&file)
            .output()?;
        ensure!(output.status.success(), "no loop device: {}", String::from_utf8_lossy(&output.stderr));
        let device = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        // A loop device's id is the path of its file.
        let id = file.canonicalize()?.display().to_string();
        let drive = Self { directory, device, id };
        // The first fill of a sparse file pays for its allocation; nobody's figure shall.
        cost(
            Command::new(find("dd")?)
                .args(["if=/dev/zero", "bs=4M", "oflag=direct", "conv=fsync"])
                .args([format!("of={}", drive.device.display()), format!("count={}", bytes >> 22)]),
        )?;
        Ok(drive)
    }

    /// What it takes a peer to fill this drive.
    pub(super) fn fill(&self, peer: &Peer) -> Result<Cost> {
        cost(&mut self.filled_by(peer))
    }

    fn filled_by(&self, peer: &Peer) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", peer.script]).env("device", &self.device).env("bytes", peer.bytes.to_string());
        command
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        match Command::new("/usr/sbin/losetup").arg("--detach").arg(&self.device).status() {
            Ok(status) if status.success() => {}
            other => eprintln!("{} was not detached: {other:?}", self.device.display()),
        }
    }
}

/// The drives on one medium.
pub(super) struct Drives {
    /// What almost everybody fills.
    pub(super) large: Loop,
    pub(super) small: Vec<Loop>,
    tiny: Loop,
}

impl Drives {
    pub(super) fn attach(parent: &Path, direct: bool) -> Result<Self> {
        let small = (0..4).map(|_| Loop::attach(parent, SMALL, direct)).collect::<Result<_>>()?;
        Ok(Self {
            large: Loop::attach(parent, WHOLE, direct)?,
            small,
            tiny: Loop::attach(parent, 4 << 20, direct)?,
        })
    }

    /// What it takes a peer to fill what it is to fill.
    pub(super) fn fill(&self, peer: &Peer) -> Result<Cost> {
        let (WHOLE_DRIVES_ONLY, Some(small)) = (peer.program, self.small.first()) else {
            return self.large.fill(peer);
        };
        // It fills drives, not bytes, and pauses for seconds before and after, whatever the size.
        let (all, pauses) = (small.fill(peer)?, self.tiny.fill(peer)?);
        Ok(Cost {
            wall: all.wall.saturating_sub(pauses.wall),
            cpu: all.cpu.saturating_sub(pauses.cpu),
            ..all
        })
    }
}

/// The peer that can't be told how much to fill.
const WHOLE_DRIVES_ONLY: &str = "nwipe";

/// Our command for drives at once.
pub(super) fn wiped(offsite: &Path, drives: &[&Loop]) -> Command {
    let mut command = Command::new(offsite);
    if let Some(first) = drives.first() {
        command.arg("--root").arg(first.directory.path().join("root"));
    }
    command.args(["wipe", "--verify", "none"]).args(drives.iter().map(|drive| &drive.device));
    command.args(drives.iter().flat_map(|drive| ["--yes-destroy", drive.id.as_str()]));
    command
}
