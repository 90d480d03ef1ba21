//! Limits that take one process: copying, writing and reading memory, and Cap'n Proto without any transport.

use std::hint::black_box;
use std::marker::PhantomData;

use anyhow::{Result, bail};
use capnp::Word;
use capnp::message::{Builder, Reader, ReaderOptions, ScratchSpaceHeapAllocator, SegmentArray};

use super::message::Message;
use super::quotes::Quotes;
use super::request::Request;
use crate::clock::ticks;
use crate::contender::{Spec, fill, sum};
use crate::jobs::Round;
use crate::pair::Pair;
use crate::place::pin;
use crate::sample::Sample;

pub fn start(name: &str, spec: &Spec) -> Result<Box<dyn Pair>> {
    match name {
        "memcpy" => Ok(Box::new(Memcpy::new(spec))),
        "write" => Ok(Box::new(Alone::<true>::new(spec))),
        "read" => Ok(Box::new(Alone::<false>::new(spec))),
        "request-in-process" => Ok(InProcess::<Request, false>::start(spec)),
        "quotes-in-process" => Ok(InProcess::<Quotes, true>::start(spec)),
        _ => bail!("no contender is called {name}"),
    }
}

/// Copies messages from one region into another, both as large as a ring.
struct Memcpy {
    from: Vec<u8>,
    to: Vec<u8>,
    size: usize,
    next: usize,
}

impl Memcpy {
    fn new(spec: &Spec) -> Self {
        let bytes = spec.size * spec.slots;
        Self { from: vec![1; bytes], to: vec![2; bytes], size: spec.size, next: 0 }
    }
}

impl Pair for Memcpy {
    fn run(&mut self, round: &Round) -> Result<Sample> {
        pin(Some(0))?;
        let began = ticks();
        for _ in 0..round.count {
            let slot = self.next..self.next + self.size;
            black_box(&mut self.to[slot.clone()]).copy_from_slice(black_box(&self.from[slot]));
            self.next = (self.next + self.size) % self.to.len();
        }
        black_box(&self.to);
        Ok(Sample::new(round.count, ticks() - began))
    }
}

/// Only writes, or only reads, messages in one region as large as a ring: a sender or a receiver without the other.
struct Alone<const WRITES: bool> {
    region: Vec<u8>,
    size: usize,
    next: usize,
}

impl<const WRITES: bool> Alone<WRITES> {
    fn new(spec: &Spec) -> Self {
        Self { region: vec![1; spec.size * spec.slots], size: spec.size, next: 0 }
    }
}

impl<const WRITES: bool> Pair for Alone<WRITES> {
    fn run(&mut self, round: &Round) -> Result<Sample> {
        pin(Some(0))?;
        let began = ticks();
        for i in 0..round.count {
            let slot = &mut self.region[self.next..self.next + self.size];
            if WRITES {
                fill(black_box(slot), i);
            } else {
                black_box(sum(black_box(slot)));
            }
            self.next = (self.next + self.size) % self.region.len();
        }
        Ok(Sample::new(round.count, ticks() - began))
    }
}

/// Builds and reads a request, then builds and reads a reply, in memory that is used again. It is read as any
/// message that came in, or else through its builder, unchecked.
struct InProcess<M, const CHECKED: bool> {
    allocator: ScratchSpaceHeapAllocator<'static>,
    parts: usize,
    message: PhantomData<M>,
}

impl<M: Message, const CHECKED: bool> InProcess<M, CHECKED> {
    fn start(spec: &Spec) -> Box<dyn Pair> {
        let memory = Word::allocate_zeroed_vec(spec.size.div_ceil(8)).leak();
        let allocator = ScratchSpaceHeapAllocator::new(Word::words_to_bytes_mut(memory));
        Box::new(Self { allocator, parts: spec.parts, message: PhantomData })
    }

    #[inline(always)]
    fn build_and_read(&mut self, word: u64) -> Result<u64> {
        let mut builder = Builder::new(&mut self.allocator);
        M::write(builder.init_root(), word, self.parts);
        let builder = black_box(&builder);
        if CHECKED {
            let segments = builder.get_segments_for_output();
            let reader = Reader::new(SegmentArray::new(&segments), ReaderOptions::new());
            return M::read(reader.get_root()?, self.parts);
        }
        M::read(builder.get_root_as_reader()?, self.parts)
    }
}

impl<M: Message, const CHECKED: bool> Pair for InProcess<M, CHECKED> {
    fn run(&mut self, round: &Round) -> Result<Sample> {
        pin(Some(0))?;
        let began = ticks();
        for i in 0..round.count {
            let word = self.build_and_read(i)?;
            black_box(self.build_and_read(word + 1)?);
        }
        Ok(Sample::new(round.count, ticks() - began))
    }
}
