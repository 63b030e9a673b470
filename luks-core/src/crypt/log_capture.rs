//! What libcryptsetup says about a failure, which it tells only to a process-wide log callback.
#![expect(unsafe_code, reason = "the callback is called from C with a C string")]

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;

use libcryptsetup_rs::consts::vals::CryptLogLevel;

thread_local! {
    /// Messages since the last [`start`] on this thread: the callback runs on the thread that made the call.
    static MESSAGES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static INSTALL: Once = Once::new();

/// Forgets earlier messages of this thread and makes sure that new ones are caught.
pub(crate) fn start() {
    INSTALL.call_once(|| libcryptsetup_rs::set_log_callback::<()>(Some(callback), None));
    MESSAGES.with_borrow_mut(Vec::clear);
}

/// The error messages since [`start`], joined to one line; empty when there was none.
pub(crate) fn take() -> String {
    MESSAGES.with_borrow_mut(std::mem::take).join("; ")
}

unsafe extern "C" fn callback(level: c_int, message: *const c_char, _user: *mut c_void) {
    if level != CryptLogLevel::Error as c_int || message.is_null() {
        return;
    }
    // SAFETY: libcryptsetup passes a string that ends with NUL and lives as long as the call.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let line = text.trim().trim_end_matches('.').to_owned();
    // A panic must not cross into C: a thread that is ending, or a message from inside `start`, is passed over.
    let _passed_over = MESSAGES.try_with(|messages| {
        if let Ok(mut messages) = messages.try_borrow_mut()
            && !line.is_empty()
            && !messages.contains(&line)
        {
            messages.push(line);
        }
    });
}
