//! `replay`: sends the messages of a recording again, as the side that had sent them.

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capnp_shm::recording::{End, Recorded, Recording, Stream};
use capnproto_shm_transport::{Consumer, Direction, RecvError, SendError, Transport};

use super::record::{create_like, send};
use crate::args::{Place, Replay, SideName};
use crate::wait::open_side_b;
use crate::{Exit, interrupt, text};

/// How often a wait looks whether the user wants the end.
const TICK: Duration = Duration::from_millis(50);

pub fn run(place: &Place, options: &Replay) -> anyhow::Result<Exit> {
    interrupt::watch()?;
    if !(options.speed >= 0.0 && options.speed.is_finite()) {
        bail!("--speed is 0 or more, and not {}", options.speed);
    }
    let (mut recording, first) = begin(&options.file)?;
    let streams = Recording::channel(recording.streams(), options.channel.as_deref())?;
    let name = options.to.as_deref().unwrap_or(&streams[0].name).to_owned();
    let direction = match options.side {
        SideName::A => Direction::AToB,
        SideName::B => Direction::BToA,
    };
    let transport = join(place, options, &name, &streams)?;
    let (mut producer, consumer) = transport.split();
    // What the other side sends is received and let go: it shall not wait for us.
    let drain = thread::spawn(move || drain(consumer));
    let mut sent = 0u64;
    let mut next = first;
    let ended = 'rounds: loop {
        let mut start: Option<(Instant, u64)> = None;
        while let Some(message) =
            next.take().map_or_else(|| recording.next_message(), |message| Ok(Some(message)))?
        {
            let stream = &recording.streams()[message.stream];
            if stream.name != streams[0].name || stream.direction != direction {
                continue;
            }
            let (began, zero) = *start.get_or_insert((Instant::now(), message.time));
            pace(began, message.time.saturating_sub(zero), options.speed);
            if interrupt::asked() {
                break 'rounds false;
            }
            match send(&mut producer, &message.bytes, &interrupt::asked) {
                Ok(()) => sent += 1,
                Err(SendError::Timeout) => break 'rounds false,
                Err(SendError::Closed | SendError::PeerDead | SendError::Superseded) => {
                    break 'rounds !interrupt::asked();
                }
                Err(error) => return Err(error).with_context(|| format!("message {sent} cannot be sent")),
            }
        }
        if let Some(End::Cut(why)) = recording.end() {
            writeln!(io::stderr(), "capnp-shm: the recording is cut short: {why}")?;
        }
        if !options.again || sent == 0 {
            break false;
        }
        (recording, next) = begin(&options.file)?;
    };
    // Until the other side has everything, or the user has enough.
    let received = loop {
        match producer.finish(TICK) {
            Ok(()) => break true,
            Err(SendError::Timeout | SendError::NoPeer) if !interrupt::asked() => {}
            Err(_) => break false,
        }
    };
    drop(producer);
    drop(drain);
    writeln!(io::stderr(), "{} sent", text::counted(sent, "message"))?;
    if ended || !received {
        writeln!(io::stderr(), "capnp-shm: the other side has not received everything")?;
        return Ok(Exit::Failure);
    }
    Ok(Exit::Success)
}

/// A recording, and its first message: by then all its channels are known.
pub fn begin(file: &Path) -> anyhow::Result<(Recording<io::BufReader<std::fs::File>>, Option<Recorded>)> {
    let mut recording = Recording::open(file)?;
    let first = recording.next_message().with_context(|| format!("cannot read {}", file.display()))?;
    if let (None, Some(End::Cut(why)), []) = (&first, recording.end(), recording.streams()) {
        bail!("{} is no recording, or is cut before its first chunk: {why}", file.display());
    }
    Ok((recording, first))
}

fn join(place: &Place, options: &Replay, name: &str, streams: &[Stream; 2]) -> anyhow::Result<Transport> {
    match options.side {
        SideName::A => {
            let mut transport = create_like(&place.config(), name, streams)?;
            let began = Instant::now();
            loop {
                match transport.wait_for_peer(TICK) {
                    Ok(()) => return Ok(transport),
                    Err(RecvError::Timeout) if began.elapsed() < options.wait && !interrupt::asked() => {}
                    Err(error) => {
                        return Err(error)
                            .context("no other side has come; start it, or wait longer (--wait)");
                    }
                }
            }
        }
        SideName::B => {
            let [a_to_b, b_to_a] = streams;
            let config = place.config().sends(b_to_a.kind).receives(a_to_b.kind);
            open_side_b(&config, name, options.wait)
        }
    }
}

/// Waits until a message is due.
fn pace(began: Instant, offset: u64, speed: f64) {
    if speed == 0.0 {
        return;
    }
    let due = began + Duration::from_nanos((offset as f64 / speed) as u64);
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if interrupt::asked() {
            return;
        }
        thread::sleep(left.min(TICK));
    }
}

fn drain(mut consumer: Consumer) {
    loop {
        match consumer.recv_timeout(TICK) {
            Ok(message) => drop(message),
            Err(RecvError::Timeout) if !interrupt::asked() => {}
            Err(_) => return,
        }
    }
}
