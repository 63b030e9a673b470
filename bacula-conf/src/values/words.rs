//! The keywords that some directives choose from; case doesn't count.

/// A keyword, and which programs know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keyword {
    /// The keyword as Bacula spells it.
    pub(crate) text: &'static str,
    known: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// In all versions of Bacula from 9 on, and in Bareos.
    All,
    /// From that version of Bacula on.
    Since(u8),
    Bareos,
}

impl Keyword {
    /// Why a program of Bacula may refuse the keyword.
    pub(crate) fn foreign(self) -> Option<String> {
        match self.known {
            Known::All => None,
            Known::Since(version) => Some(format!("Bacula has it from version {version} on")),
            Known::Bareos => Some("Bareos has it, Bacula does not".to_owned()),
        }
    }
}

/// Writes a list of keywords; `=> 15` follows one that is new in Bacula 15, `=> bareos` one that only Bareos has.
macro_rules! keywords {
    (@) => { Known::All };
    (@ bareos) => { Known::Bareos };
    (@ $version:literal) => { Known::Since($version) };
    ($($text:literal $(=> $known:tt)?),* $(,)?) => {
        &[$(Keyword { text: $text, known: keywords!(@ $($known)?) }),*]
    };
}

/// `jobtypes` of `src/dird/dird_conf.c`.
pub(crate) const JOB_TYPES: &[Keyword] = keywords![
    "Backup", "Admin", "Verify", "Restore", "Migrate", "Copy", "Archive" => bareos, "Consolidate" => bareos,
];

/// `joblevels` of `src/dird/dird_conf.c`.
pub(crate) const LEVELS: &[Keyword] = keywords![
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
    "Data"
];

/// `migtypes` of `src/dird/dird_conf.c`.
pub(crate) const SELECTIONS: &[Keyword] = keywords![
    "SmallestVolume",
    "OldestVolume",
    "PoolOccupancy",
    "PoolTime",
    "PoolUncopiedJobs",
    "Client",
    "Volume",
    "Job",
    "SqlQuery"
];

/// `ReplaceOptions` of `src/dird/dird_conf.c`.
pub(crate) const REPLACE: &[Keyword] = keywords!["Always", "IfNewer", "IfOlder", "Never"];

/// `FS_options` of `src/dird/inc_conf.c`, `Replace`.
pub(crate) const REPLACE_OPTIONS: &[Keyword] = keywords!["Always", "IfNewer", "Never"];

/// `tapelabels` of `src/lib/parse_conf.c`.
pub(crate) const LABELS: &[Keyword] = keywords!["Bacula", "Ansi", "Ibm"];

/// `store_actiononpurge` of `src/dird/dird_conf.c`.
pub(crate) const PURGE: &[Keyword] = keywords!["Truncate", "None" => bareos];

/// `store_runscript_when` of `src/dird/dird_conf.c`.
pub(crate) const WHEN: &[Keyword] = keywords![
    "Before", "After", "AfterVSS", "AfterSnapshot", "Always", "AtJobCompletion" => 15, "Queued" => 15,
    "Never" => bareos,
];

/// `dev_types` of `src/stored/stored_conf.c`, and Bareos's own.
pub(crate) const DEVICE_TYPES: &[Keyword] = keywords![
    "File", "Tape", "Fifo", "VTape", "Vtl", "Aligned", "Null", "Cloud", "Dedup" => 11, "Gfapi" => bareos,
    "Droplet" => bareos, "Dplcompat" => bareos,
];

/// `enc_types` of `src/stored/stored_conf.c`.
pub(crate) const ENCRYPTIONS: &[Keyword] = keywords!["No", "Yes", "Strong"];

/// `cloud_drivers` of `src/stored/stored_conf.c`; the others are of Bacula's enterprise edition.
pub(crate) const CLOUD_DRIVERS: &[Keyword] = keywords![
    "S3", "File", "Azure" => 11, "Google" => 11, "Oracle" => 11, "Generic" => 11, "Swift" => 11,
    "Amazon" => 11,
];

/// `trunc_opts` of `src/stored/stored_conf.c`.
pub(crate) const TRUNCATIONS: &[Keyword] = keywords!["No", "AfterUpload", "AtEndOfJob"];

/// `upload_opts` of `src/stored/stored_conf.c`.
pub(crate) const UPLOADS: &[Keyword] = keywords!["No", "AtEndOfJob", "EachPart", "Manual" => 11];

/// `proto_opts` of `src/stored/stored_conf.c`.
pub(crate) const PROTOCOLS: &[Keyword] = keywords!["Http", "Https"];

/// `uri_opts` of `src/stored/stored_conf.c`.
pub(crate) const URI_STYLES: &[Keyword] = keywords!["VirtualHost", "Path"];

/// `collectortypes` of `src/lib/parse_conf.c`.
pub(crate) const COLLECTORS: &[Keyword] = keywords!["CSV", "Graphite"];

/// `transfer_priorities` of `src/stored/stored_conf.c`.
pub(crate) const PRIORITIES: &[Keyword] = keywords!["High", "Medium", "Low"];

/// `objects_default_tiers` of `src/stored/stored_conf.c`.
pub(crate) const STORAGE_CLASSES: &[Keyword] = keywords![
    "S3Standard",
    "S3StandardIA",
    "S3IntelligentTiering",
    "S3OneZoneIA",
    "S3GlacierInstantRetrieval",
    "S3GlacierFlexibleRetrieval",
    "S3GlacierDeepArchive"
];

/// `ciphertypes` of `src/filed/filed_conf.c`.
pub(crate) const CIPHERS: &[Keyword] = keywords!["aes128", "aes192", "aes256", "blowfish"];

/// `digesttypes` of `src/filed/filed_conf.c`.
pub(crate) const DIGESTS: &[Keyword] = keywords!["md5", "sha1", "sha256"];

/// `storage_mngmt_policy` of `src/lib/parse_conf.c`.
pub(crate) const POLICIES: &[Keyword] = keywords![
    "LeastUsed", "ListedOrder", "FreeSpace" => 15, "LastBackupedTo" => 15, "FreeSpaceLeastUsed" => 15,
];

/// The answers that `FS_options` of `src/dird/inc_conf.c` takes.
pub(crate) const YES_NO: &[Keyword] = keywords!["Yes", "No"];

/// `FS_options` of `src/dird/inc_conf.c`, `Compression`.
pub(crate) const COMPRESSIONS: &[Keyword] = keywords![
    "Gzip", "Gzip1", "Gzip2", "Gzip3", "Gzip4", "Gzip5", "Gzip6", "Gzip7", "Gzip8", "Gzip9", "Lzo",
    "Zstd" => 15, "Zstd1" => 15, "Zstd3" => 15, "Zstd10" => 15, "Zstd19" => 15, "LzFast" => bareos,
    "Lz4" => bareos, "Lz4hc" => bareos, "No" => bareos,
];

/// `FS_options` of `src/dird/inc_conf.c`, `Signature`.
pub(crate) const SIGNATURES: &[Keyword] = keywords![
    "Md5", "Sha1", "Sha256", "Sha512", "Xxhash64" => 15, "Xxh3_64" => 15, "Xxh3_128" => 15,
    "Xxh128" => bareos,
];

/// `FS_options` of `src/dird/inc_conf.c`, `Dedup`.
pub(crate) const DEDUP: &[Keyword] = keywords!["Storage", "BothSides", "None"];

/// `msg_types` of `src/lib/parse_conf.c`.
pub(crate) const MESSAGE_TYPES: &[Keyword] = keywords![
    "Debug", "Saved", "Abort", "Fatal", "Error", "Warning", "Info", "NotSaved", "Skipped", "Mount",
    "Terminate", "Restored", "Security", "Alert", "VolMgmt", "ErrorTerm", "All", "Events" => 11,
    "Verified" => 13, "Audit" => bareos, "Daemon" => bareos, "Started" => bareos,
];
