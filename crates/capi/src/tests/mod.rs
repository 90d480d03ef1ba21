//! The promises of the interface, seen from within: the header, the ABI, misuse, and random calls against a model.
//! Between processes and languages it is tested by `ci/cpp`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod abi;
mod calls;
#[cfg(target_os = "linux")]
mod model;
#[cfg(target_os = "linux")]
mod reach;
mod threads;
