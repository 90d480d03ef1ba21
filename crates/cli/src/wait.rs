//! Waits for a channel, until the user wants the end.

use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, OpenError, Tap, Transport};

use crate::interrupt;

/// How often a wait looks whether the user wants the end.
const TICK: Duration = Duration::from_millis(50);
/// How often a tap looks for its channel.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for a channel that can be looked at.
pub fn open_tap(config: &Config, name: &str, wait: Duration) -> anyhow::Result<Tap> {
    patiently(wait, |left| Tap::open_with(name, config).inspect_err(|_| std::thread::sleep(left.min(PAUSE))))
}

/// Waits for a channel that has a place for a side B.
pub fn open_side_b(config: &Config, name: &str, wait: Duration) -> anyhow::Result<Transport> {
    patiently(wait, |left| Transport::open_with(name, left, config))
}

/// Tries until it is there, each time for a short part of what is left.
fn patiently<T>(
    wait: Duration,
    mut try_once: impl FnMut(Duration) -> Result<T, OpenError>,
) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        let left = wait.saturating_sub(began.elapsed());
        match try_once(left.min(TICK)) {
            Ok(opened) => return Ok(opened),
            Err(OpenError::Timeout { .. }) if !left.is_zero() && !interrupt::asked() => {}
            // How long the last try waited is not how long we did.
            Err(OpenError::Timeout { name, missing, .. }) => {
                return Err(OpenError::Timeout { name, waited: wait, missing }.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
