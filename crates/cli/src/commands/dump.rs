//! `dump`: messages as they pass.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use capnproto_shm_transport::{
    ChannelInfo, Direction, MessageKind, Missing, OpenError, RecvError, Tap, Tapped,
};
use serde::Serialize;

use crate::args::{Dump, Place};
use crate::layout::Layout;
use crate::schema::{Decoder, Schemas};
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

/// Waits for a channel that can be looked at.
pub fn open_tap(place: &Place, name: &str, wait: Duration) -> anyhow::Result<Tap> {
    let began = Instant::now();
    loop {
        match Tap::open_with(name, &place.config()) {
            Ok(tap) => return Ok(tap),
            Err(OpenError::Timeout { .. }) if began.elapsed() < wait && !interrupt::asked() => {
                std::thread::sleep(Duration::from_millis(5));
            }
            // How long the library waited is not how long we did.
            Err(OpenError::Timeout { name, missing, .. }) if !wait.is_zero() => {
                return Err(OpenError::Timeout { name, waited: wait, missing }.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

pub fn run(place: &Place, options: &Dump) -> anyhow::Result<Exit> {
    interrupt::watch()?;
    let layout =
        options.format.as_deref().map(str::parse::<Layout>).transpose().map_err(anyhow::Error::msg)?;
    let schemas = options.schema.as_deref().map(Schemas::open).transpose()?;
    let mut tap = open_tap(place, &options.name, options.wait)?;
    let mut form = match (layout, &schemas) {
        (Some(layout), _) => Form::Layout(layout),
        (_, Some(schemas)) => Form::Decoded(decoders(place, options, schemas)?),
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
        let tapped = match tap.try_next(&mut bytes) {
            // Whoever looks on sees everything that there is before we wait.
            Err(RecvError::Empty) => {
                out.flush()?;
                match tap.next_timeout(&mut bytes, Duration::from_millis(100)) {
                    Err(RecvError::Timeout) => continue,
                    other => other,
                }
            }
            other => other,
        };
        let tapped = match tapped {
            Ok(tapped) => tapped,
            Err(end @ (RecvError::Closed | RecvError::PeerDead | RecvError::Superseded)) => break Some(end),
            Err(error) => return Err(error).context("the tap ends"),
        };
        let wanted = options.direction.is_none_or(|way| way.direction() == tapped.direction)
            && options.grep.as_ref().is_none_or(|needle| contains(&bytes, &needle.0));
        if wanted {
            print(&mut out, &mut form, &tapped, &bytes, began.elapsed())?;
            printed += 1;
        }
    };
    out.flush()?;
    drop(out);
    let end = end.map(|end| format!("; {end}")).unwrap_or_default();
    writeln!(io::stderr(), "{printed} messages printed, {} missed{end}", tap.missed())?;
    Ok(Exit::Success)
}

fn decoders(place: &Place, options: &Dump, schemas: &Schemas) -> anyhow::Result<HashMap<Direction, Decoder>> {
    let info = ChannelInfo::of_with(&options.name, &place.config())?;
    let mut decoders = HashMap::new();
    for (direction, ring) in [(Direction::AToB, info.a_to_b), (Direction::BToA, info.b_to_a)] {
        let wanted = options.direction.is_none_or(|way| way.direction() == direction);
        match ring.map(|ring| ring.kind) {
            _ if !wanted => {}
            Some(MessageKind::Capnp { type_id }) => {
                decoders.insert(direction, schemas.decoder(type_id)?);
            }
            Some(_) => {}
            None => {
                let (name, missing) = (options.name.clone(), Missing::Channel);
                return Err(OpenError::Timeout { name, waited: options.wait, missing }.into());
            }
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

fn print(
    out: &mut impl Write,
    form: &mut Form,
    tapped: &Tapped,
    bytes: &[u8],
    since: Duration,
) -> anyhow::Result<()> {
    let missed = match tapped.missed {
        0 => String::new(),
        missed => format!(" (after {missed} missed)"),
    };
    let arrow = match tapped.direction {
        Direction::AToB => "A>B",
        Direction::BToA => "B>A",
    };
    let head = format!("{arrow} #{} {:.6}{missed}", tapped.sequence, since.as_secs_f64());
    match form {
        Form::Raw => out.write_all(bytes)?,
        Form::Json => {
            let line = Line {
                direction: way(tapped.direction),
                sequence: tapped.sequence,
                missed: tapped.missed,
                time_unix_ns: unix_now(),
                bytes: bytes.len(),
                data: &hex(bytes),
            };
            serde_json::to_writer(&mut *out, &line)?;
            writeln!(out)?;
        }
        Form::Layout(layout) => writeln!(out, "{head} {}", layout.print(bytes))?,
        Form::Decoded(decoders) => match decoders.get_mut(&tapped.direction) {
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
