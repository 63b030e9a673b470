//! What the Director reads but for jobs and pools.
//!
//! Facts of Bacula 9.6, 11, 13 and 15 (`src/dird/dird_conf.c`, `src/dird/inc_conf.c`)
//! and of Bareos 25 (`core/src/dird/dird_conf.cc`); tests give every directive to the programs of 9.6.7.

use super::Kind::{
    Acl, Address, Addresses, Codes, Digits, Each, FileList, Integer, List, Name, Number, Options, Password,
    Path, Period, Port, Reference, Run, ShortText, Size, Speed, Text, Texts, Word, YesNo, YesNoOrName,
};
use super::spec::{Spec, specs};
use crate::values::words::{COMPRESSIONS, DEDUP, REPLACE_OPTIONS, SIGNATURES, YES_NO};

pub(super) const DIRECTOR: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Messages Reference("Messages");
    DirPort Port, = "9101";
    DirAddress Address;
    DirAddresses Addresses;
    DirSourceAddress Address;
    QueryFile Path, required();
    WorkingDirectory Path, required();
    PluginDirectory Path;
    ScriptsDirectory Path;
    PidDirectory Path, required(), bacula();
    SubsysDirectory Path, bacula();
    MaximumConcurrentJobs Number, = "20";
    MaximumReloadRequests Number, = "32", bacula();
    MaximumConsoleConnections Number, = "20";
    Password Password, required();
    FdConnectTimeout Period, = "3 minutes";
    SdConnectTimeout Period, = "30 minutes";
    HeartbeatInterval Period, = "5 minutes";
    StatisticsRetention Period, = "1860 days";
    VerId Text;
    CommCompression YesNo, = "yes", bacula();
    EventsRetention Period, = "30 days", since(11), bacula();
    Catalog Reference("Catalog"), since(11), bacula();
    AutoPrune YesNo, = "yes", since(11), bacula();
    FipsRequire YesNo, since(11), bacula();
    MalwareDatabaseCommand Text, since(15), bacula();
    CustomerId Text, since(15), bacula();
    Port Number, bareos();
    Address Text, bareos();
    Addresses Addresses, bareos();
    SourceAddress Text, bareos();
    PluginNames Text, bareos();
    Subscriptions Number, = "0", bareos();
    StatisticsCollectInterval Number, = "0", bareos();
    KeyEncryptionKey Text, bareos();
    NdmpSnooping YesNo, bareos();
    NdmpLogLevel Number, = "4", bareos();
    NdmpNamelistFhinfoSetZeroForInvalidUquad YesNo, = "no", bareos();
    AbsoluteJobTimeout Number, bareos();
    Auditing YesNo, = "no", bareos();
    AuditEvents Text, bareos();
    SecureEraseCommand Text, bareos();
    LogTimestampFormat Text, bareos();
    EnableKtls YesNo, = "no", bareos();
};

pub(super) const CONSOLE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Password Password, required();
    JobAcl Acl;
    ClientAcl Acl;
    StorageAcl Acl;
    ScheduleAcl Acl;
    RunAcl Acl, bacula();
    PoolAcl Acl;
    CommandAcl Acl;
    FileSetAcl Acl;
    CatalogAcl Acl;
    WhereAcl Acl;
    RestoreClientAcl Acl, bacula();
    BackupClientAcl Acl, bacula();
    PluginOptionsAcl Acl;
    DirectoryAcl Acl, bacula();
    UserIdAcl Acl, since(11), bacula();
    AuthenticationPlugin Text, since(13), bacula();
    AuthorizationPlugin Text, since(13), bacula();
    Profile Texts, bareos();
    UsePamAuthentication YesNo, = "no", bareos();
};

pub(super) const CLIENT: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    FdAddress Text, means("Address");
    Address Text, required();
    FdPort Number, = "9102";
    FdPassword Password, means("Password");
    Password Password, required();
    FdStorageAddress Text, bacula();
    Catalog Reference("Catalog"), required();
    FileRetention Period, = "60 days";
    JobRetention Period, = "180 days";
    HeartbeatInterval Period, = "5 minutes";
    AutoPrune YesNo, = "yes";
    SDCallsClient YesNo, = "no", bacula();
    SnapshotRetention Period, = "0", bacula();
    MaximumConcurrentJobs Number, = "1";
    MaximumBandwidthPerJob Speed;
    Enabled YesNo, = "yes";
    AllowFDConnections YesNo, = "no", since(11), bacula();
    Protocol Text, bareos();
    AuthType Text, bareos();
    LanAddress Text, bareos();
    Port Number, bareos();
    Username Text, bareos();
    Passive YesNo, = "no", bareos();
    ConnectionFromDirectorToClient YesNo, = "yes", bareos();
    ConnectionFromClientToDirector YesNo, = "no", bareos();
    HardQuota Size, = "0", bareos();
    SoftQuota Size, = "0", bareos();
    SoftQuotaGracePeriod Period, bareos();
    StrictQuotas YesNo, = "no", bareos();
    QuotaIncludeFailedJobs YesNo, = "yes", bareos();
    NdmpLogLevel Number, = "4", bareos();
    NdmpBlockSize Size, = "64512", bareos();
    NdmpUseLmdb YesNo, = "yes", bareos();
};

pub(super) const STORAGE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    SdPort Number, = "9103";
    SdAddress Text, means("Address");
    Address Text, required();
    FdStorageAddress Text, bacula();
    SdPassword Password, means("Password");
    Password Password, required();
    Device Texts, required();
    MediaType ShortText, required();
    Autochanger YesNoOrName, = "no";
    SharedStorage Reference("Storage"), bacula();
    Enabled YesNo, = "yes";
    AllowCompression YesNo, = "yes";
    HeartbeatInterval Period, = "5 minutes";
    MaximumConcurrentJobs Number, = "1";
    MaximumConcurrentReadJobs Number, = "0";
    SddPort Number, means("SdPort"), bacula();
    Protocol Text, bareos();
    AuthType Text, bareos();
    LanAddress Text, bareos();
    Port Number, bareos();
    Username Text, bareos();
    CacheStatusInterval Period, bareos();
    PairedStorage Text, bareos();
    MaximumBandwidthPerJob Speed, bareos();
    CollectStatistics YesNo, = "no", bareos();
    NdmpChangerDevice ShortText, bareos();
};

pub(super) const CATALOG: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    DbAddress Text, means("Address");
    Address Text;
    DbPort Number;
    DbPassword Text, means("Password");
    Password Text;
    DbUser Text, means("User");
    User Text;
    DbName Text, required();
    DbDriver Text, bacula();
    DbSocket Text;
    DbSslMode Text, bacula();
    DbSslKey Text, bacula();
    DbSslCert Text, bacula();
    DbSslCa Text, bacula();
    DbSslCaPath Text, bacula();
    MultipleConnections YesNo;
    DisableBatchInsert YesNo, = "no";
    Port Number, bareos();
    Socket Text, bareos();
    Reconnect YesNo, = "yes", bareos();
    ExitOnFatal YesNo, = "no", bareos();
    MinConnections Number, = "1", bareos();
    MaxConnections Number, = "5", bareos();
    IncConnections Number, = "1", bareos();
    IdleTimeout Number, = "30", bareos();
    ValidateTimeout Number, = "120", bareos();
};

pub(super) const SCHEDULE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Run Run;
    Enabled YesNo, = "yes";
};

pub(super) const COUNTER: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Minimum Integer, = "0";
    Maximum Number, = "2147483647";
    WrapCounter Reference("Counter");
    Catalog Reference("Catalog");
};

pub(super) const FILE_SET: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    IgnoreFileSetChanges YesNo, = "no";
    EnableVss YesNo, = "yes";
    EnableSnapshot YesNo, = "no", bacula();
    Include FileList;
    Exclude FileList;
};

pub(super) const FILE_LIST: &[Spec] = specs! {
    File Each;
    Plugin Each;
    ExcludeDirContaining Each;
    Options Options;
};

pub(super) const OPTIONS: &[Spec] = specs! {
    Compression Word(COMPRESSIONS);
    Signature Word(SIGNATURES);
    OneFs Word(YES_NO);
    Recurse Word(YES_NO);
    Sparse Word(YES_NO);
    HardLinks Word(YES_NO);
    Replace Word(REPLACE_OPTIONS);
    Portable Word(YES_NO);
    MtimeOnly Word(YES_NO);
    KeepAtime Word(YES_NO);
    Exclude Word(YES_NO);
    AclSupport Word(YES_NO);
    IgnoreCase Word(YES_NO);
    HfsPlusSupport Word(YES_NO);
    NoAtime Word(YES_NO);
    EnhancedWild Word(YES_NO);
    CheckFileChanges Word(YES_NO);
    HonorNoDumpFlag Word(YES_NO);
    XattrSupport Word(YES_NO);
    ReadFifo Word(YES_NO);
    BaseJob Codes, bacula();
    Accurate Codes;
    Verify Codes;
    StripPath Digits;
    Regex Each;
    RegexDir Each;
    RegexFile Each;
    Base Each, bacula();
    Wild Each;
    WildDir Each;
    WildFile Each;
    Plugin Each;
    FsType List;
    DriveType List;
    Dedup Word(DEDUP), since(11), bacula();
    Size Text, bareos();
    Shadowing Word(YES_NO), bareos();
    AutoExclude Word(YES_NO), bareos();
    ForceEncryption Word(YES_NO), bareos();
    Meta Text, bareos();
};

pub(super) const PROFILE: &[Spec] = specs! {
    Name Name, required(), bareos();
    Description Text, bareos();
    JobAcl Acl, bareos();
    ClientAcl Acl, bareos();
    StorageAcl Acl, bareos();
    ScheduleAcl Acl, bareos();
    PoolAcl Acl, bareos();
    CommandAcl Acl, bareos();
    FileSetAcl Acl, bareos();
    CatalogAcl Acl, bareos();
    WhereAcl Acl, bareos();
    PluginOptionsAcl Acl, bareos();
};

pub(super) const TENANT: &[Spec] = specs! {
    Name Name, required(), since(15), bacula();
    Description Text, since(15), bacula();
    MaximumVolumeBytes Size, since(15), bacula();
    WarningVolumeBytes Size, since(15), bacula();
    MaximumClients Integer, since(15), bacula();
    MaximumJobs Integer, since(15), bacula();
    MaximumStorages Integer, since(15), bacula();
    Isolated YesNo, since(15), bacula();
    Enabled YesNo, = "yes", since(15), bacula();
};
