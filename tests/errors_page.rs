//! `docs/errors.md` lists every error, as it says.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../docs/errors.md");
const SOURCES: [&str; 3] = [
    include_str!("../src/error/channel.rs"),
    include_str!("../src/error/message.rs"),
    include_str!("../src/error/missing.rs"),
];

/// Enums and their variants, as rustfmt lays them out.
fn variants(source: &str) -> Vec<(&str, &str)> {
    let enums = source.split("\npub enum ").skip(1);
    let within = enums.flat_map(|text| {
        let (name, rest) = text.split_once(" {\n").unwrap();
        let body = rest.split("\n}").next().unwrap();
        let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
        let named = lines.filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()));
        named.map(move |line| (name, line.split([' ', ',', '(']).next().unwrap()))
    });
    within.collect()
}

/// The names in the code of a text.
fn names(page: &str) -> BTreeSet<&str> {
    let code = page.split('`').skip(1).step_by(2);
    code.flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric())).collect()
}

#[test]
fn every_error_is_on_the_page() {
    // A transparent wrapper: the page has the wrapped errors.
    let wrapper = |variant: &str| variant == "Config";
    let table = PAGE.split("## Starting over").next().unwrap();
    let listed = names(table);
    let all: Vec<_> = SOURCES.iter().flat_map(|source| variants(source)).collect();
    assert!(all.contains(&("SendError", "Full")) && all.contains(&("OpenError", "NoName")), "{all:?}");
    for (name, variant) in all {
        assert!(wrapper(variant) || listed.contains(variant), "{name}::{variant} is not in docs/errors.md");
    }
}
