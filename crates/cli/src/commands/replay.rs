//! `replay`: sends the messages of a recording again, as the side that had sent them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capnp_shm::recording::{End, Recorded, Recording, Stream};
use capnproto_shm_transport::{Consumer, Direction, Interrupter, Producer, RecvError, SendError, Transport};

use super::record::{create_like, send};
use crate::args::{Place, Replay, SideName};
use crate::wait::open_side_b;
use crate::{Exit, interrupt, text};

/// How often a wait looks whether the user wants the end.
const TICK: Duration = Duration::from_millis(50);

/// How often it is asked whether the other side has ended.
const LOOK: Duration = Duration::from_millis(5);

/// How a round through the files ended.
enum Round {
    Whole,
    /// The user wants the end.
    Interrupted,
    /// The other side takes no more.
    Refused,
}

pub fn run(place: &Place, options: &Replay) -> anyhow::Result<Exit> {
    interrupt::watch()?;
    if !(options.speed >= 0.0 && options.speed.is_finite()) {
        bail!("--speed is 0 or more, and not {}", options.speed);
    }
    let files = in_order(&options.files)?;
    let channel = options.channel.as_deref();
    let streams = channel_of(&files[0], channel)?;
    for file in &files[1..] {
        if channel_of(file, Some(&streams[0].name))? != streams {
            bail!("{} was recorded of another channel {:?}", file.display(), streams[0].name);
        }
    }
    let name = options.to.as_deref().unwrap_or(&streams[0].name).to_owned();
    let direction = match options.side {
        SideName::A => Direction::AToB,
        SideName::B => Direction::BToA,
    };
    let (mut producer, consumer) = join(place, options, &name, &streams)?.split();
    let drain = Drain::start(consumer);
    let mut replayed = Replayed { speed: options.speed, sent: 0, cut: false };
    let end = loop {
        let end = replayed.round(&files, &streams[0].name, direction, &mut producer)?;
        if !options.again || replayed.sent == 0 || !matches!(end, Round::Whole) {
            break end;
        }
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
    if received {
        drain.linger(options.linger);
    }
    drop(drain);
    writeln!(io::stderr(), "{} sent", text::counted(replayed.sent, "message"))?;
    if matches!(end, Round::Refused) || !received {
        writeln!(io::stderr(), "capnp-shm: the other side has not received everything")?;
        return Ok(Exit::Failure);
    }
    Ok(Exit::Success)
}

/// The messages sent so far.
struct Replayed {
    speed: f64,
    sent: u64,
    /// Whether it was said that a file is cut short.
    cut: bool,
}

impl Replayed {
    /// Sends one direction of a channel from all files, as one.
    fn round(
        &mut self,
        files: &[PathBuf],
        channel: &str,
        direction: Direction,
        to: &mut Producer,
    ) -> anyhow::Result<Round> {
        let mut start: Option<(Instant, u64)> = None;
        for file in files {
            let (mut recording, mut first) = begin(file)?;
            while let Some(message) =
                first.take().map_or_else(|| recording.next_message(), |m| Ok(Some(m)))?
            {
                let stream = &recording.streams()[message.stream];
                if stream.name != channel || stream.direction != direction {
                    continue;
                }
                let (began, zero) = *start.get_or_insert((Instant::now(), message.time));
                pace(began, message.time.saturating_sub(zero), self.speed);
                if interrupt::asked() {
                    return Ok(Round::Interrupted);
                }
                match send(to, &message.bytes, &interrupt::asked) {
                    Ok(()) => self.sent += 1,
                    Err(SendError::Timeout) => return Ok(Round::Interrupted),
                    Err(SendError::Closed | SendError::PeerDead | SendError::Superseded) => {
                        return Ok(if interrupt::asked() { Round::Interrupted } else { Round::Refused });
                    }
                    Err(error) => {
                        return Err(error).with_context(|| format!("message {} cannot be sent", self.sent));
                    }
                }
            }
            if let (Some(End::Cut(why)), false) = (recording.end(), self.cut) {
                self.cut = true;
                writeln!(io::stderr(), "capnp-shm: {} is cut short: {why}", file.display())?;
            }
        }
        Ok(Round::Whole)
    }
}

/// The files that a recorder split, from the oldest on.
fn in_order(files: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let began = |file: &PathBuf| {
        let (_, first) = begin(file)?;
        // One without messages adds none, wherever it stands.
        anyhow::Ok((first.map_or(0, |first| first.time), file.clone()))
    };
    let mut files = files.iter().map(began).collect::<Result<Vec<_>, _>>()?;
    files.sort();
    Ok(files.into_iter().map(|(_, file)| file).collect())
}

fn channel_of(file: &Path, name: Option<&str>) -> anyhow::Result<[Stream; 2]> {
    let (recording, _) = begin(file)?;
    Recording::channel(recording.streams(), name)
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

/// Receives what the other side sends, and lets it go: it shall not wait for us. Closes its half when dropped: a side that
/// has left it open has not left in order.
struct Drain {
    stop: Arc<AtomicBool>,
    wait: Interrupter,
    thread: Option<JoinHandle<()>>,
}

impl Drain {
    fn start(mut consumer: Consumer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, wait) = (Arc::clone(&stop), consumer.interrupter());
        let thread =
            thread::spawn(
                move || {
                    while !stopped.load(Ordering::Relaxed) && consumer.recv().map(drop).is_ok() {}
                },
            );
        Self { stop, wait, thread: Some(thread) }
    }

    /// Goes on until the other side has ended its direction, or for so long.
    fn linger(&self, time: Duration) {
        let began = Instant::now();
        let ended = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        while !ended() && began.elapsed() < time && !interrupt::asked() {
            thread::sleep(LOOK.min(time));
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.wait.interrupt();
        // It does not panic, and would have said so.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
