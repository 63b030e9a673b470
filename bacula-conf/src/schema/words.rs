//! The keywords that some directives choose from; case doesn't count.

/// `jobtypes` of `src/dird/dird_conf.c`; the last two are Bareos's.
pub(super) const JOB_TYPES: &[&str] =
    &["Backup", "Admin", "Verify", "Restore", "Migrate", "Copy", "Archive", "Consolidate"];

/// `joblevels` of `src/dird/dird_conf.c`.
pub(super) const LEVELS: &[&str] = &[
    "Full",
    "Base",
    "Incremental",
    "Differential",
    "Since",
    "VirtualFull",
    "Catalog",
    "InitCatalog",
    "VolumeToCatalog",
    "DiskToCatalog",
    "Data",
];

/// `migtypes` of `src/dird/dird_conf.c`.
pub(super) const SELECTIONS: &[&str] = &[
    "SmallestVolume",
    "OldestVolume",
    "PoolOccupancy",
    "PoolTime",
    "PoolUncopiedJobs",
    "Client",
    "Volume",
    "Job",
    "SqlQuery",
];

/// `ReplaceOptions` of `src/dird/dird_conf.c`.
pub(super) const REPLACE: &[&str] = &["Always", "IfNewer", "IfOlder", "Never"];

/// `tapelabels` of `src/lib/parse_conf.c`.
pub(super) const LABELS: &[&str] = &["Bacula", "Ansi", "Ibm"];

/// `store_actiononpurge` of `src/dird/dird_conf.c`.
pub(super) const PURGE: &[&str] = &["None", "Truncate"];

/// `store_runscript_when` of `src/dird/dird_conf.c`.
pub(super) const WHEN: &[&str] = &["Before", "After", "AfterVSS", "AfterSnapshot", "Always", "Never"];

/// `dev_types` of `src/stored/stored_conf.c`, and Bareos's own.
pub(super) const DEVICE_TYPES: &[&str] = &[
    "File",
    "Tape",
    "Fifo",
    "VTape",
    "Vtl",
    "Aligned",
    "Null",
    "Cloud",
    "Dedup",
    "Gfapi",
    "Droplet",
    "Dplcompat",
];

/// The answers that `FS_options` of `src/dird/inc_conf.c` takes.
pub(super) const YES_NO: &[&str] = &["Yes", "No"];

/// `FS_options` of `src/dird/inc_conf.c`, `Compression`; the last five are Bareos's and Bacula 13's.
pub(super) const COMPRESSIONS: &[&str] = &[
    "Gzip", "Gzip1", "Gzip2", "Gzip3", "Gzip4", "Gzip5", "Gzip6", "Gzip7", "Gzip8", "Gzip9", "Lzo", "Zstd",
    "LzFast", "Lz4", "Lz4hc", "No",
];

/// `FS_options` of `src/dird/inc_conf.c`, `Signature`; the last two are newer than 9.6.
pub(super) const SIGNATURES: &[&str] = &["Md5", "Sha1", "Sha256", "Sha512", "Xxh64", "Xxh128"];

/// `msg_types` of `src/lib/parse_conf.c`; the last four are newer than 9.6 or Bareos's.
pub(crate) const MESSAGE_TYPES: &[&str] = &[
    "Debug",
    "Saved",
    "Abort",
    "Fatal",
    "Error",
    "Warning",
    "Info",
    "NotSaved",
    "Skipped",
    "Mount",
    "Terminate",
    "Restored",
    "Security",
    "Alert",
    "VolMgmt",
    "ErrorTerm",
    "All",
    "Events",
    "Daemon",
    "Audit",
    "Started",
];
