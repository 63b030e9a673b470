//! What would change in a file.

use similar::TextDiff;

use super::redact::hide_password;

/// A unified diff from `old` to `new` with three lines of context, empty when they are equal; passwords are hidden.
pub fn difference(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    if old == new {
        return String::new();
    }
    let diff = TextDiff::from_lines(old, new);
    let unified = diff.unified_diff().context_radius(3).header(old_name, new_name).to_string();
    unified.lines().fold(String::new(), |mut shown, line| {
        shown.push_str(&hide_password(line));
        shown.push('\n');
        shown
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_changed_lines_and_no_password() {
        let old = "Storage {\n  Name = c0\n  Password = \"old\"\n}\n";
        let new = "Storage {\n  Name = c1\n  Password = \"new\"\n}\n";
        insta::assert_snapshot!(difference(old, new, "there", "generated"), @r"
        --- there
        +++ generated
        @@ -1,4 +1,4 @@
         Storage {
        -  Name = c0
        -  Password = (hidden)
        +  Name = c1
        +  Password = (hidden)
         }
        ");
        assert_eq!(difference(old, old, "a", "b"), "");
    }
}
