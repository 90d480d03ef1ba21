//! The Cap'n Proto examples run as a user runs them, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().unwrap().join(format!("../examples/{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(path.exists(), "{} is missing; build the examples with the feature `capnp`", path.display());
    path
}

#[test]
fn capnp_quotes_exchanges_quotes_and_ends() {
    let mut command = Command::new(example("capnp_quotes"));
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("desk:  XLON"), count("venue: the desk takes")), (15, 5), "{text}");
    assert!(text.contains("desk:  XLON BARC bid 149.50 ask 150.50"), "{text}");
    assert!(text.contains("venue: the desk takes VOD in round 0"), "{text}");
    assert!(text.contains("venue: 5 messages out, 5 back, then closed"), "{text}");
    #[cfg(target_os = "linux")]
    for entry in std::fs::read_dir("/dev/shm").unwrap() {
        let left = entry.unwrap().file_name().into_string().unwrap_or_default();
        assert!(!left.contains(&format!("capnp-quotes-{id}.")), "{left} is left");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = id;
}
