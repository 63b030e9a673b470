//! Whole memory pages for secret bytes: locked against swapping, left out of core dumps, wiped before they are freed.
#![expect(unsafe_code, reason = "page-aligned allocation, mlock and madvise have no safe form")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::ptr::NonNull;

use nix::sys::mman::{MmapAdvise, madvise, mlock, munlock};
use zeroize::Zeroize;

/// Assumed when the system doesn't tell its page size.
const FALLBACK_PAGE: usize = 4096;

/// A byte buffer that shares its pages with nothing else.
pub(crate) struct LockedPages {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
    locked: bool,
}

// SAFETY: the pages belong to this value alone; `&self` gives only shared, `&mut self` only exclusive access.
unsafe impl Send for LockedPages {}
// SAFETY: as above; there is no interior mutability.
unsafe impl Sync for LockedPages {}

impl LockedPages {
    /// Allocates `len` zero bytes.
    ///
    /// A refused lock (`RLIMIT_MEMLOCK`) is tolerated, see [`LockedPages::is_locked`].
    /// Like every allocation in Rust, it aborts when memory runs out.
    pub(crate) fn zeroed(len: usize) -> Self {
        let page = page_size();
        let size = len.max(1).next_multiple_of(page);
        // A page size is a power of two and `size` a multiple of it that fits: anything else is an absurd length.
        let layout =
            Layout::from_size_align(size, page).unwrap_or_else(|_| handle_alloc_error(Layout::new::<u8>()));
        // SAFETY: the layout's size is at least one page.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let address = start.cast::<c_void>();
        // SAFETY: the range is this allocation; locking changes no contents.
        let locked = unsafe { mlock(address, size) }.is_ok();
        // SAFETY: as above. Refusal only means that a core dump would hold the pages.
        let _advice_only = unsafe { madvise(address, size, MmapAdvise::MADV_DONTDUMP) };
        Self { start, len, layout, locked }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `len` initialised bytes are owned by this value, borrowed as long as `self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` excludes any other borrow.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.locked
    }
}

impl Drop for LockedPages {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        let address = self.start.cast::<c_void>();
        let size = self.layout.size();
        // SAFETY: the range is this allocation, still alive; the allocator gets it back as it gave it.
        let _advice_only = unsafe { madvise(address, size, MmapAdvise::MADV_DODUMP) };
        if self.locked {
            // SAFETY: as above.
            let _best_effort = unsafe { munlock(address, size) };
        }
        // SAFETY: allocated in `zeroed` with this layout, freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

fn page_size() -> usize {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| size.is_power_of_two())
        .unwrap_or(FALLBACK_PAGE)
}
