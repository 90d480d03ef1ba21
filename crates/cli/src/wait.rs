//! Waits for a channel, until the user wants the end.

use std::time::{Duration, Instant};

use capnproto_shm_transport::{ChannelInfo, Config, Life, Missing, OpenError, Tap, Transport};

use crate::interrupt;

/// How often a wait looks whether the user wants the end.
const TICK: Duration = Duration::from_millis(50);
/// How often a wait looks for a channel from outside.
const PAUSE: Duration = Duration::from_millis(5);

/// Waits for a channel that can be looked at.
pub fn open_tap(config: &Config, name: &str, wait: Duration) -> anyhow::Result<Tap> {
    patiently(wait, |left| Tap::open_with(name, config).inspect_err(|_| rest(left)))
}

/// Waits for a channel that a side B could join, and looks at it.
pub fn wait_for_side_a(config: &Config, name: &str, wait: Duration) -> anyhow::Result<ChannelInfo> {
    patiently(wait, |left| {
        ChannelInfo::of_with(name, config).and_then(with_a_place).inspect_err(|_| rest(left))
    })
}

fn with_a_place(info: ChannelInfo) -> Result<ChannelInfo, OpenError> {
    let missing = match (info.a.life, info.b.life) {
        (Life::Alive, Life::Absent) => return Ok(info),
        (Life::Alive, Life::Alive) => return Err(OpenError::InUse { name: info.name }),
        (Life::Alive, _) => Missing::FreshGeneration,
        _ => Missing::SideA,
    };
    Err(OpenError::Timeout { name: info.name, waited: Duration::ZERO, missing })
}

fn rest(left: Duration) {
    std::thread::sleep(left.min(PAUSE));
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
