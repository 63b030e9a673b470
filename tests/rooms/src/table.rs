//! The table of rooms in ARCHITECTURE.md.

/// A crate's rooms in their order; those of one group don't know each other.
pub(crate) type Rooms = Vec<Vec<String>>;

const HEADING: &str = "## Rooms";

/// Crates and their rooms: a row begins with the crate's folder, the next cell has the rooms, `→` between those of which
/// the right one may import the left one.
pub(crate) fn rooms(map: &str) -> Vec<(String, Rooms)> {
    let table = map.lines().skip_while(|line| *line != HEADING).skip(1);
    let rows = table.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|'));
    rows.filter_map(|row| {
        let mut cells = row.trim_matches('|').split('|');
        let name = names(cells.next()?).into_iter().next()?;
        let rooms: Rooms = cells.next()?.split('→').map(names).filter(|group| !group.is_empty()).collect();
        (!rooms.is_empty()).then_some((name, rooms))
    })
    .collect()
}

/// The words between backticks, without a slash at their end.
fn names(cell: &str) -> Vec<String> {
    let words = cell.split('`').skip(1).step_by(2);
    words.map(|word| word.trim_end_matches('/').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_with_rooms_are_read() {
        let map = "# A\n\n## Rooms\ntext\n\n| crate | rooms |\n|---|---|\n| `a` | `x/` → `y/`, `z/` → `w` |\n\
                   \n## Next\n| `b` | `no` |\n";
        let group = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(rooms(map), [("a".to_owned(), vec![group(&["x"]), group(&["y", "z"]), group(&["w"])])]);
    }
}
