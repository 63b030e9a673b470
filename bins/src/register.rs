//! Enrolling a drive: adding its `[[magazine]]` table to site.toml, comments and order kept.

use std::path::Path;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use crate::durable;
use crate::failure::{Exit, Failure, OrFail as _};
use crate::paths::Root;
use crate::site::{Magazine, Site};

/// Adds a magazine to site.toml; the result is checked before it replaces the file.
pub fn add(root: &Root, magazine: &Magazine) -> Result<Site, Failure> {
    let path = root.site_toml();
    let text =
        std::fs::read_to_string(&path).or_exit(Exit::Usage, format!("cannot read {}", path.display()))?;
    let text = with_magazine(&text, magazine, &path)?;
    let site = Site::parse(&text, &path)?;
    durable::replace(&path, 0o644, text.as_bytes())?;
    Ok(site)
}

fn with_magazine(text: &str, magazine: &Magazine, path: &Path) -> Result<String, Failure> {
    let mut document: DocumentMut =
        text.parse().or_exit(Exit::Usage, format!("cannot parse {}", path.display()))?;
    let mut table = Table::new();
    table.insert("name", value(&magazine.name));
    if let Some(luks) = magazine.luks_uuid {
        table.insert("luks_uuid", value(luks.to_string()));
    }
    table.insert("fs_uuid", value(magazine.fs_uuid.to_string()));
    table.insert("fs_type", value(&magazine.fs_type));
    if let Some(serial) = &magazine.serial {
        table.insert("serial", value(serial));
    }
    let tables = document.entry("magazine").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let tables = tables.as_array_of_tables_mut().ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("{}: `magazine` is not a list of [[magazine]] tables", path.display()),
        )
    })?;
    tables.push(table);
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_the_administrator_wrote() {
        let before = "# ours\nidle_seconds = 60 # longer\n";
        let magazine = Magazine {
            name: "A".into(),
            luks_uuid: Some("6c5b725d-50c4-4605-b750-4f23575b9b5f".parse().unwrap()),
            fs_uuid: "e6ffe50b-bbe7-854f-fea8-766ae1265eba".parse().unwrap(),
            fs_type: "ext4".into(),
            serial: Some("S1".into()),
        };
        let path = Path::new("site.toml");
        let after = with_magazine(before, &magazine, path).unwrap();
        assert!(after.starts_with(before), "{after}");
        assert_eq!(Site::parse(&after, path).unwrap().magazines, [magazine]);
    }
}
