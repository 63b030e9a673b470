//! What the file daemon and the console read, and what all daemons have.
//!
//! Facts of Bacula 9.6, 11, 13 and 15 (`src/filed/filed_conf.c`, `src/console/console_conf.c`, `src/lib/parse_conf.c`)
//! and of Bareos 25 (`core/src/filed/filed_conf.cc`); tests give every directive to the programs of 9.6.7.

use super::Kind::{
    Address, Addresses, Integer, Messages, Name, Number, Password, Path, Period, Port, Reference, Run, Speed,
    Text, Texts, Word, YesNo,
};
use super::spec::{Destinations, Spec, specs};
use crate::values::words::{CIPHERS, COLLECTORS, DIGESTS};

pub(super) const FILE_DAEMON: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    FdPort Port, = "9102";
    FdAddress Address;
    FdAddresses Addresses;
    FdSourceAddress Address;
    WorkingDirectory Path, required();
    PidDirectory Path, required(), bacula();
    SubsysDirectory Path, bacula();
    PluginDirectory Path;
    SnapshotCommand Text, bacula();
    ScriptsDirectory Path;
    MaximumConcurrentJobs Number, = "20";
    Messages Reference("Messages");
    SdConnectTimeout Period, = "30 minutes";
    HeartbeatInterval Period, = "5 minutes";
    MaximumNetworkBufferSize Number;
    PkiSignatures YesNo, = "no";
    PkiEncryption YesNo, = "no";
    PkiKeyPair Path;
    PkiSigner Texts;
    PkiMasterKey Texts;
    PkiCipher Word(CIPHERS);
    PkiDigest Word(DIGESTS), bacula();
    VerId Text;
    MaximumBandwidthPerJob Speed;
    CommCompression YesNo, = "yes", bacula();
    DisableCommand Texts, bacula();
    FipsRequire YesNo, since(11), bacula();
    DedupIndexDirectory Path, since(11), bacula();
    EnableClientRehydration YesNo, = "no", since(11), bacula();
    MaximumJobErrorCount Number, = "1000", since(13), bacula();
    SdPacketCheck Number, = "0", since(13), bacula();
    PluginOptions Texts, since(15), bacula();
    Port Number, bareos();
    Address Address, bareos();
    Addresses Addresses, bareos();
    SourceAddress Address, bareos();
    PluginNames Text, bareos();
    MaximumWorkersPerJob Number, = "2", bareos();
    AllowBandwidthBursting YesNo, = "no", bareos();
    AllowedScriptDir Text, bareos();
    AllowedJobCommand Texts, bareos();
    AbsoluteJobTimeout Number, bareos();
    AlwaysUseLmdb YesNo, = "no", bareos();
    LmdbThreshold Number, bareos();
    SecureEraseCommand Text, bareos();
    LogTimestampFormat Text, bareos();
    GrpcModule Text, bareos();
    EnableKtls YesNo, = "no", bareos();
};

pub(super) const KNOWN_DIRECTOR: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Password Password, required();
    Address Text;
    Monitor YesNo, = "no";
    Remote YesNo, = "no", bacula();
    MaximumBandwidthPerJob Speed;
    DisableCommand Texts, bacula();
    Console Reference("Console"), bacula();
    DirPort Number, = "9101", since(11), bacula();
    ConnectToDirector YesNo, since(11), bacula();
    Schedule Reference("Schedule"), since(11), bacula();
    ReconnectionTime Period, = "45 minutes", since(11), bacula();
    AllowedBackupDirectories Texts, since(15), bacula();
    ExcludedBackupDirectories Texts, since(15), bacula();
    AllowedScriptDirectories Texts, since(15), bacula();
    AllowedRestoreDirectories Texts, since(15), bacula();
    BackupJobUser Text, since(15), bacula();
    RestoreJobUser Text, since(15), bacula();
    Port Number, bareos();
    ConnectionFromDirectorToClient YesNo, = "yes", bareos();
    ConnectionFromClientToDirector YesNo, = "no", bareos();
    AllowedScriptDir Text, bareos();
    AllowedJobCommand Texts, bareos();
};

pub(super) const KNOWN_CONSOLE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Password Password, required();
    Address Text;
    DirPort Number, = "9101";
};

pub(super) const CONNECTION_SCHEDULE: &[Spec] = specs! {
    Name Name, required(), since(11);
    Description Text, since(11);
    Enabled YesNo, = "yes", since(11);
    Connect Run, since(11);
};

pub(super) const CONSOLE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    RCFile Path;
    HistoryFile Path;
    Password Password, required();
    Director Text;
    HeartbeatInterval Period, = "5 minutes";
    CommCompression YesNo, = "yes", bacula();
    FipsRequire YesNo, since(11), bacula();
    HistoryLength Number, = "100", bareos();
};

pub(super) const CONSOLE_DIRECTOR: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    DirPort Number, = "9101";
    Address Text;
    Password Password, required();
    HeartbeatInterval Period, = "5 minutes";
    FipsRequire YesNo, since(11), bacula();
    HistoryFile Path, since(11), bacula();
    HistoryFileSize Integer, = "100", since(11), bacula();
    Port Number, bareos();
    DirAddress Address, bareos();
};

pub(super) const MESSAGES: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    MailCommand Text;
    OperatorCommand Text;
    Syslog Messages(Destinations::None);
    Mail Messages(Destinations::Several);
    MailOnError Messages(Destinations::Several);
    MailOnSuccess Messages(Destinations::Several);
    File Messages(Destinations::One);
    Append Messages(Destinations::One);
    Stdout Messages(Destinations::None);
    Stderr Messages(Destinations::None);
    Director Messages(Destinations::Several);
    Console Messages(Destinations::None);
    Operator Messages(Destinations::Several);
    Catalog Messages(Destinations::None);
    TimestampFormat Text, bareos();
};

pub(super) const STATISTICS: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Prefix Text;
    Metrics Texts;
    Interval Period, = "5 minutes";
    Port Number;
    Host Text;
    Type Word(COLLECTORS), required();
    File Text;
    MangleMetric YesNo;
};
