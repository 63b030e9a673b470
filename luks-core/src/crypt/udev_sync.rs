//! Whether libdevmapper waits for udev.
#![expect(unsafe_code, reason = "libcryptsetup has no setting for it, only libdevmapper's C function has")]

use std::ffi::c_int;

// libcryptsetup links libdevmapper itself, so this adds no dependency at run time.
#[link(name = "devmapper")]
unsafe extern "C" {
    /// `libdevmapper.h`; process-wide.
    fn dm_udev_set_sync_support(sync_with_udev: c_int);
}

/// Sets it for the whole process; the caller has the turn (see `session`), so nobody else is inside the library.
pub(crate) fn set(wait_for_udev: bool) {
    // SAFETY: the function only sets a static variable of libdevmapper, which is used under the same lock.
    unsafe { dm_udev_set_sync_support(c_int::from(wait_for_udev)) };
}
