//! Calling the keeper, whose panics end nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::automount::keeper::Refusal;

/// Calls the keeper; its panic must not leave anyone waiting.
pub(super) fn call(keeper: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
    catch_unwind(AssertUnwindSafe(keeper)).unwrap_or_else(|_| Err(failed("the keeper panicked")))
}

pub(crate) fn failed(reason: &str) -> Refusal {
    Refusal::Failed { reason: reason.to_owned() }
}

pub(super) fn no_thread() -> Refusal {
    failed("no thread can be started")
}
