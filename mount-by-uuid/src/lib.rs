//! Find, mount on demand and unmount filesystems by UUID
