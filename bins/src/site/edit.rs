//! Changing site.toml by program, comments and order kept: a `[[magazine]]` table for a drive that is enrolled, and the
//! keys while one takes the place of another.

use std::path::Path;

use luks_core::{EnrolmentDigest, LuksUuid};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value, value};

use super::description::{Magazine, Site};
use crate::base::atomic_file;
use crate::base::failure::{Exit, Failure, OrFail as _};
use crate::base::paths::Root;

/// Adds a magazine to site.toml; the result is checked before it replaces the file.
pub fn add(root: &Root, magazine: &Magazine) -> Result<Site, Failure> {
    change(root, |text, path| with_magazine(text, magazine, path))
}

/// Writes down what a magazine's container is recognised by from now on.
pub fn set_digest(root: &Root, luks: LuksUuid, digest: EnrolmentDigest) -> Result<Site, Failure> {
    change(root, |text, path| with_digest(text, luks, digest, path))
}

fn with_digest(text: &str, luks: LuksUuid, digest: EnrolmentDigest, path: &Path) -> Result<String, Failure> {
    let mut document = parsed(text, path)?;
    let tables = document.get_mut("magazine").and_then(Item::as_array_of_tables_mut);
    let is_meant = |table: &&mut Table| {
        let uuid = table.get("luks_uuid").and_then(Item::as_str);
        uuid.and_then(|uuid| uuid.parse().ok()) == Some(luks)
    };
    let table = tables.and_then(|tables| tables.iter_mut().find(is_meant)).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{} has no [[magazine]] table of container {luks}", path.display()))
    })?;
    table.insert("luks_digest", value(digest.to_string()));
    Ok(document.to_string())
}

/// Writes the site's keys as they are in `site`.
pub fn set_keys(root: &Root, site: &Site) -> Result<Site, Failure> {
    change(root, |text, path| {
        let mut document = parsed(text, path)?;
        set_key_settings(&mut document, site);
        Ok(document.to_string())
    })
}

fn change(root: &Root, edit: impl FnOnce(&str, &Path) -> Result<String, Failure>) -> Result<Site, Failure> {
    let path = root.site_toml();
    let text =
        std::fs::read_to_string(&path).or_exit(Exit::Usage, format!("cannot read {}", path.display()))?;
    let text = edit(&text, &path)?;
    let site = Site::parse(&text, &path)?;
    atomic_file::replace(&path, 0o644, text.as_bytes())?;
    Ok(site)
}

fn set_key_settings(document: &mut DocumentMut, site: &Site) {
    let shown = |path: &Path| path.to_string_lossy().into_owned();
    let mut set = |name: &str, item: Option<Item>| match item {
        Some(mut item) => match document.get_mut(name) {
            // In place, so that comments before the key and behind the old value stay.
            Some(there) => {
                if let (Some(old), Some(new)) = (there.as_value(), item.as_value_mut()) {
                    *new.decor_mut() = old.decor().clone();
                }
                *there = item;
            }
            None => drop(document.insert(name, item)),
        },
        None => drop(document.remove(name)),
    };
    set("key_file", Some(value(shown(&site.key_file))));
    set("key_fingerprint", site.key_fingerprint.map(|print| value(print.to_string())));
    set("next_key_file", site.next_key_file.as_deref().map(|path| value(shown(path))));
    set("next_key_fingerprint", site.next_key_fingerprint.map(|print| value(print.to_string())));
    let old: Array = site.old_key_files.iter().map(|path| shown(path)).collect();
    set("old_key_files", (!old.is_empty()).then(|| value(old)));
}

/// The text of a site.toml with what a running site brings: its settings, by table and key, and its drives. What is
/// there stays; a setting that is there must say the same.
pub fn merged(
    text: &str,
    settings: &[(&str, &str, Value)],
    magazines: &[Magazine],
    path: &Path,
) -> Result<String, Failure> {
    let mut document = parsed(text, path)?;
    for (tables, key, wanted) in settings {
        set(&mut document, tables, key, wanted, path)?;
    }
    for magazine in magazines {
        push(&mut document, magazine, path)?;
    }
    Ok(document.to_string())
}

fn with_magazine(text: &str, magazine: &Magazine, path: &Path) -> Result<String, Failure> {
    merged(text, &[], std::slice::from_ref(magazine), path)
}

fn parsed(text: &str, path: &Path) -> Result<DocumentMut, Failure> {
    text.parse().or_exit(Exit::Usage, format!("cannot parse {}", path.display()))
}

/// Sets `key` in a table such as `bacula.accounts`.
fn set(
    document: &mut DocumentMut,
    tables: &str,
    key: &str,
    wanted: &Value,
    path: &Path,
) -> Result<(), Failure> {
    let not_a_table = || Failure::new(Exit::Usage, format!("{}: `{tables}` is not a table", path.display()));
    let end = End::of(document);
    let mut added = false;
    let mut table: &mut Table = document.as_table_mut();
    for name in tables.split('.') {
        added = !table.contains_key(name);
        let implicit = || {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        };
        table = table.entry(name).or_insert_with(implicit).as_table_mut().ok_or_else(not_a_table)?;
    }
    if added {
        end.put(table);
        table.insert(key, value(wanted.clone()));
        document.set_trailing("");
        return Ok(());
    }
    match table.get(key) {
        None => drop(table.insert(key, value(wanted.clone()))),
        Some(there) if there.as_value().is_some_and(|there| is_same(there, wanted)) => {}
        Some(there) => {
            let there = there.to_string();
            return Err(Failure::new(
                Exit::Refused,
                format!(
                    "{} has {tables}.{key} = {}, the site to import has {wanted}",
                    path.display(),
                    there.trim()
                ),
            )
            .hint("only one of them can stay: change or remove the line, then import again"));
        }
    }
    Ok(())
}

/// Where a document ends: a table that is added there leaves every comment in the table that it stands in.
struct End {
    position: isize,
    /// Comments behind the last table.
    trailing: String,
}

impl End {
    fn of(document: &DocumentMut) -> Self {
        let trailing = document.trailing().as_str().unwrap_or_default().to_owned();
        Self { position: last_position(document.as_table()) + 1, trailing }
    }

    fn put(&self, table: &mut Table) {
        table.set_position(Some(self.position));
        if !self.trailing.trim().is_empty() {
            table.decor_mut().set_prefix(format!("{}\n", self.trailing));
        }
    }
}

/// The position of the last table in a document.
fn last_position(table: &Table) -> isize {
    let inner = table.iter().flat_map(|(_, item)| match item {
        Item::Table(table) => vec![table],
        Item::ArrayOfTables(tables) => tables.iter().collect(),
        _ => Vec::new(),
    });
    inner.map(last_position).chain(table.position()).max().unwrap_or_default()
}

/// Whether two values say the same, however they are written.
fn is_same(there: &Value, wanted: &Value) -> bool {
    match wanted.as_str() {
        Some(text) => there.as_str() == Some(text),
        None => there.as_integer().is_some() && there.as_integer() == wanted.as_integer(),
    }
}

fn push(document: &mut DocumentMut, magazine: &Magazine, path: &Path) -> Result<(), Failure> {
    let mut table = Table::new();
    table.insert("name", value(&magazine.name));
    if let Some(luks) = magazine.luks_uuid {
        table.insert("luks_uuid", value(luks.to_string()));
    }
    if let Some(digest) = magazine.luks_digest {
        table.insert("luks_digest", value(digest.to_string()));
    }
    table.insert("fs_uuid", value(magazine.fs_uuid.to_string()));
    table.insert("fs_type", value(&magazine.fs_type));
    if let Some(serial) = &magazine.serial {
        table.insert("serial", value(serial));
    }
    End::of(document).put(&mut table);
    document.set_trailing("");
    let tables = document.entry("magazine").or_insert(Item::ArrayOfTables(ArrayOfTables::new()));
    let tables = tables.as_array_of_tables_mut().ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("{}: `magazine` is not a list of [[magazine]] tables", path.display()),
        )
    })?;
    tables.push(table);
    Ok(())
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
            luks_digest: Some("5a".repeat(32).parse().unwrap()),
            fs_uuid: "e6ffe50b-bbe7-854f-fea8-766ae1265eba".parse().unwrap(),
            fs_type: "ext4".into(),
            serial: Some("S1".into()),
        };
        let path = Path::new("site.toml");
        let after = with_magazine(before, &magazine, path).unwrap();
        assert!(after.starts_with(before), "{after}");
        assert_eq!(Site::parse(&after, path).unwrap().magazines, [magazine]);
    }

    #[test]
    fn comments_stay_in_the_tables_that_they_stand_in() {
        let path = Path::new("site.toml");
        let magazine = |name: &str, digit: u8| Magazine {
            name: name.into(),
            luks_uuid: None,
            luks_digest: None,
            fs_uuid: format!("e6ffe50b-bbe7-854f-fea8-766ae1265eb{digit}").parse().unwrap(),
            fs_type: "ext4".into(),
            serial: None,
        };
        let before = "[changer]\n# name = \"c0\"  # also of the Storage resource\n\n[bacula.pool]\nname = \"P\"\n\
                      # retention = \"7 weeks\"  # the default\n\n[rotation]\ndrives = 3\n# who = \"Ann\"  # carries them\n";
        let settings = [
            ("changer", "work_dir", "/var/w".into()),
            ("bacula.accounts", "user", "b".into()),
            ("bacula.pool", "retention", "8 weeks".into()),
        ];
        let after = merged(before, &settings, &[magazine("A", 1), magazine("B", 2)], path).unwrap();
        let table_of = |text: &str, comment: &str| {
            let before = &text[..text.find(comment).unwrap_or_else(|| panic!("{comment} is gone: {text}"))];
            before.lines().rev().find(|line| line.starts_with('[')).map(str::to_owned)
        };
        for comment in ["# name =", "# retention =", "# who ="] {
            assert_eq!(table_of(&after, comment), table_of(before, comment), "{after}");
        }
        assert_eq!(Site::parse(&after, path).unwrap().magazines.len(), 2);
        // The first site.toml of all is nothing but comments.
        let first =
            merged(crate::site::first_site::FIRST_SITE, &settings, &[magazine("A", 1)], path).unwrap();
        assert_eq!(table_of(&first, "# name =").as_deref(), Some("[changer]"), "{first}");
        assert!(
            first.find("# [[magazine]] tables").unwrap() < first.find("\n[[magazine]]").unwrap(),
            "{first}"
        );
    }

    #[test]
    fn a_digest_is_written_into_its_own_table() {
        let path = Path::new("site.toml");
        let luks = "6c5b725d-50c4-4605-b750-4f23575b9b5f".parse().unwrap();
        let table = |name: &str, uuid: &str| {
            format!(
                "[[magazine]] # {name}\nname = \"{name}\"\nluks_uuid = \"{uuid}\" # of the drive\nfs_uuid = \"{uuid}\"\nfs_type = \"ext4\"\n"
            )
        };
        let other = table("A", "e6ffe50b-bbe7-854f-fea8-766ae1265eba");
        let before = format!("{other}{}", table("B", "6c5b725d-50c4-4605-b750-4f23575b9b5f"));
        for byte in ["5a", "a5"] {
            let digest = byte.repeat(32).parse().unwrap();
            let after = with_digest(&before, luks, digest, path).unwrap();
            assert!(after.starts_with(&before), "{after}");
            let read = Site::parse(&after, path).unwrap().magazines;
            assert_eq!((read[0].luks_digest, read[1].luks_digest), (None, Some(digest)));
        }
        let failure = with_digest(&other, luks, "5a".repeat(32).parse().unwrap(), path).unwrap_err();
        assert!(failure.message().contains("no [[magazine]] table"), "{failure}");
    }

    #[test]
    fn what_is_there_stays_and_must_agree() {
        let path = Path::new("site.toml");
        let settings = [
            ("changer", "name", "c0".into()),
            ("changer", "work_dir", "/var/w".into()),
            ("bacula.accounts", "user", "b".into()),
            ("bacula.autochanger", "drives", 2.into()),
        ];
        let before = "idle_seconds = 60 # longer\n\n[changer]\nname = \"c0\" # ours\n";
        let after = merged(before, &settings, &[], path).unwrap();
        assert!(after.starts_with(before), "{after}");
        assert!(after.ends_with("work_dir = \"/var/w\"\n\n[bacula.accounts]\nuser = \"b\"\n\n[bacula.autochanger]\ndrives = 2\n"), "{after}");
        assert_eq!(merged(&after, &settings, &[], path).unwrap(), after, "doing it again changes nothing");
        let refused = merged("[changer]\nname = \"x\"\n", &settings, &[], path).unwrap_err();
        assert_eq!(refused.exit(), Exit::Refused);
        assert!(refused.message().contains("changer.name = \"x\""), "{refused}");
    }
    #[test]
    fn keys_are_exchanged_between_the_administrators_own_lines() {
        let path = Path::new("site.toml");
        let before = "# ours\nkey_file = \"/etc/offsite/key\" # in the safe: twice\nidle_seconds = 60\n\n\
                      [changer] # one\nname = \"c0\"\n";
        let mut site = Site::parse(before, path).unwrap();
        let mut document = parsed(before, path).unwrap();
        site.next_key_file = Some("/etc/offsite/key-2".into());
        set_key_settings(&mut document, &site);
        let between = document.to_string();
        assert_eq!(Site::parse(&between, path).unwrap().next_key_file, site.next_key_file);
        site.old_key_files = vec![std::mem::replace(&mut site.key_file, site.next_key_file.take().unwrap())];
        set_key_settings(&mut document, &site);
        let after = document.to_string();
        let read = Site::parse(&after, path).unwrap();
        assert_eq!((read.key_file, read.next_key_file), ("/etc/offsite/key-2".into(), None));
        assert_eq!(read.old_key_files, [Path::new("/etc/offsite/key")]);
        site.key_file = site.old_key_files.remove(0);
        set_key_settings(&mut document, &site);
        assert_eq!(document.to_string(), before);
    }
}
