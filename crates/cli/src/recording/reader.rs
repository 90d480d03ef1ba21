//! Reads a recording, up to the last whole chunk of any file.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, bail};
use capnproto_shm_transport::Direction;
use mcap::records::{ChunkHeader, Record, op};
use mcap::sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions};

use super::stream::Stream;

/// Larger records are taken for damage.
const LARGEST_RECORD: usize = 1 << 30;

/// One message of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Which of [`Recording::streams`].
    pub stream: usize,
    pub sequence: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    pub bytes: Vec<u8>,
}

/// How a recording ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// In order.
    Whole,
    /// Somewhere: its recorder was killed, or the file is damaged. Everything before was read.
    Cut(String),
}

/// Reads a recording from its beginning, up to its last whole chunk.
pub struct Recording<R> {
    input: R,
    reader: LinearReader,
    streams: Vec<Stream>,
    /// Which stream a channel of the file is.
    ids: HashMap<u16, usize>,
    /// Channels that tell what was missed.
    missed_ids: HashMap<u16, String>,
    schemas: HashMap<u16, String>,
    /// Messages that were missed, by channel.
    missed: BTreeMap<String, u64>,
    /// Messages of the present chunk.
    read: VecDeque<Recorded>,
    end: Option<End>,
}

/// A record, if it is of a kind that is looked at here.
fn parse(opcode: u8, body: &[u8]) -> Result<Option<Record<'static>>, String> {
    match opcode {
        op::SCHEMA | op::CHANNEL | op::MESSAGE | op::CHUNK => {
            let record = mcap::parse_record(opcode, body).map_err(|error| error.to_string())?;
            Ok(Some(record.into_owned()))
        }
        // Other records are not parsed: mcap 0.26 panics on some that are too short.
        _ => Ok(None),
    }
}

/// Every record of a chunk, or why it is not whole. Nothing that stands in the file makes this take more memory than
/// [`LARGEST_RECORD`], or believe a length that reaches too far.
fn whole_chunk(header: &ChunkHeader, data: &[u8]) -> Result<Vec<Record<'static>>, String> {
    let size = header.uncompressed_size;
    if size > LARGEST_RECORD as u64 {
        return Err(format!("a chunk of {size} bytes is too large"));
    }
    let mut bytes = Vec::new();
    let read = match &*header.compression {
        "" => data.take(size + 1).read_to_end(&mut bytes),
        "lz4" => lz4::Decoder::new(data).and_then(|input| input.take(size + 1).read_to_end(&mut bytes)),
        "zstd" => zstd::Decoder::new(data).and_then(|input| input.take(size + 1).read_to_end(&mut bytes)),
        other => return Err(format!("chunks are compressed by {other:?}, which is unknown")),
    };
    read.map_err(|error| format!("a chunk cannot be unpacked: {error}"))?;
    let checked = header.uncompressed_crc == 0 || crc32fast::hash(&bytes) == header.uncompressed_crc;
    if bytes.len() as u64 != size || !checked {
        return Err("a chunk is damaged".to_owned());
    }
    let (mut rest, mut records) = (&*bytes, Vec::new());
    while !rest.is_empty() {
        // A kind, a length of eight bytes, and so many bytes.
        let parts = rest.split_at_checked(9).and_then(|(head, after)| {
            let length = u64::from_le_bytes(*head.last_chunk()?);
            Some((head[0], after.split_at_checked(usize::try_from(length).ok()?)?))
        });
        let (opcode, (body, after)) = parts.ok_or("a record reaches beyond its chunk")?;
        records.extend(parse(opcode, body)?);
        rest = after;
    }
    Ok(records)
}

impl<R: Read> Recording<R> {
    pub fn new(input: R) -> Self {
        let options =
            LinearReaderOptions::default().with_emit_chunks(true).with_record_length_limit(LARGEST_RECORD);
        Self {
            input,
            reader: LinearReader::new_with_options(options),
            streams: Vec::new(),
            ids: HashMap::new(),
            missed_ids: HashMap::new(),
            schemas: HashMap::new(),
            missed: BTreeMap::new(),
            read: VecDeque::new(),
            end: None,
        }
    }

    /// The streams found so far. Those of a recorder's file all come before the first message.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Messages that taps missed so far, by channel.
    pub fn missed(&self) -> &BTreeMap<String, u64> {
        &self.missed
    }

    /// How it ends, once it has.
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The next message, or None at the end.
    ///
    /// # Errors
    ///
    /// If the file cannot be read. Damage is an [`End`].
    pub fn next_message(&mut self) -> io::Result<Option<Recorded>> {
        while self.end.is_none() && self.read.is_empty() {
            let event = match self.reader.next_event() {
                None => {
                    self.end = Some(End::Whole);
                    break;
                }
                Some(Err(error)) => {
                    self.end = Some(End::Cut(error.to_string()));
                    break;
                }
                Some(Ok(event)) => event,
            };
            match event {
                LinearReadEvent::ReadRequest(bytes) => {
                    // A hint, and what it comes from may be damaged.
                    let buffer = self.reader.insert(bytes.clamp(1, 1 << 20));
                    let read = self.input.read(buffer)?;
                    self.reader.notify_read(read);
                }
                LinearReadEvent::Record { data, opcode } => {
                    let records = match parse(opcode, data) {
                        Ok(Some(Record::Chunk { header, data })) => whole_chunk(&header, &data),
                        Ok(record) => Ok(record.into_iter().collect()),
                        Err(why) => Err(why),
                    };
                    match records {
                        Ok(records) => {
                            for record in records {
                                let message = self.take(record);
                                self.read.extend(message);
                            }
                        }
                        Err(why) => self.end = Some(End::Cut(why)),
                    }
                }
            }
        }
        Ok(self.read.pop_front())
    }

    fn take(&mut self, record: Record<'static>) -> Option<Recorded> {
        match record {
            Record::Schema { header, .. } => {
                self.schemas.insert(header.id, header.name);
            }
            Record::Channel(channel) => {
                let schema = self.schemas.get(&channel.schema_id).cloned();
                if let Some(name) = channel.topic.strip_suffix("/missed") {
                    self.missed_ids.insert(channel.id, name.to_owned());
                } else if let Some(stream) = Stream::read(&channel.metadata, schema) {
                    // The summary repeats them.
                    if !self.ids.contains_key(&channel.id) {
                        self.ids.insert(channel.id, self.streams.len());
                        self.streams.push(stream);
                    }
                }
            }
            Record::Message { header, data } => {
                if let Some(name) = self.missed_ids.get(&header.channel_id) {
                    let said: Option<serde_json::Value> = serde_json::from_slice(&data).ok();
                    let missed = said.and_then(|said| said["missed"].as_u64()).unwrap_or(0);
                    let sum = self.missed.entry(name.clone()).or_default();
                    *sum = sum.saturating_add(missed);
                    return None;
                }
                // Of no channel of ours.
                let stream = *self.ids.get(&header.channel_id)?;
                let bytes = data.into_owned();
                return Some(Recorded { stream, sequence: header.sequence, time: header.log_time, bytes });
            }
            _ => {}
        }
        None
    }
}

impl Recording<io::BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// If it cannot be opened.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self::new(io::BufReader::new(file)))
    }

    /// The two directions of a channel: of this one, or of the only one that the file has.
    ///
    /// # Errors
    ///
    /// If there is no such channel, or none is named and there are several.
    pub fn channel(streams: &[Stream], name: Option<&str>) -> anyhow::Result<[Stream; 2]> {
        let mut names: Vec<_> = streams.iter().map(|stream| &*stream.name).collect();
        names.sort_unstable();
        names.dedup();
        let name = match (name, &*names) {
            (Some(name), names) if names.contains(&name) => name,
            (Some(name), names) => {
                bail!("the recording has no channel {name:?}; it has {}", names.join(", "))
            }
            (None, [name]) => name,
            (None, []) => bail!("the recording has no channel of ours"),
            (None, names) => {
                bail!("the recording has several channels: give --channel one of {}", names.join(", "))
            }
        };
        let of = |direction| {
            let found = streams.iter().find(|stream| stream.name == name && stream.direction == direction);
            found.cloned().with_context(|| format!("the recording lacks a direction of {name:?}"))
        };
        Ok([of(Direction::AToB)?, of(Direction::BToA)?])
    }
}
