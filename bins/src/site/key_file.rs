//! Loading a key file.

use std::path::Path;

use luks_core::{KeyFileError, Secret, load_key_file};

use crate::base::failure::{Exit, Failure};

/// Loads a key file, or says what is wrong with it.
pub fn load(path: &Path) -> Result<Secret, Failure> {
    load_key_file(path).map_err(|error| {
        let missing = !path.exists();
        let short = matches!(error, KeyFileError::Size { len: 1..32, .. });
        let failure = Failure::because(Exit::Usage, "the key file can't be used", &error);
        if missing {
            failure.hint("`offsite init` makes one; an existing site's key comes from its safe copy")
        } else if short {
            failure.hint(format!(
                "a shorter key can be guessed. Give each drive that it opens the site's key as well, then adopt it: \
                 cryptsetup luksAddKey DEVICE KEY-OF-THE-SITE --key-file {}",
                path.display()
            ))
        } else {
            failure
        }
    })
}
