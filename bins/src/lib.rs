//! The flows that glue the libraries into `offsite`, `offsited` and `vchanger`: a module for each.
//!
//! Nothing here is knowledge that a library could have. A flow reads the site description
//! ([`site::description::Site`]), calls the libraries in the right order, and turns what they say into lines for a
//! person, JSON for a script, and an exit code ([`base::failure::Exit`]).

// First, since it takes the place of the standard library's macros in all that follows.

#[macro_use]
pub mod base;
pub mod bacula;
pub mod commands;
pub mod daemon;
pub mod drives;
pub mod protocol;
pub mod records;
pub mod site;
