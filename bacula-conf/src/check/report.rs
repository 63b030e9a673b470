//! What a check finds, and where.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::schema::resources::Resource;
use crate::syntax::diagnostic;
use crate::syntax::text::{Position, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Severity {
    /// Works, until one day it doesn't.
    Warning,
    /// Does not work, or loses data.
    Error,
}

/// Something that is wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Finding {
    /// Stable name of the check, e.g. `media-type`.
    pub check: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, and why it matters; never holds a password.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The place in bytes.
    #[serde(skip)]
    pub span: Span,
}

impl Finding {
    /// Shows the finding with the line it is in; `text` is the file's text. Passwords are not shown.
    pub fn render(&self, text: &str) -> String {
        let title = format!("{}[{}]: {}", self.severity, self.check, self.message);
        diagnostic::render(&title, &self.file.to_string_lossy(), text, self.span, Some(&self.remedy))
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { check, severity, line, column, message, .. } = self;
        write!(f, "{}:{line}:{column}: {severity}[{check}]: {message}", self.file.display())
    }
}

impl Display for Severity {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

pub(crate) fn finding(
    check: &'static str,
    severity: Severity,
    path: &Path,
    text: &str,
    span: Span,
    message: String,
    remedy: String,
) -> Finding {
    let Position { line, column } = Position::of(text, span.start);
    Finding { check, severity, file: path.to_owned(), line, column, message, remedy, span }
}

/// Collects findings; each names the check once.
pub(crate) struct Report<'a> {
    pub(super) files: &'a [(PathBuf, String)],
    pub(super) findings: Vec<Finding>,
}

impl Report<'_> {
    pub(super) fn error(
        &mut self,
        check: &'static str,
        place: Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, Severity::Error, place, message.into(), remedy.into());
    }

    pub(super) fn warning(
        &mut self,
        check: &'static str,
        place: Place,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, Severity::Warning, place, message.into(), remedy.into());
    }

    pub(super) fn add(
        &mut self,
        check: &'static str,
        severity: Severity,
        place: Place,
        message: String,
        remedy: String,
    ) {
        if let Some((path, text)) = self.files.get(place.file) {
            self.findings.push(finding(check, severity, path, text, place.span, message, remedy));
        }
    }
}

/// A place in one of the files.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(super) file: usize,
    pub(super) span: Span,
}

impl Place {
    /// Where a resource starts.
    pub(super) fn of(resource: &Resource<'_>) -> Self {
        Self { file: resource.file, span: resource.block.span() }
    }

    /// The value of a directive, or the start of the resource that lacks it.
    pub(super) fn value(resource: &Resource<'_>, key: &str) -> Self {
        match resource.placed(key) {
            Some((file, directive)) => Self { file, span: directive.value().span() },
            None => Self::of(resource),
        }
    }

    /// A directive's key: for what must not be shown itself.
    pub(super) fn key(resource: &Resource<'_>, key: &str) -> Self {
        match resource.placed(key) {
            Some((file, directive)) => Self { file, span: directive.span() },
            None => Self::of(resource),
        }
    }
}
