//! The Cap'n Proto examples run as a user runs them, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod programs;

#[test]
fn capnp_quotes_exchanges_quotes_and_ends() {
    let text = programs::run("capnp_quotes", &[]);
    let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!((count("desk:  XLON"), count("venue: the desk takes")), (15, 5), "{text}");
    assert!(text.contains("desk:  XLON BARC bid 149.50 ask 150.50"), "{text}");
    assert!(text.contains("venue: the desk takes VOD in round 0"), "{text}");
    assert!(text.contains("venue: 5 messages out, 5 back, then closed"), "{text}");
}
