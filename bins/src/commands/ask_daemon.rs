//! `offsite unlock`, `lock` and `reload`: what the daemon is asked for.

use super::arguments::OnMagazine;
use crate::base::failure::Failure;
use crate::base::paths::Root;
use crate::base::report;
use crate::protocol::socket::{Verb, call, not_running};

/// Runs `offsite unlock` or `lock`.
pub fn ask(root: &Root, verb: Verb, options: &OnMagazine) -> Result<(), Failure> {
    let reply = call(root, verb, Some(&options.magazine))?.ok_or_else(not_running)?;
    if options.json {
        report::json(&reply)?;
    }
    let message = reply.into_result()?;
    if !options.json {
        println!("{message}");
    }
    Ok(())
}

/// Runs `offsite reload`.
pub fn reload_now(root: &Root) -> Result<(), Failure> {
    println!("{}", call(root, Verb::Reload, None)?.ok_or_else(not_running)?.into_result()?);
    Ok(())
}
