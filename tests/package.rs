//! The package has what its documents point at, and not what only the repository needs.
//!
//! Where cargo runs the tests of another system, under an emulator, there is no cargo to ask.
#![cfg(not(windows))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The paths of the files in the package.
fn files() -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The text outside of code.
fn prose(document: &str) -> String {
    let outside = document.split("\n```").step_by(2);
    outside.flat_map(|text| text.split('`').step_by(2)).collect()
}

/// Where the links and pictures of a document point to, but for other machines.
fn links(document: &str) -> Vec<String> {
    let prose = prose(document);
    let between = |start, end| prose.split(start).skip(1).filter_map(move |rest| rest.split(end).next());
    let all = between("](", ')').chain(between("src=\"", '"')).chain(between("href=\"", '"'));
    let paths = all.filter(|link| !link.contains(':')).filter_map(|link| link.split('#').next());
    paths.filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

/// The path within the package of what `document` calls `link`.
fn resolve(document: &str, link: &str) -> String {
    let mut path: Vec<_> = document.split('/').collect();
    path.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            name => path.push(name),
        }
    }
    path.join("/")
}

#[test]
fn links_lead_to_files_of_the_package() {
    let files = files();
    let mut seen = 0;
    for document in files.iter().filter(|file| file.ends_with(".md")) {
        for link in links(&fs::read_to_string(Path::new(ROOT).join(document)).unwrap()) {
            let path = resolve(document, &link);
            let directory = format!("{path}/");
            let there = files.iter().any(|file| *file == path || file.starts_with(&directory));
            assert!(there, "{document} points at {link}");
            seen += 1;
        }
    }
    assert!(seen >= 4, "README.md alone has that many links");
}

#[test]
fn what_only_the_repository_needs_stays_there() {
    for file in files() {
        for unwanted in [".ci/", "ci/", "crates/", "fuzz/", "benches/peers/"] {
            assert!(!file.starts_with(unwanted), "{file}");
        }
        if ["tests/", "benches/", "examples/"].iter().any(|target| file.starts_with(target)) {
            let text = fs::read_to_string(Path::new(ROOT).join(&file)).unwrap();
            assert!(!text.contains("use schemas::"), "{file} needs a crate that is not published");
        }
    }
}

#[test]
fn links_are_found_in_prose_alone() {
    let document =
        "[a](docs/a.md#part) [`b`](../b) [c](https://c) `[d](d)`\n```sh\n[e](e)\n```\n![f](f.svg) [g](#g)\n";
    assert_eq!(links(document), ["docs/a.md", "../b", "f.svg"]);
    assert_eq!(resolve("docs/design.md", "../b"), "b");
    assert_eq!(resolve("README.md", "docs/a.md"), "docs/a.md");
}
