//! Everything that is measured, by name.

mod capnp_socket;
mod capnp_threads;
mod futex;
mod iceoryx;
mod ipc_channel;
mod line;
mod message;
mod ours;
mod ours_capnp;
mod pipe;
pub mod quotes;
mod readiness;
pub mod request;
mod ring_tail;
mod ring_word;
mod rtrb;
mod shared;
mod solo;
mod stream;
mod tasks;

use anyhow::{Result, bail};

pub use ours::PATIENCE;

use crate::contender::Spec;
use crate::pair::{self, Pair};
use crate::process::Control;
use crate::task::Tasks;

macro_rules! contenders {
    ($($name:literal => $contender:ty,)*) => {
        /// Sets up a connection, as the leader.
        pub fn start(name: &str, spec: &Spec) -> Result<Box<dyn Pair>> {
            match name {
                $($name => pair::start::<$contender>(name, spec),)*
                _ => solo::start(name, spec),
            }
        }

        /// Takes it up, in the process that the leader started.
        pub fn follow(name: &str, spec: &Spec, token: &str) -> Result<()> {
            match name {
                $($name => pair::follow::<$contender>(spec, token, Control::inherited()?),)*
                _ => bail!("no contender is called {name}"),
            }
        }
    };
}

contenders! {
    "ours" => ours::Ours<ours::InPlace>,
    "ours-copied" => ours::Ours<ours::Copied>,
    "ours-batched" => ours::Ours<ours::Batched>,
    "ours-served" => ours::Served,
    "ours-many" => ours::Ours<ours::Many>,
    "ours-request" => ours_capnp::OursCapnp<request::Request>,
    "ours-quotes" => ours_capnp::OursCapnp<quotes::Quotes>,
    "ours-armed" => readiness::Named,
    "ours-armed-anonymous" => readiness::Anonymous,
    "ours-wait-set" => readiness::Set,
    "ours-task" => Tasks<tasks::Ours<tasks::InPlace>>,
    "ours-task-copied" => Tasks<tasks::Ours<tasks::Copied>>,
    "ours-task-batched" => Tasks<tasks::Ours<tasks::Batched>>,
    "ours-task-bytes" => Tasks<tasks::Bytes<true>>,
    "ours-task-bytes-default" => Tasks<tasks::Bytes<false>>,
    "socket-task" => Tasks<tasks::Socket>,
    "pipe-task" => Tasks<tasks::Pipe>,
    "eventfd" => readiness::Eventfd,
    "line" => line::Line,
    "futex" => futex::Futex,
    "ring-tail" => ring_tail::RingTail<0>,
    "ring-batch" => ring_tail::RingTail<20>,
    "ring-word" => ring_word::RingWord,
    "rtrb" => rtrb::Threads,
    "iceoryx2" => iceoryx::Iceoryx<false>,
    "iceoryx2-best" => iceoryx::Iceoryx<true>,
    "ipc-channel" => ipc_channel::IpcChannel,
    "socket" => stream::Socket,
    "pipe" => pipe::Pipe,
    "request-socket" => capnp_socket::CapnpSocket<request::Request>,
    "quotes-socket" => capnp_socket::CapnpSocket<quotes::Quotes>,
    "quotes-threads" => capnp_threads::CapnpThreads<quotes::Quotes>,
}
