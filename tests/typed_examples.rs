//! The typed and raw examples run as a user runs them, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod programs;

use programs::{assert_failure, run, start};

#[test]
fn typed_ticks() {
    let said = run("typed_ticks", &[]);
    assert!(said.contains("received 200100 ticks"), "{said}");
    assert!(said.contains("latency of a single tick: median"), "{said}");
    assert!(said.contains("last tick: ACME 100.98 x 599 / 101.00 x 299"), "{said}");
}

#[test]
fn custom_framing() {
    let said = run("custom_framing", &[]);
    assert!(said.contains("wrote 10001 records: 10000 in 950 slots, 1 in a span"), "{said}");
    assert!(said.contains("read 10001 records, 416862 bytes of text, 1 error, longest 8000 bytes"), "{said}");
}

#[test]
fn request_reply() {
    let said = run("request_reply", &[]);
    assert!(said.contains("10000 calls answered, up to 16 at once"), "{said}");
    // The first sixteen requests become visible together, so some answers must overtake.
    assert!(!said.contains("; 0 answers overtook"), "{said}");
}

#[test]
fn echo() {
    assert!(run("echo", &[]).starts_with("100000 messages there and back, "));
}

#[test]
fn a_failure_has_a_message_and_a_status() {
    for name in ["typed_ticks", "custom_framing", "request_reply", "echo"] {
        assert_failure(&start(name, &["nonsense"]).finish(), 1, "usage: ");
    }
}
