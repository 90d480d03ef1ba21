//! `record`: passing messages to a file, by tap or by standing in between.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capnp_shm::recording::{Kept, Recorder, Split, Stream};
use capnproto_shm_transport::{
    ChannelInfo, Config, Consumer, Direction, MessageKind, Producer, RecvError, SendError, Tap, Transport,
};
use indicatif::{ProgressBar, ProgressStyle};

use super::dump::unix_now;
use crate::args::{Place, Record};
use crate::schema::Schemas;
use crate::wait::{open_side_b, open_tap, wait_for_side_a};
use crate::{Exit, interrupt, text};

/// Messages that travel to the writer together.
const BATCH_MESSAGES: usize = 256;
const BATCH_BYTES: usize = 64 * 1024;
/// Batches that may wait for the writer. Then a tap misses and a relay waits.
const QUEUE: usize = 1024;
/// How long the writer lets batches gather. A tap that woke it for each would be put off its processor by it.
const REST: Duration = Duration::from_millis(5);
/// How often a wait looks whether the user wants the end.
const TICK: Duration = Duration::from_millis(100);

/// Messages on their way to the writer.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Seen>,
}

struct Seen {
    stream: usize,
    sequence: u64,
    missed: u64,
    time: u64,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, stream: usize, sequence: u64, missed: u64, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.messages.push(Seen { stream, sequence, missed, time: unix_now(), bytes: bytes.len() });
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= BATCH_MESSAGES || self.bytes.len() >= BATCH_BYTES
    }

    /// Sends what there is; `false` if the writer is gone.
    fn send(&mut self, to: &SyncSender<Self>) -> bool {
        self.messages.is_empty() || to.send(std::mem::take(self)).is_ok()
    }
}

/// The state that all threads share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    missed: AtomicU64,
}

impl Shared {
    fn ends(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || interrupt::asked()
    }
}

pub fn run(place: &Place, options: &Record) -> anyhow::Result<Exit> {
    interrupt::watch()?;
    let schemas = Schemas::maybe(options.schema.as_deref())?;
    let (sender, batches) = sync_channel(QUEUE);
    let shared = Shared::default();
    let split =
        Split { bytes: options.split_size.map(|mib| mib.saturating_mul(1 << 20)), time: options.split_time };
    let kept = Kept { request: schemas.request().to_vec() };
    let create = |mut streams: Vec<Stream>| {
        for stream in &mut streams {
            if let MessageKind::Capnp { type_id } = stream.kind {
                stream.schema = schemas.name(type_id).map(str::to_owned);
            }
        }
        Recorder::create(&options.output, streams, kept.clone(), split)
    };
    let (written, missed, files) = match &options.relay {
        None => {
            let mut taps = Vec::new();
            let mut streams = Vec::new();
            for name in &options.names {
                taps.push(open_tap(&place.config(), name, options.wait)?);
                streams.extend(streams_of(&ChannelInfo::of_with(name, &place.config())?)?);
            }
            let recorder = create(streams)?;
            thread::scope(|scope| {
                for (at, tap) in taps.into_iter().enumerate() {
                    let (sender, shared) = (sender.clone(), &shared);
                    scope.spawn(move || read_tap(tap, at * 2, &sender, shared));
                }
                drop(sender);
                write(recorder, &batches, &shared, options)
            })?
        }
        Some(relay) => {
            let [name] = &*options.names else { bail!("--relay takes one channel") };
            let (recorder, ends) = stand_between(place, name, relay, options.wait, create)?;
            thread::scope(|scope| {
                for (stream, (from, to)) in ends.into_iter().enumerate() {
                    let (sender, shared) = (sender.clone(), &shared);
                    scope.spawn(move || pass_on(from, to, stream, &sender, shared));
                }
                drop(sender);
                write(recorder, &batches, &shared, options)
            })?
        }
    };
    let files = if files > 1 { format!(" in {files} files") } else { String::new() };
    writeln!(io::stderr(), "{} recorded{files}, {missed} missed", text::counted(written, "message"))?;
    Ok(Exit::Success)
}

fn streams_of(info: &ChannelInfo) -> anyhow::Result<[Stream; 2]> {
    Stream::of(info).with_context(|| format!("channel {:?} has gone", info.name))
}

/// Reads one tap until it ends.
fn read_tap(mut tap: Tap, first_stream: usize, to: &SyncSender<Batch>, shared: &Shared) {
    let (mut batch, mut bytes) = (Batch::default(), Vec::new());
    let mut said = 0;
    while !shared.ends() {
        let tapped = match tap.try_next(&mut bytes) {
            Err(RecvError::Empty) => {
                if !batch.send(to) {
                    return;
                }
                match tap.next_timeout(&mut bytes, TICK) {
                    Err(RecvError::Timeout) => continue,
                    other => other,
                }
            }
            other => other,
        };
        let Ok(tapped) = tapped else { break };
        let stream = first_stream + usize::from(tapped.direction == Direction::BToA);
        batch.push(stream, tapped.sequence, tapped.missed, &bytes);
        if tapped.missed > 0 {
            shared.missed.fetch_add(tap.missed() - said, Ordering::Relaxed);
            said = tap.missed();
        }
        if batch.is_full() && !batch.send(to) {
            return;
        }
    }
    batch.send(to);
    shared.missed.fetch_add(tap.missed() - said, Ordering::Relaxed);
}

/// Where a relay receives and where it sends, for each direction.
type Ends = [(Consumer, Producer); 2];

/// Makes another channel like this one for the real side B, and the recording; then joins this one in its place. In this
/// order: a failure leaves the channel as it was.
fn stand_between(
    place: &Place,
    name: &str,
    relay: &str,
    wait: Duration,
    create: impl FnOnce(Vec<Stream>) -> anyhow::Result<Recorder>,
) -> anyhow::Result<(Recorder, Ends)> {
    let info = wait_for_side_a(&place.config(), name, wait)?;
    let streams = streams_of(&info)?;
    let far = create_like(&place.config(), relay, &streams)?;
    let recorder = create(streams.to_vec())?;
    let [a_to_b, b_to_a] = &streams;
    let config = place.config().sends(b_to_a.kind).receives(a_to_b.kind).message_tag(&a_to_b.tag);
    let near = open_side_b(&config, name, TICK)?;
    let ((to_a, from_a), (to_b, from_b)) = (near.split(), far.split());
    Ok((recorder, [(from_a, to_b), (from_b, to_a)]))
}

/// Side A of a channel whose messages and slots are those of a recorded one.
pub fn create_like(config: &Config, name: &str, [a_to_b, b_to_a]: &[Stream; 2]) -> anyhow::Result<Transport> {
    let mut config = config
        .clone()
        .a_to_b(a_to_b.slot_size, a_to_b.slot_count)
        .b_to_a(b_to_a.slot_size, b_to_a.slot_count)
        .sends(a_to_b.kind)
        .receives(b_to_a.kind);
    if !a_to_b.tag.is_empty() {
        config = config.message_tag(&a_to_b.tag);
    }
    Ok(Transport::create(name, &config)?)
}

/// Sends one message as it is, however large. [`SendError::Timeout`] when the user wants the end.
pub fn send(to: &mut Producer, bytes: &[u8], ends: &dyn Fn() -> bool) -> Result<(), SendError> {
    loop {
        let sent = if bytes.len() <= to.slot_size() {
            to.send_timeout(bytes, TICK)
        } else {
            to.reserve_span_timeout(bytes.len(), TICK).map(|mut span| {
                span.copy_from_slice(bytes);
                span.commit(bytes.len());
            })
        };
        match sent {
            Err(SendError::Timeout | SendError::NoPeer) if ends() => return Err(SendError::Timeout),
            Err(SendError::Timeout | SendError::NoPeer) => {}
            done => return done,
        }
    }
}

/// Passes one direction on until it ends, and tells the one side how the other has.
fn pass_on(
    mut from: Consumer,
    mut to: Producer,
    stream: usize,
    records: &SyncSender<Batch>,
    shared: &Shared,
) {
    let (mut batch, mut bytes, mut sequence) = (Batch::default(), Vec::new(), 0);
    while !shared.ends() {
        let received = match from.try_recv_copied(&mut bytes) {
            Err(RecvError::Empty) => {
                batch.send(records);
                from.recv_copied_timeout(&mut bytes, TICK)
            }
            other => other,
        };
        match received {
            Ok(_) => {}
            Err(RecvError::Timeout) => continue,
            Err(RecvError::Closed) => break,
            Err(_) => {
                batch.send(records);
                return to.abandon();
            }
        }
        // Recorded first: every message that a receiver has seen stands in the file.
        batch.push(stream, sequence, 0, &bytes);
        sequence += 1;
        if batch.is_full() {
            batch.send(records);
        }
        match send(&mut to, &bytes, &|| shared.ends()) {
            Ok(()) => {}
            Err(SendError::Closed | SendError::Timeout) => break,
            Err(SendError::PeerDead | SendError::Superseded) => {
                batch.send(records);
                return from.abandon();
            }
            Err(error) => {
                let _ = writeln!(io::stderr(), "capnp-shm: a message cannot be passed on: {error}");
                break;
            }
        }
    }
    batch.send(records);
}

/// Writes until everything has ended. Returns messages, missed ones, files.
fn write(
    mut recorder: Recorder,
    batches: &Receiver<Batch>,
    shared: &Shared,
    options: &Record,
) -> anyhow::Result<(u64, u64, u32)> {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let progress = ProgressBar::new_spinner().with_style(style);
    let (mut written, mut shown) = (0u64, Instant::now());
    let result = loop {
        let done = match batches.try_recv() {
            Ok(batch) => write_batch(&mut recorder, &batch, &mut written, options.count),
            Err(TryRecvError::Empty) => {
                thread::sleep(REST);
                recorder.flush_if_due()
            }
            Err(TryRecvError::Disconnected) => break Ok(()),
        };
        if let Err(error) = done {
            break Err(error);
        }
        if options.count.is_some_and(|count| written >= count) {
            break Ok(());
        }
        if shown.elapsed() >= TICK {
            shown = Instant::now();
            let missed = shared.missed.load(Ordering::Relaxed);
            let size = text::bytes(recorder.bytes());
            progress.set_message(format!("{written} messages, {missed} missed, {size}"));
            progress.tick();
        }
    };
    // The others end; none of them waits for us.
    shared.stop.store(true, Ordering::Relaxed);
    let full = options.count.is_some_and(|count| written >= count);
    while let Ok(batch) = batches.recv() {
        if result.is_ok() && !full {
            write_batch(&mut recorder, &batch, &mut written, options.count)?;
        }
    }
    progress.finish_and_clear();
    result?;
    let files = recorder.files();
    recorder.finish()?;
    Ok((written, shared.missed.load(Ordering::Relaxed), files))
}

fn write_batch(
    recorder: &mut Recorder,
    batch: &Batch,
    written: &mut u64,
    most: Option<u64>,
) -> anyhow::Result<()> {
    let mut rest = &*batch.bytes;
    for seen in &batch.messages {
        let (bytes, after) = rest.split_at(seen.bytes);
        rest = after;
        if most.is_some_and(|most| *written >= most) {
            break;
        }
        recorder.write(seen.stream, seen.sequence, seen.missed, seen.time, bytes)?;
        *written += 1;
    }
    Ok(())
}
