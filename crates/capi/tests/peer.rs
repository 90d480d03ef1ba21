//! One side of a channel, in Rust: see `peer.c`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::error::Error;
use std::time::{Duration, Instant};

use bytemuck::{Pod, Zeroable};
use schemas::quotes_capnp::{book, level};
use transport::{
    CapnpChannel, Channel, Config, Direction, Kind, OpenError, RecvError, SendError, Server, Tap, Transport,
};

const ROUNDS: u32 = 300;
const WAIT: Duration = Duration::from_secs(60);
/// Messages that a tap delivers.
const MANY: u32 = 20_000;
const TAG: &str = "pairs/1";

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
struct Value {
    number: u64,
    price: f64,
    size: u32,
    flags: u32,
}

/// A kind of channel, whose messages are numbers.
trait Peer: Kind {
    fn create(name: &str, config: &Config) -> Result<Self>;
    /// Opens it, or connects to its server.
    fn join(role: &str, name: &str, config: &Config) -> std::result::Result<Self, OpenError>;
    /// With another type, or for bytes with another tag.
    fn join_wrongly(role: &str, name: &str, config: &Config) -> std::result::Result<(), OpenError>;
    fn slot_size() -> usize;
    fn send(&mut self, number: u32) -> Result;
    /// Whether the next message is this one.
    fn next_is(&mut self, number: u32) -> std::result::Result<bool, RecvError>;
}

/// Calls that have the same name on every kind of channel.
macro_rules! join {
    ($channel:ty, $role:expr, $name:expr, $config:expr) => {
        if $role == "connect" {
            <$channel>::connect_with($name, WAIT, $config)
        } else {
            <$channel>::open_with($name, WAIT, $config)
        }
    };
}

fn bytes(number: u32) -> Vec<u8> {
    (0..number % 40).map(|at| number.wrapping_mul(131).wrapping_add(at * 7) as u8).collect()
}

impl Peer for Transport {
    fn create(name: &str, config: &Config) -> Result<Self> {
        Ok(Self::create(name, config)?)
    }

    fn join(role: &str, name: &str, config: &Config) -> std::result::Result<Self, OpenError> {
        join!(Self, role, name, config)
    }

    fn join_wrongly(role: &str, name: &str, config: &Config) -> std::result::Result<(), OpenError> {
        join!(Self, role, name, &config.clone().message_tag("pairs/2")).map(|_| ())
    }

    fn slot_size() -> usize {
        16
    }

    fn send(&mut self, number: u32) -> Result {
        let message = bytes(number);
        let mut slot = self.reserve_span(message.len())?;
        slot[..message.len()].copy_from_slice(&message);
        slot.commit(message.len());
        Ok(())
    }

    fn next_is(&mut self, number: u32) -> std::result::Result<bool, RecvError> {
        Ok(*self.recv_timeout(WAIT)? == *bytes(number))
    }
}

impl Peer for Channel<Value> {
    fn create(name: &str, config: &Config) -> Result<Self> {
        Ok(Self::create(name, config)?)
    }

    fn join(role: &str, name: &str, config: &Config) -> std::result::Result<Self, OpenError> {
        join!(Self, role, name, config)
    }

    fn join_wrongly(role: &str, name: &str, config: &Config) -> std::result::Result<(), OpenError> {
        join!(Channel<[u64; 4], Value>, role, name, config).map(|_| ())
    }

    fn slot_size() -> usize {
        16
    }

    fn send(&mut self, number: u32) -> Result {
        let mut value = self.reserve()?;
        *value =
            Value { number: number.into(), price: f64::from(number) * 0.5, size: number, flags: !number };
        value.commit();
        Ok(())
    }

    fn next_is(&mut self, number: u32) -> std::result::Result<bool, RecvError> {
        let wanted =
            Value { number: number.into(), price: f64::from(number) * 0.5, size: number, flags: !number };
        Ok(*self.recv_timeout(WAIT)? == wanted)
    }
}

impl Peer for CapnpChannel<level::Owned> {
    fn create(name: &str, config: &Config) -> Result<Self> {
        Ok(Self::create(name, config)?)
    }

    fn join(role: &str, name: &str, config: &Config) -> std::result::Result<Self, OpenError> {
        join!(Self, role, name, config)
    }

    fn join_wrongly(role: &str, name: &str, config: &Config) -> std::result::Result<(), OpenError> {
        join!(CapnpChannel<book::Owned, level::Owned>, role, name, config).map(|_| ())
    }

    fn slot_size() -> usize {
        64
    }

    fn send(&mut self, number: u32) -> Result {
        let build = |mut level: level::Builder<'_>| {
            level.set_price(f64::from(number) * 0.5);
            level.set_size(number);
            Ok(())
        };
        Ok(self.send(build)?)
    }

    fn next_is(&mut self, number: u32) -> std::result::Result<bool, RecvError> {
        let message = self.recv_timeout(WAIT)?;
        let level = message.get().expect("a level");
        Ok(level.get_price() == f64::from(number) * 0.5 && level.get_size() == number)
    }
}

fn receive<P: Peer>(peer: &mut P, number: u32) -> Result {
    if peer.next_is(number)? { Ok(()) } else { Err(format!("message {number} is not as it was sent").into()) }
}

fn play<P: Peer>(role: &str, ending: &str, name: &str) -> Result {
    let creates = matches!(role, "create" | "serve");
    let config = Config::new().slot_size(P::slot_size()).slot_count(8).message_tag(TAG);
    if ending == "wrong" {
        return match P::join_wrongly(role, name, &config) {
            Err(OpenError::Type { .. } | OpenError::Tag { .. }) => Ok(()),
            other => Err(format!("the wrong type is not refused: {other:?}").into()),
        };
    }
    let mut peer = match role {
        "create" => P::create(name, &config)?,
        "serve" => Server::<P>::bind(name, &config)?.accept_timeout(WAIT)?,
        _ => P::join(role, name, &config)?,
    };
    match ending {
        "waits" => {
            std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
            return Ok(());
        }
        "streams" => {
            for number in 0.. {
                match peer.send(number) {
                    Err(error) if matches!(error.downcast_ref(), Some(SendError::PeerDead)) => return Ok(()),
                    other => other?,
                }
            }
        }
        "sees-stream" => {
            for number in 0.. {
                match peer.next_is(number) {
                    Ok(true) if number == 0 => println!("there"),
                    Ok(true) => {}
                    Err(RecvError::PeerDead) => return Ok(()),
                    other => return Err(format!("message {number} of the stream: {other:?}").into()),
                }
            }
        }
        _ => {}
    }
    for number in 0..ROUNDS {
        if creates {
            peer.send(number)?;
        }
        receive(&mut peer, number)?;
        if !creates {
            peer.send(number)?;
        }
    }
    match (ending, if ending.starts_with("sees") { peer.next_is(0) } else { Ok(true) }) {
        ("dies", _) => {
            // Killed without a chance to say so.
            let pid = std::process::id().to_string();
            std::process::Command::new("kill").args(["-KILL", &pid]).status()?;
            std::thread::sleep(WAIT);
            Err("still alive".into())
        }
        ("closes", _) | ("sees-close", Err(RecvError::Closed)) | ("sees-death", Err(RecvError::PeerDead)) => {
            Ok(())
        }
        (_, other) => Err(format!("{ending}: {other:?}").into()),
    }
}

/// Reads a stream of bytes in passing: what it gets and what it says it missed are all that was sent. Says "there" when it
/// has the channel open, and "enough" when it has seen and missed many.
fn tap(name: &str) -> Result {
    let start = Instant::now();
    let mut tap = loop {
        match Tap::open(name) {
            Ok(tap) => break tap,
            Err(error) if start.elapsed() > WAIT => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    println!("there");
    let (mut message, mut number, mut delivered) = (Vec::new(), 0, 0);
    loop {
        match tap.next_timeout(&mut message, WAIT) {
            Ok(found) if found.direction == Direction::AToB => {
                number += u32::try_from(found.missed)?;
                if message != bytes(number) {
                    return Err(format!("message {number} in passing is not as it was sent").into());
                }
                number += 1;
                delivered += 1;
                if delivered == MANY {
                    println!("enough");
                }
            }
            Err(RecvError::PeerDead) if tap.missed() > 0 && delivered >= MANY => return Ok(()),
            other => return Err(format!("the stream in passing: {other:?}").into()),
        }
    }
}

fn main() -> Result {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [role, kind, ending, name] = &words[..] else { return Err("peer ROLE KIND ENDING NAME".into()) };
    match &kind[..] {
        _ if role == "tap" => tap(name),
        "raw" => play::<Transport>(role, ending, name),
        "values" => play::<Channel<Value>>(role, ending, name),
        _ => play::<CapnpChannel<level::Owned>>(role, ending, name),
    }
}
