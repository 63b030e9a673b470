//! The tree as text: what was read comes back byte for byte, what a program made is laid out here.

use std::fmt::{self, Display, Formatter, Write};

use super::tree::{Around, Block, Directive, Document, Include, Item, Value};

const INDENT: &str = "  ";

impl Display for Document {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        let needs_line = print_items(&mut out, &self.items, 0);
        match &self.tail {
            Some(tail) => push_apart(&mut out, tail, needs_line, 0),
            None if out.is_empty() => {}
            None => out.push('\n'),
        }
        f.write_str(&out)
    }
}

impl Display for Block {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        print_block(&mut out, self, 0);
        f.write_str(&out)
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

/// Prints items; returns whether a line break is due before anything may follow.
fn print_items(out: &mut String, items: &[Item], depth: usize) -> bool {
    let mut needs_line = false;
    for (index, item) in items.iter().enumerate() {
        let around = match item {
            Item::Block(block) => &block.around,
            Item::Directive(directive) => &directive.around,
            Item::Include(include) => &include.around,
        };
        match around {
            Around::Read { lead, .. } => push_apart(out, lead, needs_line, depth),
            made => {
                if !(depth == 0 && index == 0) {
                    if depth == 0 && matches!(item, Item::Block(_)) {
                        out.push('\n');
                    }
                    new_line(out, depth);
                }
                if let Around::Commented(lines) = made {
                    for line in lines {
                        out.push('#');
                        if !line.is_empty() {
                            out.push(' ');
                            out.push_str(line);
                        }
                        new_line(out, depth);
                    }
                }
            }
        }
        match item {
            Item::Block(block) => print_block(out, block, depth),
            Item::Directive(Directive { key, gap, value, .. }) => {
                // Writing to a String can't fail.
                let _ = write!(out, "{key}{gap}{}", value.raw);
            }
            Item::Include(Include { raw, .. }) => out.push_str(raw),
        }
        needs_line = match around {
            Around::Read { trail, .. } => {
                out.push_str(trail);
                false
            }
            _ => true,
        };
    }
    needs_line
}

fn print_block(out: &mut String, block: &Block, depth: usize) {
    let _ = write!(out, "{}{}{{", block.name, block.gap);
    let needs_line = print_items(out, &block.items, depth + 1);
    match &block.tail {
        Some(tail) => push_apart(out, tail, needs_line, depth),
        None => new_line(out, depth),
    }
    out.push('}');
}

/// Appends text that was read; where something made stands before it, a line break keeps the two apart.
fn push_apart(out: &mut String, text: &str, needs_line: bool, depth: usize) {
    if needs_line && !text.starts_with(['\n', '\r']) {
        new_line(out, depth);
    }
    out.push_str(text);
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    for _ in 0..depth {
        out.push_str(INDENT);
    }
}
