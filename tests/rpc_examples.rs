//! The examples of RPC run as a user runs them, and leave nothing behind.
#![cfg(all(feature = "rpc", feature = "tokio"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().join(format!("../examples/{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing; build the examples with the feature `rpc`", path.display());
    path
}

/// The output of an example. It must succeed, and no channel of it may be left.
fn said(name: &str) -> String {
    let mut command = Command::new(example(name));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let channel = format!("{}-{}", name.replace('_', "-"), child.id());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    #[cfg(target_os = "linux")]
    for entry in std::fs::read_dir("/dev/shm").unwrap() {
        let left = entry.unwrap().file_name().into_string().unwrap_or_default();
        assert!(!left.contains(&channel), "{left} is left");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = channel;
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn rpc_calculator_pipelines_and_calls_back() {
    let said = said("rpc_calculator");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[..2], ["(1 + 2) * 3 = 9", "2 ^ ((1 + 2) * 3) = 512"]);
    assert!(lines[2].starts_with("3 / 0: ") && lines[2].ends_with("division by zero"), "{said}");
}

#[test]
fn rpc_pubsub_brings_all_news_to_all() {
    let said = said("rpc_pubsub");
    let read = said.lines().filter(|line| *line == "subscriber: the last of 100 is \"news number 99\"");
    assert_eq!(read.count(), 3, "{said}");
    assert!(said.contains("publisher: 100 pieces of news to 3 subscribers"), "{said}");
    assert!(said.contains("publisher: 0 subscribers are left"), "{said}");
}
