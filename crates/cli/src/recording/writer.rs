//! Writes a recording: in chunks, so that a recorder that is killed leaves what it wrote, and in one file or several.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use mcap::records::MessageHeader;
use mcap::{Compression, WriteOptions, Writer};

use super::stream::{Stream, word};

/// Bytes of messages that are compressed together.
const CHUNK: u64 = 1 << 20;
/// A chunk is finished after this time at the latest: a recorder that is killed loses no more.
const CHUNK_TIME: Duration = Duration::from_secs(1);

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

    /// The action that failed.
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
