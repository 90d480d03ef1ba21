//! Programs of others that a test compares with. Where one is absent the test says so, and fails in CI.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::process::Command;

/// The C++ `capnp` tool.
pub fn capnp() -> Option<()> {
    present("the `capnp` tool", Command::new("capnp").arg("--version"))
}

/// Python with pycapnp.
pub fn pycapnp() -> Option<()> {
    present("pycapnp", Command::new("python3").args(["-c", "import capnp"]))
}

fn present(what: &str, command: &mut Command) -> Option<()> {
    if command.output().is_ok_and(|output| output.status.success()) {
        return Some(());
    }
    // As Windows programs the tests run beside another system's tools, which they cannot start.
    let may_lack = cfg!(windows) || std::env::var_os("CI").is_none();
    assert!(may_lack, "{what} is not installed, and CI must have it");
    println!("SKIPPED: {what} is not installed");
    None
}
