//! Whole memory pages for what must not get out: locked against swapping, left out of core dumps, wiped before they are freed.
#![expect(unsafe_code, reason = "page-aligned allocation, mlock and madvise have no safe form")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise, mlock, munlock};
use zeroize::Zeroize;

/// Assumed when the system doesn't tell its page size.
const FALLBACK_PAGE: usize = 4096;

/// A value that shares its pages with nothing else.
///
/// A refused lock (`RLIMIT_MEMLOCK`) is tolerated: the value then is as safe as the swap space.
pub(crate) struct Locked<T> {
    value: NonNull<T>,
    layout: Layout,
    pinned: bool,
}

// SAFETY: the pages belong to this value alone, so it may go wherever the value itself may.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as above; `&self` gives shared access only.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Makes a value and puts it into pages of its own.
    ///
    /// What making it left on the stack is overwritten. Like every allocation in Rust, it aborts when memory runs out.
    pub(crate) fn new(make: impl FnOnce() -> T) -> Self {
        let page = page_size();
        // A page is aligned more strictly than any value here, and the size fits what exists in memory.
        let layout = Layout::from_size_align(size_of::<T>().max(1).next_multiple_of(page), page)
            .unwrap_or_else(|_| handle_alloc_error(Layout::new::<T>()));
        // SAFETY: the layout's size is at least one page.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let (address, size) = (start.cast::<c_void>(), layout.size());
        // SAFETY: the range is this allocation; locking changes no contents.
        let pinned = unsafe { mlock(address, size) }.is_ok();
        // SAFETY: as above. Refusal only means that a core dump would hold the pages.
        let _advice_only = unsafe { madvise(address, size, MmapAdvise::MADV_DONTDUMP) };
        let value = start.cast::<T>();
        // SAFETY: the memory is large enough, aligned to a page, and owned by nobody else.
        unsafe { value.write(make()) };
        overwrite_stack();
        Self { value, layout, pinned }
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the value was written in `new` and lives until `drop`.
        unsafe { self.value.as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` excludes any other borrow.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        let (start, size) = (self.value.cast::<u8>(), self.layout.size());
        // SAFETY: the value is dropped once, here; afterwards its pages are `size` bytes without meaning.
        unsafe {
            self.value.drop_in_place();
            std::slice::from_raw_parts_mut(start.as_ptr(), size).zeroize();
        }
        let address = start.cast::<c_void>();
        // SAFETY: the range is this allocation, still alive; the allocator gets it back as it gave it.
        let _advice_only = unsafe { madvise(address, size, MmapAdvise::MADV_DODUMP) };
        if self.pinned {
            // SAFETY: as above.
            let _best_effort = unsafe { munlock(address, size) };
        }
        // SAFETY: allocated in `new` with this layout, freed once.
        unsafe { dealloc(start.as_ptr(), self.layout) };
    }
}

/// Overwrites the part of the stack that a call made just before may have used.
#[inline(never)]
pub(crate) fn overwrite_stack() {
    let mut below = [0_u8; 16 << 10];
    std::hint::black_box(&mut below);
}

fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| size.is_power_of_two())
        .unwrap_or(FALLBACK_PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn a_value_is_made_changed_and_dropped_once() {
        let shared = Rc::new(());
        let mut locked = Locked::new(|| (Rc::clone(&shared), [1_u64; 700]));
        locked.1[699] = 2;
        assert_eq!((locked.1[0], locked.1[699], Rc::strong_count(&shared)), (1, 2, 2));
        drop(locked);
        assert_eq!(Rc::strong_count(&shared), 1);
    }
}
