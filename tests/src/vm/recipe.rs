//! What goes into the guest. Every word here is part of the image's key: change it and the image is built anew.

use sha2::{Digest as _, Sha256};

/// Raised when the builder's code changes what it makes from the same words.
const VERSION: u32 = 1;

/// The Debian release in the guest.
pub(super) const SUITE: &str = "bookworm";

/// Packages beside the base system. `dma` is a mail program that starts nothing: without it Bacula brings exim.
pub(super) const PACKAGES: &[&str] = &[
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "cryptsetup-bin",
    "cryptsetup",
    "dmsetup",
    "autofs",
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "reiserfsprogs",
    "jfsutils",
    "procps",
    "psmisc",
    "strace",
    "iproute2",
    "sg3-utils",
    "smartmontools",
    "sqlite3",
    "busybox-static",
    "dma",
    "bacula-sd",
    "bacula-fd",
    "bacula-console",
    "bacula-director",
    "bacula-director-sqlite3",
];

/// The package that depends on the current kernel.
pub(super) const KERNEL: &str = "linux-image-amd64";

/// Parts of the kernel's modules that are kept, below `kernel/`.
pub(super) const MODULES: &[&str] = &[
    "arch/x86/crypto",
    "block",
    "crypto",
    "drivers/block",
    "drivers/char/hw_random",
    "drivers/char/virtio_console.ko",
    "drivers/crypto/virtio",
    "drivers/md",
    "drivers/scsi/scsi_common.ko",
    "drivers/scsi/scsi_debug.ko",
    "drivers/scsi/scsi_mod.ko",
    "drivers/scsi/sd_mod.ko",
    "drivers/scsi/ses.ko",
    "drivers/scsi/sg.ko",
    "drivers/scsi/sr_mod.ko",
    "drivers/scsi/virtio_scsi.ko",
    "drivers/usb/common",
    "drivers/usb/core",
    "drivers/usb/host",
    "drivers/usb/storage",
    "drivers/virtio",
    "fs/9p",
    "fs/autofs",
    "fs/btrfs",
    "fs/ext4",
    "fs/fat",
    "fs/fscache",
    "fs/fuse",
    "fs/jbd2",
    "fs/jfs",
    "fs/mbcache.ko",
    "fs/netfs",
    "fs/nls",
    "fs/overlayfs",
    "fs/reiserfs",
    "fs/xfs",
    "lib",
    "net/9p",
];

/// Modules that the initial file system loads to reach the root disk.
pub(super) const EARLY_MODULES: &[&str] = &["crc32c_generic", "virtio_pci", "virtio_blk", "ext4"];

/// Modules that are loaded when the machine's state is saved, so that no test waits for them.
pub(super) const LOADED_MODULES: &[&str] = &[
    "virtio_console",
    "virtio_scsi",
    "virtio_rng",
    "9p",
    "9pnet_virtio",
    "sd_mod",
    "sg",
    "dm-mod",
    "dm-crypt",
    "loop",
    "autofs4",
    "ext4",
    "aesni-intel",
    "xts",
    "algif_skcipher",
    "xhci_pci",
];

/// Units that cost time in a guest that lives for minutes.
pub(super) const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "cryptdisks-early.service",
    "cryptdisks.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "getty@tty1.service",
    "modprobe@configfs.service",
    "modprobe@drm.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "serial-getty@ttyS0.service",
    "smartmontools.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-machine-id-commit.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-timesyncd.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
];

/// Services that a test starts itself, once it has configured them.
pub(super) const NOT_STARTED: &[&str] =
    &["autofs", "bacula-director", "bacula-dir", "bacula-fd", "bacula-sd", "cron"];

/// Files that go into the guest: path, mode, contents.
pub(super) const FILES: &[(&str, u32, &str)] = &[
    ("usr/local/sbin/guest-agent", 0o755, include_str!("../../guest/image/guest-agent")),
    ("etc/systemd/system/guest-agent.service", 0o644, include_str!("../../guest/image/guest-agent.service")),
    ("etc/hostname", 0o644, "vault\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost vault\n"),
    ("etc/fstab", 0o644, "/dev/vda / ext4 defaults,noatime 0 0\n"),
    ("etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n"),
    ("etc/modules-load.d/vm.conf", 0o644, "virtio_console\nvirtio_scsi\nvirtio_rng\nsd_mod\n9pnet_virtio\n"),
    ("etc/systemd/journald.conf.d/vm.conf", 0o644, "[Journal]\nStorage=volatile\nRateLimitBurst=0\n"),
];

/// The first program in the guest, before its root file system is there.
pub(super) const INIT: &str = include_str!("../../guest/image/init");

/// What dpkg leaves out, and that it needn't wait for the disk.
pub(super) const DPKG: &str = "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\n\
    path-exclude=/usr/share/locale/*\npath-exclude=/usr/share/info/*\n";

/// The kernel's command line: quiet, and no time lost to what emulation makes slow.
pub(super) const KERNEL_ARGUMENTS: &str = "root=/dev/vda rw console=ttyS0 quiet loglevel=4 net.ifnames=0 \
    mitigations=off random.trust_cpu=on nokaslr no_timer_check tsc=reliable clocksource=tsc systemd.show_status=false";

/// The key of the image: every input of the builder, and the QEMU whose saved state it holds.
pub(super) fn key(qemu_version: &str, qemu_arguments: &[String]) -> String {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    };
    add(&VERSION.to_string());
    for list in [PACKAGES, MODULES, EARLY_MODULES, LOADED_MODULES, MASKED, NOT_STARTED] {
        add(&list.join("\n"));
    }
    for (path, mode, contents) in FILES {
        add(&format!("{path} {mode:o}\n{contents}"));
    }
    for part in [SUITE, KERNEL, INIT, DPKG, KERNEL_ARGUMENTS, qemu_version, &qemu_arguments.join("\n")] {
        add(part);
    }
    let digest: [u8; 32] = hash.finalize().into();
    format!("{:016x}", digest.first_chunk().map_or(0, |head| u64::from_be_bytes(*head)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_follows_qemu_and_its_arguments() {
        let arguments = |a: &[&str]| a.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        let key_a = key("7.2", &arguments(&["-smp", "2"]));
        assert_eq!(key_a.len(), 16);
        assert_eq!(key_a, key("7.2", &arguments(&["-smp", "2"])));
        assert_ne!(key_a, key("7.3", &arguments(&["-smp", "2"])));
        assert_ne!(key_a, key("7.2", &arguments(&["-smp", "4"])));
    }
}
