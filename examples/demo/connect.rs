//! How the two sides find each other.

use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, CreateError, OpenError, PollMode, Side, Transport};

use crate::exchange::Pace;
use crate::{Failure, GLANCE, args, stopped};

/// How long side B waits for side A.
const PATIENCE: Duration = Duration::from_secs(60);

/// The task of one side.
pub struct Plan {
    pub name: String,
    pub side: Side,
    /// Side A's choice; side B learns it.
    pub geometry: Option<(usize, usize)>,
    pub pace: Pace,
    pub time: Duration,
    /// How this side waits; the library's default if nothing is said.
    pub local: Option<PollMode>,
    /// How the other side is asked to wait.
    pub remote: Option<PollMode>,
}

impl Plan {
    pub fn is_a(&self) -> bool {
        self.side == Side::A
    }
}

/// A channel with both sides there. While there is nobody yet, `hope` is asked whether to go on waiting.
pub fn connect(plan: &Plan, hope: impl FnMut() -> Result<(), Failure>) -> Result<Transport, Failure> {
    let mut config = Config::new().prefault(true).message_tag("demo/1");
    if let Some(mode) = plan.local {
        config = config.poll(mode);
    }
    let transport = match plan.geometry {
        Some((size, count)) => create(&plan.name, &config.slot_size(size).slot_count(count), hope)?,
        None => open(&plan.name, &config)?,
    };
    if let Some(mode) = plan.remote {
        transport.poll_control().set_remote(mode);
    }
    Ok(transport)
}

fn create(
    name: &str,
    config: &Config,
    mut hope: impl FnMut() -> Result<(), Failure>,
) -> Result<Transport, Failure> {
    let transport = Transport::create(name, config).map_err(|error| match error {
        CreateError::Config(wrong) => args::refuse(wrong),
        other => Failure::from(other),
    })?;
    while !transport.peer_attached() {
        hope()?;
        if stopped() {
            return Err("interrupted".into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(transport)
}

fn open(name: &str, config: &Config) -> Result<Transport, Failure> {
    let began = Instant::now();
    loop {
        match Transport::open_with(name, GLANCE, config) {
            Err(OpenError::Timeout { .. }) if !stopped() && began.elapsed() < PATIENCE => {}
            Err(OpenError::Config(wrong)) => args::refuse(wrong),
            result => return result.map_err(Failure::from),
        }
    }
}
