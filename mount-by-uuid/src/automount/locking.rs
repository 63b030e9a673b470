//! Locks of the automount.

use std::sync::{Mutex, PoisonError};

/// Locks a mutex whose data no panic leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
