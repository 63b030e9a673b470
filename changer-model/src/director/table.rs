//! The tables that the console prints: `list` with a line a row, `llist` with a line a field.
//!
//! Titles are in upper and lower case with SQLite, in lower case with PostgreSQL; here they are in lower case.

use std::collections::BTreeMap;

/// A row by the titles of its columns.
pub(crate) type Row<'a> = BTreeMap<String, &'a str>;

/// The rows of all tables that `list` printed.
pub(crate) fn rows(output: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut titles: Vec<String> = Vec::new();
    let mut borders = 0;
    for line in output.lines() {
        if line.starts_with("+-") {
            borders = if borders == 2 { 0 } else { borders + 1 };
            continue;
        }
        let Some(inside) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            borders = 0;
            continue;
        };
        let cells = inside.split('|').map(str::trim);
        if borders == 1 {
            titles = cells.map(str::to_ascii_lowercase).collect();
        } else {
            let cells: Vec<&str> = cells.collect();
            if cells.len() == titles.len() {
                rows.push(titles.iter().cloned().zip(cells).collect());
            }
        }
    }
    rows
}

/// The records that `llist` printed; each begins with the title `first` and ends with an empty line.
pub(crate) fn records<'a>(output: &'a str, first: &str) -> Vec<Row<'a>> {
    let mut records: Vec<Row<'a>> = Vec::new();
    let mut inside = false;
    for line in output.lines() {
        let field =
            line.split_once(':').map(|(title, value)| (title.trim().to_ascii_lowercase(), value.trim()));
        match field {
            Some((title, value)) if title == first => {
                inside = true;
                records.push(Row::from([(title, value)]));
            }
            Some((title, value)) if inside => {
                if let Some(record) = records.last_mut() {
                    record.entry(title).or_insert(value);
                }
            }
            _ => inside &= !line.trim().is_empty(),
        }
    }
    records
}

/// Whether the answer to a list and the one to `version` behind it came: the greeting has the first version. With its
/// database down, or where it may not list, the Director answers `version` all the same.
pub(crate) fn is_whole(output: &str) -> bool {
    !output.lines().any(is_refusal) && output.matches(" Version: ").count() > 1
}

/// Whether a line says that the Director could not, or would not, list.
pub(crate) fn is_refusal(line: &str) -> bool {
    const NO_LIST: [&str; 3] = ["Could not open catalog", "is an invalid command", "ERR="];
    NO_LIST.iter().any(|words| line.contains(words))
}

/// A number, which Bacula may write with commas.
pub(crate) fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.replace(',', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_with_its_empty_line() {
        let output = "llist jobs\n           JobId: 1,002\n            Name: a: b\n         Comment: x\n\nPool: P\n\
            jobid: 3\nname: c\nname: forged\n";
        let records = records(output, "jobid");
        let seen: Vec<_> = records.iter().map(|row| (row["jobid"], row["name"], row.len())).collect();
        assert_eq!(seen, [("1,002", "a: b", 3), ("3", "c", 2)]);
        assert_eq!(number::<u32>("1,002"), Some(1002));
    }

    #[test]
    fn a_table_has_titles_in_lower_case() {
        let rows = rows(
            "+--+--+\n| JobId | Name |\n+--+--+\n| 1 | a |\n| 2 |\nYou have messages.\n| 3 | b |\n+--+--+\n",
        );
        assert_eq!(rows.len(), 2, "a message in between ends no table");
        assert_eq!((rows[0]["jobid"], rows[0]["name"]), ("1", "a"));
    }

    #[test]
    fn half_an_answer_is_not_whole() {
        let output = include_str!("../../tests/transcripts/llist_jobs.txt");
        assert!(is_whole(output));
        let end = output.rfind(" Version: ").expect("the last answer");
        assert!(!is_whole(&output[..end]));
        assert!(!is_whole(&output.replace("llist jobs", "llist: is an invalid command.")));
    }
}
