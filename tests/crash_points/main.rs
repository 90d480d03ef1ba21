//! Death at every step of every operation, on either side.
//!
//! The steps are compiled in by `--cfg crash_points`, which no user's build can switch on. Without it this test
//! builds itself again with it, and runs that.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

// Where cargo runs the tests of another system, under an emulator, there is no cargo to build it with.
#[cfg(not(any(crash_points, windows)))]
mod again;
#[cfg(crash_points)]
mod child;
#[cfg(crash_points)]
#[path = "../common/mod.rs"]
mod common;
#[cfg(crash_points)]
mod deaths;
#[cfg(all(crash_points, target_os = "linux"))]
mod servers;
#[cfg(crash_points)]
mod survivor;
