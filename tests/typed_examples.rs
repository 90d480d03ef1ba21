//! The typed and raw examples run as a user runs them, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn example(name: &str) -> Command {
    let tests = std::env::current_exe().unwrap();
    let examples: PathBuf = tests.parent().unwrap().join("../examples");
    let program = examples.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.exists(), "{} is not built: run `cargo build --examples`", program.display());
    Command::new(program)
}

/// Runs an example to its end and gives what it printed.
fn run(name: &str) -> String {
    let child = example(name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{name}: {status}\n{stdout}\n{stderr}");
    // Examples name their channels after their process.
    #[cfg(target_os = "linux")]
    for entry in std::fs::read_dir("/dev/shm").unwrap() {
        let left = entry.unwrap().file_name().into_string().unwrap_or_default();
        assert!(!left.contains(&format!("-{id}.")), "{name} left {left}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = id;
    stdout
}

#[test]
fn typed_ticks() {
    let said = run("typed_ticks");
    assert!(said.contains("received 200100 ticks"), "{said}");
    assert!(said.contains("latency of a single tick: median"), "{said}");
    assert!(said.contains("last tick: ACME 100.98 x 599 / 101.00 x 299"), "{said}");
}

#[test]
fn custom_framing() {
    let said = run("custom_framing");
    assert!(said.contains("wrote 10001 records: 10000 in 950 slots, 1 in a span"), "{said}");
    assert!(said.contains("read 10001 records, 416862 bytes of text, 1 error, longest 8000 bytes"), "{said}");
}

#[test]
fn request_reply() {
    let said = run("request_reply");
    assert!(said.contains("10000 calls answered, up to 16 at once"), "{said}");
    // The first sixteen requests become visible together, so some answers must overtake.
    assert!(!said.contains("; 0 answers overtook"), "{said}");
}

#[test]
fn echo() {
    assert!(run("echo").starts_with("100000 messages there and back, "));
}

#[test]
fn a_failure_has_a_message_and_a_status() {
    for name in ["typed_ticks", "custom_framing", "request_reply", "echo"] {
        let Output { status, stderr, .. } = example(name).arg("nonsense").output().unwrap();
        let stderr = String::from_utf8_lossy(&stderr);
        assert!(!status.success() && stderr.contains("usage: "), "{name}: {status}\n{stderr}");
    }
}
