//! `dump`: messages as they pass, or as they were recorded.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use capnp_shm::recording::{self, End, Recording};
use capnproto_shm_transport::{
    ChannelInfo, Direction, MessageKind, Missing, OpenError, RecvError, RingInfo, Tap, Tapped,
};
use serde::Serialize;

use crate::args::{Dump, Place};
use crate::layout::Layout;
use crate::schema::{Decoder, Schemas};
use crate::wait::open_tap;
use crate::{Exit, interrupt, text};

/// How a message is printed.
enum Form {
    Hex,
    Raw,
    Json,
    Layout(Layout),
    Decoded(HashMap<Direction, Decoder>),
}

/// A message as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    direction: &'a str,
    sequence: u64,
    missed: u64,
    time_unix_ns: u64,
    bytes: usize,
    /// Hexadecimal.
    data: &'a str,
}

/// Where messages come from: a channel at work, or a recording.
enum Source {
    Tap(Box<Tap>),
    File(Box<Recorded>),
}

/// A recording of one channel.
struct Recorded {
    recording: Recording<io::BufReader<std::fs::File>>,
    name: String,
    /// The first message: by then all channels are known.
    first: Option<recording::Recorded>,
    zero: Option<u64>,
}

/// A message on its way to the printer.
struct Passed {
    direction: Direction,
    sequence: u64,
    missed: u64,
    time_unix_ns: u64,
    since: Duration,
}

/// The result of a look at the source.
enum Next {
    Message(Passed),
    /// Nothing yet.
    Nothing,
    /// Why no more will come.
    End(String),
}

impl Source {
    fn open(place: &Place, options: &Dump) -> anyhow::Result<(Self, [MessageKind; 2])> {
        let Some(file) = &options.from else {
            let tap = open_tap(&place.config(), &options.name, options.wait)?;
            let info = ChannelInfo::of_with(&options.name, &place.config())?;
            let gone = || OpenError::Timeout {
                name: options.name.clone(),
                waited: options.wait,
                missing: Missing::Channel,
            };
            let kind = |ring: Option<RingInfo>| ring.map(|ring| ring.kind).ok_or_else(gone);
            return Ok((Self::Tap(Box::new(tap)), [kind(info.a_to_b)?, kind(info.b_to_a)?]));
        };
        let (recording, first) = super::replay::begin(file)?;
        let [a_to_b, b_to_a] = Recording::channel(recording.streams(), Some(&options.name))?;
        let recorded = Recorded { recording, name: a_to_b.name, first, zero: None };
        Ok((Self::File(Box::new(recorded)), [a_to_b.kind, b_to_a.kind]))
    }

    /// The next message, if there is one now.
    fn try_next(&mut self, bytes: &mut Vec<u8>, began: Instant) -> anyhow::Result<Next> {
        match self {
            Self::Tap(tap) => passed(tap.try_next(bytes), began),
            Self::File(file) => file.next(bytes),
        }
    }

    /// The next message, if it comes soon.
    fn wait_next(&mut self, bytes: &mut Vec<u8>, began: Instant) -> anyhow::Result<Next> {
        match self {
            Self::Tap(tap) => passed(tap.next_timeout(bytes, Duration::from_millis(100)), began),
            Self::File(file) => file.next(bytes),
        }
    }

    fn missed(&self) -> u64 {
        match self {
            Self::Tap(tap) => tap.missed(),
            Self::File(file) => file.recording.missed().get(&file.name).copied().unwrap_or(0),
        }
    }
}

fn passed(tapped: Result<Tapped, RecvError>, began: Instant) -> anyhow::Result<Next> {
    match tapped {
        Ok(tapped) => Ok(Next::Message(Passed {
            direction: tapped.direction,
            sequence: tapped.sequence,
            missed: tapped.missed,
            time_unix_ns: unix_now(),
            since: began.elapsed(),
        })),
        Err(RecvError::Empty | RecvError::Timeout) => Ok(Next::Nothing),
        Err(end @ (RecvError::Closed | RecvError::PeerDead | RecvError::Superseded)) => {
            Ok(Next::End(end.to_string()))
        }
        Err(error) => Err(error).context("the tap ends"),
    }
}

impl Recorded {
    fn next(&mut self, bytes: &mut Vec<u8>) -> anyhow::Result<Next> {
        loop {
            let before = self.recording.missed().get(&self.name).copied().unwrap_or(0);
            let next = match self.first.take() {
                Some(first) => Some(first),
                None => self.recording.next_message().context("cannot read the recording")?,
            };
            let Some(message) = next else {
                return Ok(Next::End(match self.recording.end() {
                    Some(End::Cut(why)) => format!("the recording is cut short: {why}"),
                    _ => "the recording ends".to_owned(),
                }));
            };
            let stream = &self.recording.streams()[message.stream];
            if stream.name != self.name {
                continue;
            }
            let zero = *self.zero.get_or_insert(message.time);
            *bytes = message.bytes;
            return Ok(Next::Message(Passed {
                direction: stream.direction,
                sequence: message.sequence.into(),
                missed: self.recording.missed().get(&self.name).map_or(0, |missed| missed - before),
                time_unix_ns: message.time,
                since: Duration::from_nanos(message.time.saturating_sub(zero)),
            }));
        }
    }
}

pub fn run(place: &Place, options: &Dump) -> anyhow::Result<Exit> {
    interrupt::watch()?;
    let layout =
        options.format.as_deref().map(str::parse::<Layout>).transpose().map_err(anyhow::Error::msg)?;
    let schemas = options.schema.as_deref().map(Schemas::open).transpose()?;
    let (mut source, kinds) = Source::open(place, options)?;
    let mut form = match (layout, &schemas) {
        (Some(layout), _) => Form::Layout(layout),
        (_, Some(schemas)) => Form::Decoded(decoders(options, kinds, schemas)?),
        _ if options.raw => Form::Raw,
        _ if options.json => Form::Json,
        _ => Form::Hex,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (mut bytes, mut printed, began) = (Vec::new(), 0u64, Instant::now());
    let end = loop {
        if interrupt::asked() || options.count.is_some_and(|count| printed >= count) {
            break None;
        }
        let mut next = source.try_next(&mut bytes, began)?;
        if matches!(next, Next::Nothing) {
            // A reader of the output sees everything that there is before we wait.
            out.flush()?;
            next = source.wait_next(&mut bytes, began)?;
        }
        let passed = match next {
            Next::Message(passed) => passed,
            Next::Nothing => continue,
            Next::End(why) => break Some(why),
        };
        let wanted = options.direction.is_none_or(|way| way.direction() == passed.direction)
            && options.grep.as_ref().is_none_or(|needle| contains(&bytes, &needle.0));
        if wanted {
            print(&mut out, &mut form, &passed, &bytes)?;
            printed += 1;
        }
    };
    out.flush()?;
    drop(out);
    let end = end.map(|end| format!("; {end}")).unwrap_or_default();
    writeln!(io::stderr(), "{} printed, {} missed{end}", text::counted(printed, "message"), source.missed())?;
    Ok(Exit::Success)
}

fn decoders(
    options: &Dump,
    kinds: [MessageKind; 2],
    schemas: &Schemas,
) -> anyhow::Result<HashMap<Direction, Decoder>> {
    let mut decoders = HashMap::new();
    for (direction, kind) in [Direction::AToB, Direction::BToA].into_iter().zip(kinds) {
        let wanted = options.direction.is_none_or(|way| way.direction() == direction);
        if let (true, MessageKind::Capnp { type_id }) = (wanted, kind) {
            decoders.insert(direction, schemas.decoder(type_id)?);
        }
    }
    if decoders.is_empty() {
        bail!("channel {:?} carries no Cap'n Proto in this direction; leave --schema out", options.name);
    }
    Ok(decoders)
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    needle.is_empty() || bytes.windows(needle.len()).any(|window| window == needle)
}

pub fn way(direction: Direction) -> &'static str {
    match direction {
        Direction::AToB => "a_to_b",
        Direction::BToA => "b_to_a",
    }
}

/// Nanoseconds since 1970.
pub fn unix_now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn print(out: &mut impl Write, form: &mut Form, passed: &Passed, bytes: &[u8]) -> anyhow::Result<()> {
    let missed = match passed.missed {
        0 => String::new(),
        missed => format!(" (after {missed} missed)"),
    };
    let arrow = match passed.direction {
        Direction::AToB => "A>B",
        Direction::BToA => "B>A",
    };
    let head = format!("{arrow} #{} {:.6}{missed}", passed.sequence, passed.since.as_secs_f64());
    match form {
        Form::Raw => out.write_all(bytes)?,
        Form::Json => {
            let line = Line {
                direction: way(passed.direction),
                sequence: passed.sequence,
                missed: passed.missed,
                time_unix_ns: passed.time_unix_ns,
                bytes: bytes.len(),
                data: &hex(bytes),
            };
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        }
        Form::Layout(layout) => writeln!(out, "{head} {}", layout.print(bytes))?,
        Form::Decoded(decoders) => match decoders.get_mut(&passed.direction) {
            Some(decoder) => writeln!(out, "{head} {}", text::printable(&decoder.decode(bytes)?))?,
            None => print_hex(out, &head, bytes)?,
        },
        Form::Hex => print_hex(out, &head, bytes)?,
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Sixteen bytes a line, in hexadecimal and as text.
fn print_hex(out: &mut impl Write, head: &str, bytes: &[u8]) -> io::Result<()> {
    writeln!(out, "{head} {} bytes", bytes.len())?;
    for (line, bytes) in bytes.chunks(16).enumerate() {
        write!(out, "  {:04x} ", line * 16)?;
        for at in 0..16 {
            match bytes.get(at) {
                Some(byte) => write!(out, " {byte:02x}")?,
                None => write!(out, "   ")?,
            }
        }
        let shown: String =
            bytes.iter().map(|byte| if (32..127).contains(byte) { *byte as char } else { '.' }).collect();
        writeln!(out, "  {shown}")?;
    }
    Ok(())
}
