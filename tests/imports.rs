//! The folders of `src/` lie in layers: each imports only what lies below it. Within a folder, no file reaches itself
//! through what it imports.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From below. Folders in one line do not know each other.
const LAYERS: [&[&str]; 10] = [
    &["error", "sync", "crash"],
    &["protocol"],
    &["system"],
    &["segment", "config"],
    &["poll"],
    &["ring"],
    &["transport"],
    &["channel", "capnp_channel", "inspect"],
    &["wait", "server"],
    &["rpc"],
];

/// A module of the crate, and one within it: its face (`mod.rs`) is "".
type Place = (String, String);

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The names after each `before` in `code`: one name, or the first of each path in braces.
fn named_after<'a>(code: &'a str, before: &str) -> Vec<&'a str> {
    let first = |path: &'a str| path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
    let mut names = Vec::new();
    for (at, _) in code.match_indices(before) {
        let rest = &code[at + before.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.push(first(rest));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (end, c) in list.char_indices() {
            match c {
                ',' | '}' if depth == 0 => {
                    names.extend(Some(first(list[start..end].trim())).filter(|name| !name.is_empty()));
                    start = end + 1;
                    if c == '}' {
                        break;
                    }
                }
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
        }
    }
    names
}

/// Which places each place imports, tests and documentation aside.
fn imports() -> BTreeMap<Place, BTreeSet<Place>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut code = BTreeMap::new();
    for path in sources(&root) {
        let inner = path.strip_prefix(&root).unwrap().with_extension("");
        let mut parts = inner.iter().map(|part| part.to_str().unwrap().to_owned());
        let place = (parts.next().unwrap(), parts.next().filter(|name| name != "mod").unwrap_or_default());
        assert_eq!(parts.next(), None, "a folder within a folder: extend this test");
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = text.lines().map(|line| line.split("//").next().unwrap());
        // A name that the face passes on to others is no import.
        let lines = lines.filter(|line| !(place.1.is_empty() && line.trim_start().starts_with("pub")));
        let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
        // Documentation also stands in strings: links are no imports.
        code.insert(place, words.join(" ").replace("](crate::", "]("));
    }
    code.remove(&("lib".to_owned(), String::new()));
    let places: BTreeSet<Place> = code.keys().cloned().collect();
    // The name of a file, or else of something in the face.
    let within = |module: &str, name: &str| {
        let place = (module.to_owned(), name.to_owned());
        if places.contains(&place) { place } else { (module.to_owned(), String::new()) }
    };
    let found = |((module, file), code): (Place, String)| {
        let mut to = BTreeSet::new();
        to.extend(named_after(&code, "crate::").iter().map(|name| ((*name).to_owned(), String::new())));
        if file.is_empty() {
            let paths = code.split(|c: char| !c.is_alphanumeric() && !"_:".contains(c));
            to.extend(paths.filter_map(|path| Some(within(&module, path.split_once("::")?.0))));
        } else {
            to.extend(named_after(&code, "super::").iter().map(|name| within(&module, name)));
        }
        let own = (module, file);
        to.remove(&own);
        (own, to)
    };
    code.into_iter().map(found).collect()
}

#[test]
fn each_folder_imports_only_what_lies_below() {
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    for ((from, file), targets) in imports() {
        let above = layer(&from).unwrap_or_else(|| panic!("src/{from} has no layer"));
        for (to, _) in targets.iter().filter(|(to, _)| *to != from) {
            let below = layer(to).unwrap_or_else(|| panic!("{from}/{file} imports {to}, which has no layer"));
            assert!(below < above, "{from}/{file} imports {to}");
        }
    }
}

#[test]
fn no_file_reaches_itself() {
    let imports = imports();
    assert!(imports.len() > 30 && imports.values().map(BTreeSet::len).sum::<usize>() > 100, "{imports:?}");
    let mut circles = Vec::new();
    for start in imports.keys() {
        let mut reached = BTreeSet::new();
        let mut todo = vec![start];
        while let Some(place) = todo.pop() {
            for next in imports[place].iter().filter(|next| next.0 == start.0) {
                if reached.insert(next) {
                    todo.push(next);
                }
            }
        }
        if reached.contains(start) {
            circles.push(start);
        }
    }
    assert!(circles.is_empty(), "in circles of imports: {circles:?}");
}

#[test]
fn paths_are_read_as_rust_reads_them() {
    let code = "use super::a::{B, c::D}; use super::{e, f::{G, H}, i}; super::j()";
    assert_eq!(named_after(code, "super::"), ["a", "e", "f", "i", "j"]);
}
