//! A recording: an MCAP file with the messages of one or several channels, and what is needed to send them again.
//!
//! Each direction of a channel is one MCAP channel, its topic `NAME/a_to_b` or `NAME/b_to_a`. Its metadata has the identity of the
//! messages and the geometry of the ring. A message is the bytes that it was; `log_time` is when it was seen. What a tap
//! missed stands as JSON under the topic `NAME/missed`.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capnproto_shm_transport::{ChannelInfo, Direction, MessageKind, RingInfo};
use mcap::records::{ChunkHeader, MessageHeader, Record, op};
use mcap::sans_io::linear_reader::{LinearReadEvent, LinearReader, LinearReaderOptions};
use mcap::{Compression, WriteOptions, Writer};

/// Bytes of messages that are compressed together.
const CHUNK: u64 = 1 << 20;
/// A chunk is finished after this time at the latest: a recorder that is killed loses no more.
const CHUNK_TIME: Duration = Duration::from_secs(1);
/// Larger records are taken for damage.
const LARGEST_RECORD: usize = 1 << 30;

/// What is known of one direction of a recorded channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The channel.
    pub name: String,
    pub direction: Direction,
    pub kind: MessageKind,
    pub slot_size: usize,
    pub slot_count: usize,
    pub tag: String,
    /// The type's name, where a schema was given.
    pub schema: Option<String>,
}

impl Stream {
    /// Both directions of a channel that is there.
    pub fn of(info: &ChannelInfo) -> Option<[Self; 2]> {
        let stream = |direction, ring: &RingInfo| Self {
            name: info.name.clone(),
            direction,
            kind: ring.kind,
            slot_size: ring.stats.slot_size,
            slot_count: ring.stats.slot_count,
            tag: info.tag.clone().unwrap_or_default(),
            schema: None,
        };
        let (a_to_b, b_to_a) = (info.a_to_b.as_ref()?, info.b_to_a.as_ref()?);
        Some([stream(Direction::AToB, a_to_b), stream(Direction::BToA, b_to_a)])
    }

    fn topic(&self) -> String {
        format!("{}/{}", self.name, word(self.direction))
    }

    fn encoding(&self) -> &'static str {
        match self.kind {
            MessageKind::Capnp { .. } => "capnp",
            MessageKind::Pod { .. } => "x-capnp-shm-pod",
            _ => "x-capnp-shm-bytes",
        }
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let mut metadata = BTreeMap::from([
            ("channel".to_owned(), self.name.clone()),
            ("direction".to_owned(), word(self.direction).to_owned()),
            ("slot_size".to_owned(), self.slot_size.to_string()),
            ("slot_count".to_owned(), self.slot_count.to_string()),
            ("tag".to_owned(), self.tag.clone()),
        ]);
        let mut add = |name: &str, value: String| metadata.insert(name.to_owned(), value);
        match self.kind {
            MessageKind::Pod { size, align } => {
                add("kind", "pod".to_owned());
                add("value_size", size.to_string());
                add("value_align", align.to_string());
            }
            MessageKind::Capnp { type_id } => {
                add("kind", "capnp".to_owned());
                add("type_id", format!("{type_id:#018x}"));
            }
            _ => {
                add("kind", "bytes".to_owned());
            }
        }
        metadata
    }

    fn read(metadata: &BTreeMap<String, String>, schema: Option<String>) -> Option<Self> {
        let get = |name: &str| metadata.get(name).map(String::as_str);
        let number = |name: &str| get(name)?.parse::<usize>().ok();
        let kind = match get("kind")? {
            "bytes" => MessageKind::Bytes,
            "pod" => MessageKind::Pod { size: number("value_size")?, align: number("value_align")? },
            "capnp" => {
                let digits = get("type_id")?.strip_prefix("0x")?;
                MessageKind::Capnp { type_id: u64::from_str_radix(digits, 16).ok()? }
            }
            _ => return None,
        };
        let direction = match get("direction")? {
            "a_to_b" => Direction::AToB,
            "b_to_a" => Direction::BToA,
            _ => return None,
        };
        Some(Self {
            name: get("channel")?.to_owned(),
            direction,
            kind,
            slot_size: number("slot_size")?,
            slot_count: number("slot_count")?,
            tag: get("tag").unwrap_or_default().to_owned(),
            schema,
        })
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::AToB => "a_to_b",
        Direction::BToA => "b_to_a",
    }
}

/// A schema that is kept in the file: a type's name for each stream that has one, and the CodeGeneratorRequest.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub request: Vec<u8>,
}

/// When a new file is begun.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    pub bytes: Option<u64>,
    pub time: Option<Duration>,
}

/// Writes a recording, in one file or several.
pub struct Recorder {
    path: PathBuf,
    streams: Vec<Stream>,
    kept: Kept,
    split: Split,
    chunk: u64,
    files: u32,
    file: Open,
}

/// The file that is written now.
struct Open {
    writer: Writer<Counted>,
    /// The file's number for each stream, and for what was missed of its channel.
    ids: Vec<[u16; 2]>,
    began: Instant,
    chunk_began: Instant,
    messages: u64,
    written: Rc<Cell<u64>>,
}

/// A file that knows how much was written.
struct Counted {
    file: BufWriter<File>,
    bytes: Rc<Cell<u64>>,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes.set(self.bytes.get() + written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The writer never seeks: see `disable_seeking`. It only asks where it is.
impl io::Seek for Counted {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        match to {
            io::SeekFrom::Current(0) => Ok(self.bytes.get()),
            io::SeekFrom::Start(at) if at == self.bytes.get() => Ok(at),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl Open {
    fn create(path: &Path, streams: &[Stream], kept: &Kept, chunk: u64) -> anyhow::Result<Self> {
        let at = || format!("cannot write {}", path.display());
        let file = BufWriter::with_capacity(1 << 16, File::create(path).with_context(at)?);
        let written = Rc::new(Cell::new(0));
        let file = Counted { file, bytes: Rc::clone(&written) };
        let options = WriteOptions::new()
            .profile("capnp-shm")
            .library(concat!("capnp-shm ", env!("CARGO_PKG_VERSION")))
            .compression(Some(Compression::Lz4))
            .chunk_size(Some(chunk))
            .disable_seeking(true);
        let mut writer = options.create(file).with_context(at)?;
        let mut ids = Vec::new();
        for stream in streams {
            let schema = match &stream.schema {
                Some(name) if !kept.request.is_empty() => writer.add_schema(name, "capnp", &kept.request)?,
                _ => 0,
            };
            let id = writer.add_channel(schema, &stream.topic(), stream.encoding(), &stream.metadata())?;
            let missed =
                writer.add_channel(0, &format!("{}/missed", stream.name), "json", &BTreeMap::new())?;
            ids.push([id, missed]);
        }
        // The head alone is a whole chunk.
        writer.flush().with_context(at)?;
        let now = Instant::now();
        Ok(Self { writer, ids, began: now, chunk_began: now, messages: 0, written })
    }
}

impl Recorder {
    /// Begins a recording in this file.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn create(path: &Path, streams: Vec<Stream>, kept: Kept, split: Split) -> anyhow::Result<Self> {
        Self::with_chunks(path, streams, kept, split, CHUNK)
    }

    /// The same, with so many bytes of messages to a chunk.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn with_chunks(
        path: &Path,
        streams: Vec<Stream>,
        kept: Kept,
        split: Split,
        chunk: u64,
    ) -> anyhow::Result<Self> {
        let file = Open::create(path, &streams, &kept, chunk)?;
        Ok(Self { path: path.to_owned(), streams, kept, split, chunk, files: 1, file })
    }

    /// Writes one message of the stream with this number, and what was missed before it.
    pub fn write(
        &mut self,
        stream: usize,
        sequence: u64,
        missed: u64,
        time: u64,
        bytes: &[u8],
    ) -> anyhow::Result<()> {
        self.split_if_due()?;
        let [id, missed_id] = self.file.ids[stream];
        let header = |channel_id| MessageHeader {
            channel_id,
            sequence: sequence as u32,
            log_time: time,
            publish_time: time,
        };
        if missed > 0 {
            let direction = word(self.streams[stream].direction);
            let text = format!("{{\"direction\":\"{direction}\",\"missed\":{missed},\"before\":{sequence}}}");
            let written = self.file.writer.write_to_known_channel(&header(missed_id), text.as_bytes());
            written.with_context(|| self.cannot_write())?;
        }
        let written = self.file.writer.write_to_known_channel(&header(id), bytes);
        written.with_context(|| self.cannot_write())?;
        self.file.messages += 1;
        self.flush_if_due()
    }

    /// What was to be done when it failed.
    fn cannot_write(&self) -> String {
        let present = if self.files == 1 { self.path.clone() } else { self.numbered(self.files - 1) };
        format!("cannot write {}", present.display())
    }

    /// Brings what was written to the file, if the last time is a while ago. To be called while nothing comes, too.
    pub fn flush_if_due(&mut self) -> anyhow::Result<()> {
        if self.file.chunk_began.elapsed() >= CHUNK_TIME {
            self.file.writer.flush().with_context(|| self.cannot_write())?;
            self.file.chunk_began = Instant::now();
        }
        Ok(())
    }

    fn split_if_due(&mut self) -> anyhow::Result<()> {
        let large = self.split.bytes.is_some_and(|most| self.bytes() >= most);
        let old = self.split.time.is_some_and(|most| self.file.began.elapsed() >= most);
        if self.file.messages == 0 || !(large || old) {
            return Ok(());
        }
        let finished = self.file.writer.finish();
        finished.map(drop).with_context(|| self.cannot_write())?;
        let path = self.numbered(self.files);
        self.file = Open::create(&path, &self.streams, &self.kept, self.chunk)?;
        self.files += 1;
        Ok(())
    }

    /// `name-1.mcap`, for the files after the first.
    fn numbered(&self, number: u32) -> PathBuf {
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let extension =
            self.path.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
        self.path.with_file_name(format!("{stem}-{number}{extension}"))
    }

    /// Bytes of the present file so far, but for the chunk that is not full.
    pub fn bytes(&self) -> u64 {
        self.file.written.get()
    }

    /// Files begun.
    pub fn files(&self) -> u32 {
        self.files
    }

    /// Ends the file in order.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let finished = self.file.writer.finish();
        finished.map(drop).with_context(|| self.cannot_write())
    }
}

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
        // What nobody looks at is not parsed either: mcap 0.26 panics on some that are too short.
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
    /// If the file cannot be read. What is damaged is an [`End`].
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
