//! The site.toml that a new site begins with.

/// What a new site.toml says.
pub const FIRST_SITE: &str = r#"# The one description of this site; everything else is generated from it: offsite conf.
# Every key is optional; those below show their defaults.

# key_file = "/etc/offsite/key"
# mount_root = "/srv/offsite"     # drives appear here, each under its filesystem's UUID
# idle_seconds = 30               # an unused drive is unmounted and locked after this
# sync = false                    # true: each write reaches the drive before it returns (slower)

[changer]
# name = "c0"                     # also the name of the Director's Storage resource

# [bacula]                        # daemons, pool, schedule, jobs: see docs/administrator.md

# [[magazine]] tables, one for each drive, are added by `offsite prepare` and `offsite adopt`.
"#;
