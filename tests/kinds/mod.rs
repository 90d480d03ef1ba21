//! The common parts of the three kinds of channel, so that one test shows it for all: their messages are numbers here.

#![allow(dead_code, unused_macros, unused_imports, reason = "each test binary uses its own part")]

use std::time::Duration;

#[cfg(feature = "capnp")]
use capnproto_shm_transport::{CapnpChannel, capnp::schema_capnp::capnp_version};
use capnproto_shm_transport::{
    Channel, Config, CreateError, Interrupter, OpenError, PollControl, RecvError, SendError, Stats, Transport,
};

/// A channel of numbers.
pub trait Kind: Sized + Send {
    const NAME: &'static str;
    fn create(name: &str, config: &Config) -> Result<Self, CreateError>;
    fn open_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError>;
    fn reopen(&mut self, wait: Duration) -> Result<(), OpenError>;
    fn wait_for_peer(&mut self, wait: Duration) -> Result<(), RecvError>;
    fn finish(&mut self, wait: Duration) -> Result<(), SendError>;
    fn interrupter(&self) -> Interrupter;
    fn poll_control(&self) -> PollControl;
    fn stats(&self) -> Stats;
    fn put(&mut self, number: u16, wait: Duration) -> Result<(), SendError>;
    fn take(&mut self, wait: Duration) -> Result<u16, RecvError>;
    fn try_take(&mut self) -> Result<u16, RecvError>;
    fn try_latest(&mut self) -> Result<u16, RecvError>;
    fn latest(&mut self, wait: Option<Duration>) -> Result<u16, RecvError>;
    /// Takes without an end to the waiting.
    fn take_at_last(&mut self) -> Result<u16, RecvError>;
}

macro_rules! inherent {
    ($name:literal) => {
        const NAME: &'static str = $name;
        fn create(name: &str, config: &Config) -> Result<Self, CreateError> {
            Self::create(name, config)
        }
        fn open_with(name: &str, wait: Duration, config: &Config) -> Result<Self, OpenError> {
            Self::open_with(name, wait, config)
        }
        fn reopen(&mut self, wait: Duration) -> Result<(), OpenError> {
            self.reopen(wait)
        }
        fn wait_for_peer(&mut self, wait: Duration) -> Result<(), RecvError> {
            self.wait_for_peer(wait)
        }
        fn finish(&mut self, wait: Duration) -> Result<(), SendError> {
            self.finish(wait)
        }
        fn interrupter(&self) -> Interrupter {
            self.interrupter()
        }
        fn poll_control(&self) -> PollControl {
            self.poll_control()
        }
        fn stats(&self) -> Stats {
            self.stats()
        }
        fn take(&mut self, wait: Duration) -> Result<u16, RecvError> {
            self.recv_timeout(wait).map(|message| number(&message))
        }
        fn try_take(&mut self) -> Result<u16, RecvError> {
            self.try_recv().map(|message| number(&message))
        }
        fn try_latest(&mut self) -> Result<u16, RecvError> {
            self.try_recv_latest().map(|message| number(&message))
        }
        fn latest(&mut self, wait: Option<Duration>) -> Result<u16, RecvError> {
            match wait {
                Some(wait) => self.recv_latest_timeout(wait),
                None => self.recv_latest(),
            }
            .map(|message| number(&message))
        }
        fn take_at_last(&mut self) -> Result<u16, RecvError> {
            self.recv().map(|message| number(&message))
        }
    };
}

impl Kind for Transport {
    inherent!("raw");

    fn put(&mut self, number: u16, wait: Duration) -> Result<(), SendError> {
        self.send_timeout(&number.to_ne_bytes(), wait)
    }
}

impl Kind for Channel<u16> {
    inherent!("pod");

    fn put(&mut self, number: u16, wait: Duration) -> Result<(), SendError> {
        self.send_timeout(&number, wait)
    }
}

#[cfg(feature = "capnp")]
pub type Versions = CapnpChannel<capnp_version::Owned>;

#[cfg(feature = "capnp")]
impl Kind for Versions {
    inherent!("capnp");

    fn put(&mut self, number: u16, wait: Duration) -> Result<(), SendError> {
        self.send_timeout(
            |mut version| {
                version.set_major(number);
                Ok(())
            },
            wait,
        )
    }
}

/// The number in a message of any kind.
trait Number {
    fn number(&self) -> u16;
}

fn number(message: &impl Number) -> u16 {
    message.number()
}

impl Number for capnproto_shm_transport::ReadSlot<'_> {
    fn number(&self) -> u16 {
        u16::from_ne_bytes(self[..].try_into().unwrap())
    }
}

impl Number for capnproto_shm_transport::PodRef<'_, u16> {
    fn number(&self) -> u16 {
        **self
    }
}

#[cfg(feature = "capnp")]
impl Number for capnproto_shm_transport::CapnpReader<'_, capnp_version::Owned> {
    fn number(&self) -> u16 {
        self.get().unwrap().get_major()
    }
}

/// Does the same for every kind: `each_kind!(test(arguments))` calls `test::<K>(arguments)` for each.
macro_rules! each_kind {
    ($test:ident ( $($arg:expr),* )) => {{
        $test::<capnproto_shm_transport::Transport>($($arg),*);
        $test::<capnproto_shm_transport::Channel<u16>>($($arg),*);
        #[cfg(feature = "capnp")]
        $test::<kinds::Versions>($($arg),*);
    }};
}
pub(crate) use each_kind;

/// Calls `role::<K>(arguments)` for the kind of this name.
macro_rules! of_kind {
    ($name:expr, $role:ident ( $($arg:expr),* )) => {
        match $name {
            "raw" => $role::<capnproto_shm_transport::Transport>($($arg),*),
            "pod" => $role::<capnproto_shm_transport::Channel<u16>>($($arg),*),
            #[cfg(feature = "capnp")]
            "capnp" => $role::<kinds::Versions>($($arg),*),
            other => panic!("no kind {other}"),
        }
    };
}
pub(crate) use of_kind;
