//! What `offsite doctor` finds.

use serde::Serialize;

use crate::base::failure::Failure;

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grade {
    Ok,
    Warning,
    Error,
}

#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(super) grade: Grade,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

#[derive(Default)]
pub(crate) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    pub(super) fn ok(&mut self, message: impl Into<String>) {
        self.0.push(Finding { grade: Grade::Ok, message: message.into(), remedy: None });
    }

    pub(super) fn bad(&mut self, grade: Grade, message: impl Into<String>, remedy: impl Into<String>) {
        self.0.push(Finding { grade, message: message.into(), remedy: Some(remedy.into()) });
    }

    pub(super) fn check<T>(&mut self, what: &str, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => {
                self.ok(what);
                Some(value)
            }
            Err(failure) => {
                let remedy = failure.remedy().unwrap_or("see the message").to_owned();
                self.bad(Grade::Error, failure.message(), remedy);
                None
            }
        }
    }
}
