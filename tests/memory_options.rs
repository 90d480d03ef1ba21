//! `prefault`, `huge_pages`, `numa_node`: they work where the system has them, and say so where it has not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use capnproto_shm_transport::{Config, ConfigError, CreateError, OpenError, Transport};
use common::{LONG, named};

/// A channel made and joined with `config` carries a message.
fn works(a: &mut Transport, name: &str, config: &Config) {
    let mut b = Transport::open_with(name, LONG, config).unwrap();
    a.send(b"hello").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"hello");
}

#[test]
fn prefaulted_memory_works_on_both_sides() {
    let name = named("prefault");
    let config = Config::new().prefault(true);
    let mut a = Transport::create(&name, &config).unwrap();
    works(&mut a, &name, &config);
}

/// Either it works, or the error names the option and what is missing, and nothing is left.
fn works_or_says_why(label: &str, config: Config, option: &str) {
    let name = named(label);
    match Transport::create(&name, &config) {
        Ok(mut a) => works(&mut a, &name, &config),
        Err(CreateError::Config(error @ ConfigError::Unsupported { .. })) => {
            let text = error.to_string();
            assert!(text.contains(option) && text.contains("leave the option out"), "{text}");
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!(name.left().len(), 0);
}

#[test]
fn huge_pages_work_or_say_what_is_missing() {
    works_or_says_why("huge", Config::new().huge_pages(true), "huge_pages");
}

#[test]
fn a_numa_node_works_or_says_what_is_missing() {
    works_or_says_why("node", Config::new().numa_node(0), "numa_node");
}

#[test]
fn a_numa_node_that_is_not_there_is_refused_by_either_side() {
    let name = named("nowhere");
    let config = Config::new().numa_node(100_000);
    let refused = |error: &ConfigError| matches!(error, ConfigError::Unsupported { option: "numa_node", .. });
    assert!(matches!(Transport::create(&name, &config), Err(CreateError::Config(e)) if refused(&e)));
    assert_eq!(name.left().len(), 0);
    let _a = Transport::create(&name, &Config::new()).unwrap();
    assert!(matches!(Transport::open_with(&name, LONG, &config), Err(OpenError::Config(e)) if refused(&e)));
    // The refused side B was never there.
    drop(Transport::open(&name, LONG).unwrap());
}
