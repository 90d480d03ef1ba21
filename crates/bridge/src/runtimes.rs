//! On which of its threads Zenoh does what.

#![allow(unsafe_code, reason = "the environment is set")]

/// Zenoh reads it once, at the first use of any of its threads.
const VARIABLE: &str = "ZENOH_RUNTIME";
/// The threads that receive also wait for the sockets. By default other threads do, those that accept and connect, and each
/// frame that comes costs one wake more.
const RECEIVERS_WAIT: &str = "(acc: (handover: rx), net: (handover: rx))";

/// Saves a wake of each frame that comes, unless the environment says otherwise. Call it first of all in `main`.
pub fn let_receivers_wait() {
    if std::env::var_os(VARIABLE).is_none() {
        // SAFETY: this is the first call in `main`, so there is no other thread that could read the environment.
        unsafe { std::env::set_var(VARIABLE, RECEIVERS_WAIT) };
    }
}
