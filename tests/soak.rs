//! The soak example, for a moment: it works, and it is able to fail.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::*;

/// The example beside this test, which `cargo test` builds along.
fn soak(args: &[&str]) -> Command {
    let tests = std::env::current_exe().unwrap();
    let directory = tests.ancestors().nth(2).unwrap().join("examples");
    let program: PathBuf = directory.join(format!("soak{}", std::env::consts::EXE_SUFFIX));
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn guaranteed(text: &str, what: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("guarantee: soak {what}: ")));
    line.unwrap_or_else(|| panic!("no {what} in\n{text}")).parse().unwrap()
}

#[test]
fn two_seconds_of_soak_lose_nothing_and_leave_nothing() {
    let name = named("soak");
    let output = soak(&["--seconds", "2", "--name", &name]).output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(guaranteed(&said, "messages") > 0 && guaranteed(&said, "kills") > 0, "{said}");
    assert!(said.lines().any(|line| line.split_whitespace().eq(["errors", "0"])), "{said}");
    assert_eq!(name.left().len(), 0);
}

#[test]
fn a_soak_that_goes_wrong_says_so_and_fails() {
    let name = named("soak-wrong");
    std::fs::create_dir(name.a2b()).unwrap();
    let output = soak(&["--seconds", "30", "--name", &name]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("error: side A: create: ") && said.contains("is in the way"), "{said}");
}
