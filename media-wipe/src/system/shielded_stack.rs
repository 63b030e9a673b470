//! The stack of a thread that makes the stream: the cipher puts round keys on it, so it is treated as the key is.
#![expect(unsafe_code, reason = "a thread's stack, mlock2 and madvise have no safe form")]

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise, munlock};

use super::locked::overwrite_stack;

/// Keeps the present thread's stack out of swap space and core dumps until it is dropped, and then overwrites it.
pub(crate) struct ShieldedStack {
    start: NonNull<c_void>,
    length: usize,
}

impl ShieldedStack {
    /// Shields the stack of the calling thread; `None` where the system doesn't tell its place.
    pub(crate) fn of_this_thread() -> Option<Self> {
        let (start, length) = stack()?;
        // SAFETY: the range is this thread's stack, whose contents locking leaves alone; only pages in use are locked.
        // Refusal (RLIMIT_MEMLOCK) means that the stack is as safe as the swap space.
        let _best_effort = unsafe { libc::mlock2(start.as_ptr(), length, libc::MLOCK_ONFAULT) };
        // SAFETY: as above. Refusal only means that a core dump would hold the stack.
        let _advice_only = unsafe { madvise(start, length, MmapAdvise::MADV_DONTDUMP) };
        Some(Self { start, length })
    }
}

impl Drop for ShieldedStack {
    fn drop(&mut self) {
        overwrite_stack();
        // SAFETY: a pointer keeps this value in its thread, so the stack is still there.
        let _best_effort = unsafe { munlock(self.start, self.length) };
        // SAFETY: as above.
        let _advice_only = unsafe { madvise(self.start, self.length, MmapAdvise::MADV_DODUMP) };
    }
}

/// Where the calling thread's stack lies: pthread_getattr_np(3), pthread_attr_getstack(3).
fn stack() -> Option<(NonNull<c_void>, usize)> {
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the call initialises the attributes when it returns 0.
    if unsafe { libc::pthread_getattr_np(libc::pthread_self(), attributes.as_mut_ptr()) } != 0 {
        return None;
    }
    let (mut start, mut length) = (std::ptr::null_mut(), 0);
    // SAFETY: the attributes are initialised; both results are written to live variables.
    let told = unsafe { libc::pthread_attr_getstack(attributes.as_ptr(), &raw mut start, &raw mut length) };
    // SAFETY: initialised above, destroyed once.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    NonNull::new(start).filter(|_| told == 0).map(|start| (start, length))
}
