//! The description of a site, and what is taken over from files that are there.

pub(crate) mod description;
pub(crate) mod existing;
pub(crate) mod origin;
