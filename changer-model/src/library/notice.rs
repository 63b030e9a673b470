//! What a person should know of a changer although nothing failed.

use serde::{Deserialize, Serialize};

/// Something that a person should know although nothing failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notice {
    /// The magazine that it is about, as the configuration names it.
    pub magazine: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

/// Maximum number of names in a notice.
pub(crate) const MOST_NAMES: usize = 3;

/// The first of some names, and how many more there are.
pub(crate) fn some_of<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let shown: Vec<&str> = names.take(MOST_NAMES).collect();
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_names_some_are_shown() {
        assert_eq!(some_of(["a", "b"].into_iter()), "a, b");
        assert_eq!(some_of(["a", "b", "c", "d", "e"].into_iter()), "a, b, c and 2 more");
    }
}
