//! Checks the rooms of each crate against ARCHITECTURE.md.
//!
//! A room is a folder of a crate's `src`. ARCHITECTURE.md has a table of them; a room may import those that stand before
//! it, and two files of a room never import each other in a circle. Test code is left out.
//!
//! `rooms DIR` checks the tree in DIR, `rooms DIR CRATE` shows which file of a crate imports which.

mod graph;
mod imports;
mod source;
mod table;

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use graph::Crate;

/// What a check of the whole tree found.
#[derive(Debug, Default)]
struct Findings {
    faults: Vec<String>,
    circles: usize,
    files: usize,
}

fn main() -> ExitCode {
    let root = std::env::args_os().nth(1).unwrap_or_else(|| ".".into());
    let root = Path::new(&root);
    if let Some(name) = std::env::args_os().nth(2) {
        return show(&root.join(name).join("src"));
    }
    match check(root) {
        Ok(findings) => {
            for fault in &findings.faults {
                eprintln!("error: {fault}");
            }
            let Findings { faults, circles, files } = findings;
            println!("rooms: {files} files, {} faults, {circles} circles", faults.len());
            if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(src: &Path) -> ExitCode {
    match Crate::read(src) {
        Ok(found) => {
            for (from, to) in found.edges() {
                println!("{} -> {}", from.join("::"), to.join("::"));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot read {}: {error}", src.display());
            ExitCode::FAILURE
        }
    }
}

fn check(root: &Path) -> io::Result<Findings> {
    let map = fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let plan = table::rooms(&map);
    let mut findings = Findings::default();
    if plan.is_empty() {
        findings.faults.push("ARCHITECTURE.md has no table of rooms".to_owned());
    }
    for (name, rooms) in &plan {
        let found = Crate::read(&root.join(name).join("src"))?;
        findings.files += found.files();
        findings.faults.extend(found.strangers(rooms).into_iter().map(|fault| format!("{name}: {fault}")));
        findings.faults.extend(found.forbidden(rooms).into_iter().map(|fault| format!("{name}: {fault}")));
        for circle in found.circles() {
            findings.circles += 1;
            findings
                .faults
                .push(format!("{name}: files import each other in a circle: {}", circle.join(", ")));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_keeps_its_rooms() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let findings = check(&root).unwrap();
        assert!(findings.faults.is_empty(), "{}", findings.faults.join("\n"));
        assert!(findings.files > 200, "only {} files were looked at", findings.files);
    }
}
