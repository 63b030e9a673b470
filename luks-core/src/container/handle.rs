//! Handles of libcryptsetup on headers that were checked before.

use std::path::Path;

use super::load_error::LoadError;
use crate::crypt::session::Session;
use crate::secret::bytes::Secret;

/// Lets libcryptsetup verify a random volume key, which must fail: a digest whose hash its crypto library can't compute
/// lets every key pass.
pub(crate) fn refuse_blind_digest(device: &Path, session: &mut Session) -> Result<(), LoadError> {
    let size = session.device().status_handle().get_volume_key_size();
    let random = usize::try_from(size).ok().and_then(|size| Secret::random(size).ok());
    let passes = random
        .is_none_or(|key| session.call(|handle| handle.volume_key_handle().verify(key.expose())).is_ok());
    if passes {
        let reason =
            "its digest can't tell a right key from a wrong one, its hash is unknown here".to_owned();
        return Err(LoadError::Suspicious { device: device.to_owned(), reason });
    }
    Ok(())
}

/// A handle on the header that is on a device; what it has read there may be another one than was judged, see
/// [`Header::session_to_change`].
pub(crate) fn session(device: &Path) -> Result<Session, LoadError> {
    if device.to_str().is_none() {
        return Err(LoadError::PathNotUtf8 { device: device.to_owned() });
    }
    let refused = |source| LoadError::Refused { device: device.to_owned(), source };
    let mut session = Session::init(device).map_err(refused)?;
    session.load().map_err(refused)?;
    Ok(session)
}
