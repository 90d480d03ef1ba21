//! The asynchronous examples run as a user runs them, end by themselves, and leave nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod programs;

use programs::{assert_failure, run, start};

/// The counts of `async_select` for each source.
fn counts(said: &str) -> Vec<(&str, u32)> {
    let last = said.lines().last().unwrap();
    let counts = last.strip_prefix("received: ").unwrap_or_else(|| panic!("{said}"));
    counts
        .split(", ")
        .map(|count| count.split_once(' ').unwrap())
        .map(|(of, n)| (of, n.parse().unwrap()))
        .collect()
}

#[cfg(unix)]
#[test]
fn async_select_hears_everybody_until_ctrl_c() {
    let mut program = start("async_select", &["--seconds", "600"]);
    let wanted = ["20.01 °C", "counter      3\n", "the pump runs", "line 1\n", "tick"];
    let mut said = program.read_until(|said| wanted.iter().all(|what| said.contains(what)));
    program.interrupt();
    said += &program.succeed();
    let counts = counts(&said);
    let sources: Vec<_> = counts.iter().map(|(source, _)| *source).collect();
    assert_eq!(sources, ["counter", "log", "socket", "thermometer", "timer"], "{said}");
    for (source, count) in counts {
        let lines = said.lines().filter(|line| line.split(' ').any(|word| word == source));
        // And the line that counts them.
        assert_eq!(lines.count(), count as usize + 1, "{source} in\n{said}");
    }
    let values: Vec<_> =
        said.lines().filter_map(|line| line.split_once("counter      ")).map(|(_, number)| number).collect();
    let expected: Vec<_> = (1..=values.len()).map(|number| number.to_string()).collect();
    assert_eq!(values, expected, "none is missing: {said}");
}

#[test]
fn async_select_ends_by_itself() {
    let said = run("async_select", &["--seconds", "0.5"]);
    assert!(!counts(&said).is_empty(), "{said}");
}

#[test]
fn async_smol_sums_up_what_came_back() {
    let said = run("async_smol", &[]);
    assert!(said.starts_with("100000 numbers there and their squares back, "), "{said}");
    assert!(said.contains("the sum of the squares is 333338333350000"), "{said}");
}

#[test]
fn http_over_shm_shows_requests_and_answers() {
    let said = run("http_over_shm", &[]);
    let exchanges: Vec<_> = said.split("> ").skip(1).collect();
    let expected = [
        ("GET /hello\n", "< HTTP/1.1 200 OK\n", "Hello from process "),
        ("POST /length\n", "< HTTP/1.1 200 OK\n", "4194304 bytes came\n"),
        ("GET /nowhere\n", "< HTTP/1.1 404 Not Found\n", "there is no /nowhere\n"),
    ];
    assert_eq!(exchanges.len(), expected.len(), "{said}");
    for (exchange, (question, status, answer)) in exchanges.iter().zip(expected) {
        assert!(exchange.starts_with(&format!("{question}{status}")), "{said}");
        assert!(exchange.contains("< content-length: ") && exchange.contains(answer), "{said}");
    }
    assert!(said.contains("5000 requests one after the other, "), "{said}");
}

#[test]
fn a_failure_has_a_message_and_a_status() {
    for name in ["async_smol", "http_over_shm"] {
        assert_failure(&start(name, &["nonsense"]).finish(), 1, "usage: ");
    }
    for args in [&["--seconds", "-1"][..], &["--seconds", "x"], &["nonsense"]] {
        assert_failure(&start("async_select", args).finish(), 2, "error: ");
    }
}
