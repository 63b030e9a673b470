//! Key files, LUKS containers, key slots and header backups
