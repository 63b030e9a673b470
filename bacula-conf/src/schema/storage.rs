//! What the storage daemon reads.
//!
//! Facts of Bacula 9.6, 11, 13 and 15 (`src/stored/stored_conf.c`)
//! and of Bareos 25 (`core/src/stored/stored_conf.cc`); tests give every directive to the programs of 9.6.7.

use super::Kind::{
    Address, Addresses, BlockSize, Name, Number, Password, Path, Period, Port, Reference, References,
    ShortText, Size, Speed, Text, Word, YesNo,
};
use super::spec::{Spec, specs};
use crate::values::words::{
    CLOUD_DRIVERS, DEVICE_TYPES, ENCRYPTIONS, LABELS, PRIORITIES, PROTOCOLS, STORAGE_CLASSES, TRUNCATIONS,
    UPLOADS, URI_STYLES,
};

pub(super) const STORAGE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    SdAddress Address;
    SdAddresses Addresses;
    Messages Reference("Messages");
    SdPort Port, = "9103";
    WorkingDirectory Path, required();
    PidDirectory Path, required(), bacula();
    SubsysDirectory Path, bacula();
    PluginDirectory Path;
    ScriptsDirectory Path;
    MaximumConcurrentJobs Number, = "20";
    ClientConnectTimeout Period, = "30 minutes", bacula();
    HeartbeatInterval Period, = "5 minutes";
    ClientConnectWait Period, = "30 minutes";
    VerId Text;
    CommCompression YesNo, = "yes", bacula();
    SsdDirectory Path, since(11), bacula();
    FipsRequire YesNo, since(11), bacula();
    DedupDirectory Path, since(11), bacula();
    DedupIndexDirectory Path, since(11), bacula();
    DedupCheckHash YesNo, since(11), bacula();
    DedupScrubMaximumBandwidth Speed, = "15728640", since(11), bacula();
    MaximumContainerSize Size, since(11), bacula();
    EncryptionCommand ShortText, since(15), bacula();
    Port Number, bareos();
    Address Address, bareos();
    Addresses Addresses, bareos();
    SourceAddress Address, bareos();
    SdSourceAddress Address, bareos();
    BackendDirectory Text, bareos();
    JustInTimeReservation YesNo, = "yes", bareos();
    PluginNames Text, bareos();
    SdConnectTimeout Period, bareos();
    FdConnectTimeout Period, bareos();
    CheckpointInterval Period, bareos();
    MaximumNetworkBufferSize Number, bareos();
    MaximumBandwidthPerJob Speed, bareos();
    AllowBandwidthBursting YesNo, = "no", bareos();
    NdmpEnable YesNo, = "no", bareos();
    NdmpSnooping YesNo, = "no", bareos();
    NdmpLogLevel Number, = "4", bareos();
    NdmpAddress Address, bareos();
    NdmpAddresses Addresses, bareos();
    NdmpPort Number, bareos();
    AutoXFlateOnReplication YesNo, = "no", bareos();
    AbsoluteJobTimeout Number, bareos();
    CollectDeviceStatistics YesNo, = "no", bareos();
    CollectJobStatistics YesNo, = "no", bareos();
    StatisticsCollectInterval Number, = "0", bareos();
    DeviceReserveByMediaType YesNo, = "no", bareos();
    FileDeviceConcurrentRead YesNo, = "no", bareos();
    SecureEraseCommand Text, bareos();
    LogTimestampFormat Text, bareos();
    EnableKtls YesNo, = "no", bareos();
};

pub(super) const DIRECTOR: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Password Password, required();
    Monitor YesNo;
    MaximumBandwidthPerJob Speed, bareos();
    KeyEncryptionKey Text, bareos();
};

pub(super) const DEVICE: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    MediaType ShortText, required();
    DeviceType Word(DEVICE_TYPES);
    ArchiveDevice ShortText, required();
    AlignedDevice ShortText, bacula();
    HardwareEndOfFile YesNo, = "yes";
    HardwareEndOfMedium YesNo, = "yes";
    BackwardSpaceRecord YesNo, = "yes";
    BackwardSpaceFile YesNo, = "yes";
    BsfAtEom YesNo, = "no";
    TwoEof YesNo, = "no";
    ForwardSpaceRecord YesNo, = "yes";
    ForwardSpaceFile YesNo, = "yes";
    FastForwardSpaceFile YesNo, = "yes";
    RemovableMedia YesNo, = "yes";
    RandomAccess YesNo;
    AutomaticMount YesNo, = "no";
    LabelMedia YesNo, = "no";
    AlwaysOpen YesNo, = "yes";
    Autochanger YesNo, = "no";
    CloseOnPoll YesNo, = "no";
    BlockPositioning YesNo, = "yes";
    UseMtiocGet YesNo, = "yes";
    CheckLabels YesNo, = "no";
    RequiresMount YesNo, = "no";
    OfflineOnUnmount YesNo, = "no";
    BlockChecksum YesNo, = "yes";
    Enabled YesNo, = "yes", bacula();
    AutoSelect YesNo, = "yes";
    ReadOnly YesNo, = "no", bacula();
    ChangerDevice ShortText;
    ControlDevice ShortText, bacula();
    ChangerCommand ShortText;
    AlertCommand ShortText;
    LockCommand ShortText, bacula();
    WormCommand ShortText, bacula();
    MaximumChangerWait Period, = "5 minutes";
    MaximumOpenWait Period, = "5 minutes";
    MaximumNetworkBufferSize Number;
    VolumePollInterval Period, = "5 minutes";
    MaximumRewindWait Period, = "5 minutes";
    MinimumBlockSize Size;
    MaximumBlockSize BlockSize;
    PaddingSize Size, = "4096", bacula();
    FileAlignment Size, = "4096", bacula();
    MinimumAlignedSize Size, = "4096", bacula();
    MaximumVolumeSize Size, bacula();
    MaximumFileSize Size, = "1000000000";
    VolumeCapacity Size;
    MinimumFeeSpace Size, = "5000000", bacula();
    MaximumConcurrentJobs Number;
    SpoolDirectory Path;
    MaximumSpoolSize Size;
    MaximumJobSpoolSize Size;
    DriveIndex Number;
    MaximumPartSize Size, = "0", bacula();
    MountPoint ShortText;
    MountCommand ShortText;
    UnmountCommand ShortText;
    WritePartCommand ShortText, bacula();
    FreeSpaceCommand ShortText, bacula();
    LabelType Word(LABELS);
    Cloud Reference("Cloud"), bacula();
    SyncOnClose YesNo, = "no", bacula();
    MaximumFileIndex Size, = "100000000", since(11), bacula();
    DedupEngine Reference("Dedup"), since(11), bacula();
    UseLintape YesNo, = "no", since(13), bacula();
    SetVolumeAppendOnly YesNo, = "no", since(15), bacula();
    SetVolumeImmutable YesNo, = "no", since(15), bacula();
    SetVolumeReadOnly YesNo, = "no", since(15), bacula();
    MinimumVolumeProtectionTime Period, = "30 days", since(15), bacula();
    MaximumVolumeParts Number, = "0", since(15), bacula();
    VolumeEncryption Word(ENCRYPTIONS), = "No", since(15), bacula();
    DeviceOptions Text, bareos();
    DiagnosticDevice ShortText, bareos();
    AccessMode Text, bareos();
    MaximumOpenVolumes Number, = "1", bareos();
    LabelBlockSize Number, = "64512", bareos();
    NoRewindOnClose YesNo, = "yes", bareos();
    DriveTapeAlertEnabled YesNo, bareos();
    DriveCryptoEnabled YesNo, bareos();
    QueryCryptoStatus YesNo, bareos();
    AutoDeflate Text, bareos();
    AutoDeflateAlgorithm Text, bareos();
    AutoDeflateLevel Number, = "6", bareos();
    AutoInflate Text, bareos();
    CollectStatistics YesNo, = "yes", bareos();
    EofOnErrorIsEot YesNo, bareos();
    Count Number, = "1", bareos();
};

pub(super) const AUTOCHANGER: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Device References("Device"), required();
    ChangerDevice ShortText, required();
    ChangerCommand ShortText, required();
    LockCommand ShortText, bacula();
};

pub(super) const CLOUD: &[Spec] = specs! {
    Name Name, required();
    Description Text;
    Driver Word(CLOUD_DRIVERS), required();
    HostName ShortText, required();
    BucketName ShortText, required();
    Region ShortText;
    AccessKey ShortText, required();
    SecretKey ShortText, required();
    Protocol Word(PROTOCOLS), = "Https";
    UriStyle Word(URI_STYLES), = "VirtualHost";
    TruncateCache Word(TRUNCATIONS);
    Upload Word(UPLOADS);
    MaximumConcurrentUploads Number, = "0";
    MaximumConcurrentDownloads Number, = "0";
    MaximumUploadBandwidth Speed;
    MaximumDownloadBandwidth Speed;
    BlobEndpoint ShortText, since(11);
    FileEndpoint ShortText, since(11);
    QueueEndpoint ShortText, since(11);
    TableEndpoint ShortText, since(11);
    EndpointSuffix ShortText, since(11);
    DriverCommand ShortText, since(11);
    TransferPriority Word(PRIORITIES), = "High", since(11);
    TransferRetention Period, = "5 days", since(11);
    StorageClass Word(STORAGE_CLASSES), since(15);
};
