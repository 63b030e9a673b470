//! Finding and following devices by udev's word. There need be no udevd: its database is laid out as udevd does, in a
//! /run/udev of this process' own, and its messages are sent as udevd sends them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod sandbox;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mount_by_uuid::{Event, FindError, Hotplug, System, Tag};
use nix::mount::MsFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket,
};
use sandbox::{Lacking, Loop, ext4_image};
use tempfile::tempdir;

fn main() -> ExitCode {
    let lacking: Lacking = sandbox::enter().or_else(pretend_udevd);
    let tests: &[(&'static str, fn())] = &[
        ("what_udevd_found_is_used", what_udevd_found_is_used),
        ("a_device_that_udevd_knows_nothing_of_is_read_from", a_device_without_a_record),
        ("what_udevd_says_is_confirmed", what_udevd_says_is_confirmed),
        ("events_come_from_udevd_with_tags", events_come_from_udevd_with_tags),
        ("an_overflow_of_udevds_messages_is_told", an_overflow_is_told),
        ("messages_that_are_not_udevds_are_ignored", messages_that_are_not_udevds_are_ignored),
    ];
    // One after the other, since all of this process hear the same messages.
    let arguments =
        libtest_mimic::Arguments { test_threads: Some(1), ..libtest_mimic::Arguments::from_args() };
    libtest_mimic::run(&arguments, sandbox::trials(lacking, tests)).exit_code()
}

/// Covers /run by an empty directory with the signs of a running udevd, in a network of its own: the messages of udevd
/// go to everybody in the same network namespace, so also to another run of these tests.
fn pretend_udevd() -> Lacking {
    if nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_err() {
        return Some("needs a network namespace");
    }
    let covered = nix::mount::mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>);
    let laid_out = covered.is_ok()
        && fs::create_dir_all("/run/udev/data").is_ok()
        && fs::write("/run/udev/control", "").is_ok();
    (!laid_out).then_some("needs a /run of its own")
}

fn system() -> System {
    System::new(Path::new("/"))
}

fn fresh_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A device's entry in the database, removed when dropped, as udevd does when the device goes.
struct Entry(PathBuf);

impl Drop for Entry {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Writes the entry of a device (`I:` is the time of its initialisation, `E:` a property).
fn note(device: &Loop, properties: &[(&str, &str)]) -> Entry {
    let number = system().probe(&device.path).unwrap().devnum;
    let properties: Vec<_> = properties.iter().map(|(name, value)| format!("E:{name}={value}\n")).collect();
    let entry = Entry(format!("/run/udev/data/b{number}").into());
    fs::write(&entry.0, format!("I:123456\n{}", properties.concat())).unwrap();
    entry
}

fn what_udevd_found_is_used() {
    let directory = tempdir().unwrap();
    let uuid = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &uuid));
    let properties = [
        ("ID_FS_TYPE", "ext4"),
        ("ID_FS_UUID", &*uuid),
        ("ID_FS_LABEL", "vault"),
        ("ID_SERIAL_SHORT", "WD-1"),
        ("ID_SERIAL", "Maker_Model_WD-1"),
    ];
    let _entry = note(&device, &properties);
    assert!(system().has_udevd());
    let found = system().find(&Tag::Filesystem(uuid.parse().unwrap())).unwrap();
    assert_eq!(found.path, device.path);
    assert_eq!(found.serial.as_deref(), Some("WD-1"));
    assert_eq!(found.label.as_deref(), Some("vault"));
    assert_eq!(found.size_bytes, 8 << 20);
}

fn a_device_without_a_record() {
    let directory = tempdir().unwrap();
    let uuid = fresh_uuid();
    let device = Loop::attach(&ext4_image(directory.path(), &uuid));
    let tag = Tag::Filesystem(uuid.parse().unwrap());
    let unrecorded = system().unrecorded().unwrap();
    let listed = unrecorded.iter().find(|listed| listed.path == device.path).unwrap();
    assert_eq!(listed.tag, None);
    let scanned = system().scan().unwrap();
    let listed = scanned.iter().find(|listed| listed.path == device.path).unwrap();
    assert_eq!(listed.tag.as_ref(), Some(&tag));
    assert_eq!(system().find(&tag).unwrap().path, device.path);
}

fn what_udevd_says_is_confirmed() {
    let directory = tempdir().unwrap();
    let (uuid, other) = (fresh_uuid(), fresh_uuid());
    let device = Loop::attach(&ext4_image(directory.path(), &uuid));
    let _entry = note(&device, &[("ID_FS_TYPE", "ext4"), ("ID_FS_UUID", &other)]);
    match system().find(&Tag::Filesystem(other.parse().unwrap())) {
        Err(FindError::Stale { device: named, .. }) => assert_eq!(named, device.path),
        result => panic!("{result:?}"),
    }
}

/// The hash by which udevd marks a message's subsystem (`MurmurHash2` by Austin Appleby, seed 0).
fn subsystem_hash(text: &str) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let bytes = text.as_bytes();
    let mut hash = u32::try_from(bytes.len()).unwrap();
    let mut chunks = bytes.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// A message of udevd's: 40 bytes of header, then NUL-terminated properties (`sd-device/device-monitor.c`).
fn udevd_message(prefix: [u8; 8], properties: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in properties {
        text.extend_from_slice(format!("{name}={value}\0").as_bytes());
    }
    let length = u32::try_from(text.len()).unwrap();
    let mut message = prefix.to_vec();
    message.extend(0xfeed_cafe_u32.to_be_bytes());
    // Size of the header, place and length of the properties.
    message.extend([40, 40, length].map(u32::to_ne_bytes).concat());
    message.extend(subsystem_hash("block").to_be_bytes());
    // No device type, no tags.
    message.extend([0; 12]);
    message.extend(text);
    message
}

fn send(message: &[u8]) {
    let protocol = SockProtocol::NetlinkKObjectUEvent;
    let sender = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    let group_of_udevd = NetlinkAddr::new(0, 2);
    let raw = std::os::fd::AsRawFd::as_raw_fd(&sender);
    sendto(raw, message, &group_of_udevd, MsgFlags::empty()).unwrap();
}

const ADD: [(&str, &str); 12] = [
    ("ACTION", "add"),
    ("DEVPATH", "/devices/virtual/block/loop0"),
    ("SUBSYSTEM", "block"),
    ("DEVNAME", "/dev/loop0"),
    ("DEVTYPE", "disk"),
    ("DISKSEQ", "77"),
    ("SEQNUM", "4711"),
    ("MAJOR", "7"),
    ("MINOR", "0"),
    ("ID_FS_TYPE", "crypto_LUKS"),
    ("ID_FS_UUID", "3f1e2a60-6f5c-4b0e-9a52-8d3c1b7f0e11"),
    ("ID_SERIAL_SHORT", "WD-1"),
];

fn events_come_from_udevd_with_tags() {
    let mut hotplug = Hotplug::listen(&system()).unwrap();
    assert!(hotplug.is_from_udevd());
    send(&udevd_message(*b"libudev\0", &ADD));
    let event = hotplug.next(Some(Duration::from_secs(5))).unwrap();
    let Some(Event::Added { device }) = event else { panic!("{event:?}") };
    assert_eq!(device.path, Path::new("/dev/loop0"));
    assert_eq!(device.devnum.to_string(), "7:0");
    assert_eq!(device.tag.unwrap().to_string(), "LUKS container 3f1e2a60-6f5c-4b0e-9a52-8d3c1b7f0e11");
    assert_eq!(device.serial.as_deref(), Some("WD-1"));
    assert_eq!(device.diskseq, Some(77));
    let mut removed = ADD;
    removed[0] = ("ACTION", "remove");
    send(&udevd_message(*b"libudev\0", &removed));
    let event = hotplug.next(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(event, Some(Event::Removed { .. })), "{event:?}");
}

fn messages_that_are_not_udevds_are_ignored() {
    let mut hotplug = Hotplug::listen(&system()).unwrap();
    send(&udevd_message(*b"someone\0", &ADD));
    let mut bound = ADD;
    bound[0] = ("ACTION", "bind");
    send(&udevd_message(*b"libudev\0", &bound));
    assert_eq!(hotplug.next(Some(Duration::from_millis(300))).unwrap(), None);
}

fn an_overflow_is_told() {
    let mut hotplug = Hotplug::listen(&system()).unwrap();
    // As small as the kernel allows.
    nix::sys::socket::setsockopt(&hotplug, nix::sys::socket::sockopt::RcvBuf, &1).unwrap();
    for _ in 0..50 {
        send(&udevd_message(*b"libudev\0", &ADD));
    }
    let mut overflowed = false;
    while let Some(event) = hotplug.next(Some(Duration::from_millis(200))).unwrap() {
        overflowed |= event == Event::Overflow;
    }
    assert!(overflowed);
    send(&udevd_message(*b"libudev\0", &ADD));
    let next = hotplug.next(Some(Duration::from_secs(5))).unwrap();
    assert!(matches!(next, Some(Event::Added { .. })), "{next:?}");
}
