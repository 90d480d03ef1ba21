//! Rates: two looks at the same life of a channel, some time apart.

use std::time::{Duration, Instant};

use capnproto_shm_transport::{ChannelInfo, RingInfo};

/// The work of one ring in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    pub messages: f64,
    pub bytes: f64,
    pub full_waits: f64,
    pub parks: f64,
}

impl Rate {
    fn between(before: &RingInfo, now: &RingInfo, time: Duration) -> Self {
        let per_second =
            |before: u64, now: u64| now.saturating_sub(before) as f64 / time.as_secs_f64().max(1e-6);
        let (before, now) = (&before.stats, &now.stats);
        Self {
            messages: per_second(before.messages, now.messages),
            bytes: per_second(before.bytes, now.bytes),
            full_waits: per_second(before.full_waits, now.full_waits),
            parks: per_second(before.parks, now.parks),
        }
    }
}

/// All channels at one moment.
#[derive(Debug)]
pub struct Look {
    pub at: Instant,
    pub channels: Vec<ChannelInfo>,
}

impl Look {
    pub fn new(channels: Vec<ChannelInfo>) -> Self {
        Self { at: Instant::now(), channels }
    }

    /// The rates of a channel since this look, if it lived then: from A to B, from B to A.
    pub fn rates(&self, now: &ChannelInfo, at: Instant) -> [Option<Rate>; 2] {
        let same = |before: &&ChannelInfo| before.name == now.name && before.generation == now.generation;
        let Some(before) = self.channels.iter().find(same) else { return [None, None] };
        let time = at.saturating_duration_since(self.at);
        let rate = |before: &Option<RingInfo>, now: &Option<RingInfo>| {
            Some(Rate::between(before.as_ref()?, now.as_ref()?, time))
        };
        [rate(&before.a_to_b, &now.a_to_b), rate(&before.b_to_a, &now.b_to_a)]
    }
}
