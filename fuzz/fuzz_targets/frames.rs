//! Any bytes as a committed Cap'n Proto message, read in the slot and from a copy: walked to its end, or
//! refused with capnp's error. A sender takes the same bytes as a stored frame if capnp reads them as one.
#![no_main]

use std::cell::RefCell;
use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use capnp::dynamic_value;
use capnp::message::{Builder, ReaderOptions};
use capnp::schema_capnp::node;
use capnproto_shm_transport::{CapnpChannel, Config};
use capnproto_shm_transport_fuzz::*;
use libfuzzer_sys::fuzz_target;

/// Bytes of a slot; messages beyond are cut.
const SLOT: usize = 4096;
/// Fields and elements that one walk visits.
const VISITS: usize = 4096;

static NAME: LazyLock<String> = LazyLock::new(|| name("frames"));

/// A word of a segment.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Word {
    Any(u64),
    Null,
    Text([u8; 8]),
    Struct { offset: i8, data: u8, pointers: u8 },
    List { offset: i8, kind: u8, count: u16 },
    HugeList { offset: i8, kind: u8, count: u32 },
    Tag { count: i16, data: u8, pointers: u8 },
    Far { double: bool, offset: u8, segment: u8 },
    Capability(u8),
}

impl Word {
    fn encode(self) -> u64 {
        let offset = |words: i8| u64::from((i32::from(words) << 2) as u32);
        let sizes = |data: u8, pointers: u8| u64::from(data) << 32 | u64::from(pointers) << 48;
        match self {
            Self::Any(word) => word,
            Self::Null => 0,
            Self::Text(bytes) => u64::from_le_bytes(bytes),
            Self::Struct { offset: at, data, pointers } => offset(at) | sizes(data, pointers),
            Self::List { offset: at, kind, count } => {
                offset(at) | 1 | u64::from(kind % 8) << 32 | u64::from(count) << 35
            }
            Self::HugeList { offset: at, kind, count } => {
                offset(at) | 1 | u64::from(kind % 8) << 32 | u64::from(count) << 35
            }
            Self::Tag { count, data, pointers } => {
                u64::from((i32::from(count) << 2) as u32) | sizes(data, pointers)
            }
            Self::Far { double, offset, segment } => {
                2 | u64::from(double) << 2 | u64::from(offset) << 3 | u64::from(segment % 4) << 32
            }
            Self::Capability(index) => 3 | u64::from(index) << 32,
        }
    }
}

#[derive(Arbitrary, Debug)]
enum Message {
    Bytes(Vec<u8>),
    Frame {
        segments: Vec<Vec<Word>>,
        edits: Vec<Edit>,
        cut: u8,
    },
    /// One that says what it was given, changed.
    Sound {
        name: String,
        children: u8,
        edits: Vec<Edit>,
    },
}

impl Message {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = match &self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Frame { segments, cut, .. } => {
                let segments = &segments[..segments.len().min(6)];
                let mut table = vec![(segments.len() as u32).wrapping_sub(1)];
                table.extend(segments.iter().map(|words| words.len() as u32));
                table.resize(table.len().next_multiple_of(2), 0);
                let mut bytes: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
                bytes.extend(segments.iter().flatten().flat_map(|word| word.encode().to_le_bytes()));
                bytes.truncate(bytes.len().saturating_sub(usize::from(cut % 16)));
                bytes
            }
            Self::Sound { name, children, .. } => {
                let mut message = Builder::new_default();
                let mut root = message.init_root::<node::Builder<'_>>();
                root.set_display_name(name.as_str());
                let mut nested = root.reborrow().init_nested_nodes(u32::from(children % 8));
                for child in 0..nested.len() {
                    nested.reborrow().get(child).set_name(name.as_str());
                }
                root.init_annotations(1).get(0).init_value().init_list().set_as(name.as_str()).unwrap();
                capnp::serialize::write_message_to_words(&message)
            }
        };
        if let Self::Frame { edits, .. } | Self::Sound { edits, .. } = self {
            edits.into_iter().for_each(|edit| edit.apply(&mut bytes));
        }
        bytes.truncate(SLOT);
        bytes
    }
}

/// By which call it is received.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum By {
    Recv,
    Copied,
    Latest,
    Drain,
    Window,
}

#[derive(Arbitrary, Debug)]
struct Input {
    by: By,
    message: Message,
}

/// Looks at everything there is, up to a number of visits.
fn walk(value: dynamic_value::Reader<'_>, visits: &mut usize) -> capnp::Result<()> {
    let Some(left) = visits.checked_sub(1) else { return Ok(()) };
    *visits = left;
    match value {
        dynamic_value::Reader::Struct(found) => {
            let schema = found.get_schema();
            for field in schema.get_non_union_fields()? {
                walk_field(found, field, visits)?;
            }
            if let Some(field) = found.which()? {
                walk_field(found, field, visits)?;
            }
        }
        dynamic_value::Reader::List(list) => {
            for at in 0..list.len() {
                if *visits == 0 {
                    break;
                }
                walk(list.get(at)?, visits)?;
            }
        }
        dynamic_value::Reader::Text(text) => {
            let _ = text.to_str();
        }
        dynamic_value::Reader::Data(data) => {
            std::hint::black_box(data.iter().fold(0_u8, |sum, byte| sum ^ byte));
        }
        _ => {}
    }
    Ok(())
}

fn walk_field(
    found: capnp::dynamic_struct::Reader<'_>,
    field: capnp::schema::Field,
    visits: &mut usize,
) -> capnp::Result<()> {
    // What is wrong with one field says nothing about the next.
    if let Ok(value) = found.get(field) {
        let _ = walk(value, visits);
    }
    Ok(())
}

fn look(root: capnp::Result<node::Reader<'_>>) {
    let Ok(root) = root else { return };
    let _ = walk(dynamic_value::Reader::from(root), &mut VISITS.clone());
    let _ = root.total_size();
    let mut copy = Builder::new_default();
    if copy.set_root(root).is_ok() {
        let again = copy.into_reader();
        let _ = walk(
            dynamic_value::Reader::from(again.get_root::<node::Reader<'_>>().unwrap()),
            &mut VISITS.clone(),
        );
    }
    let mut canonical = Builder::new_default();
    let _ = canonical.set_root_canonical(root);
}

struct Pair {
    a: CapnpChannel<node::Owned>,
    b: CapnpChannel<node::Owned>,
    memory: Memory,
    sent: usize,
}

thread_local! {
    static PAIR: RefCell<Pair> = RefCell::new({
        let a = CapnpChannel::create(&NAME, &Config::new().slot_size(SLOT).slot_count(4)).unwrap();
        let mut b = CapnpChannel::open(&NAME, Duration::ZERO).unwrap();
        let memory = Memory::of(&NAME, Which::AToB);
        // The mappings keep what they map: a run that crashes leaves nothing.
        for which in [Which::AToB, Which::BToA] {
            std::fs::remove_file(path(&NAME, which)).unwrap();
        }
        // Enough for any slot's worth of honest words, and quick where they point at each other.
        b.reader_options(ReaderOptions { traversal_limit_in_words: Some(1 << 14), nesting_limit: 64 });
        Pair { a, b, memory, sent: 0 }
    });
}

/// Whether capnp reads these bytes as one frame, and no more.
fn is_frame(bytes: &[u8]) -> bool {
    // Aligned, as capnp wants it.
    let mut copy = capnp::Word::allocate_zeroed_vec(bytes.len().div_ceil(8));
    let copy = &mut capnp::Word::words_to_bytes_mut(&mut copy)[..bytes.len()];
    copy.copy_from_slice(bytes);
    let (mut rest, mut options) = (&*copy, ReaderOptions::new());
    options.traversal_limit_in_words(None);
    capnp::serialize::read_message_from_flat_slice(&mut rest, options).is_ok() && rest.is_empty()
}

fn receive(b: &mut CapnpChannel<node::Owned>, by: By, bytes: &[u8]) {
    match by {
        By::Recv => {
            let message = b.try_recv().unwrap();
            assert_eq!(message.frame_bytes(), bytes);
            look(message.get());
        }
        By::Copied => {
            let message = b.try_recv_copied().unwrap();
            assert_eq!(message.frame_bytes(), bytes);
            look(message.get());
        }
        By::Latest => {
            let message = b.try_recv_latest().unwrap();
            assert_eq!(message.frame_bytes(), bytes);
            look(message.get());
        }
        By::Drain => {
            let count = b.drain_while(2, |message| {
                assert_eq!(message.frame_bytes(), bytes);
                look(message.get());
                ControlFlow::Break(())
            });
            assert_eq!(count.unwrap(), 1);
        }
        By::Window => {
            let mut window = b.window();
            window.try_wait_for(1).unwrap();
            let message = window.get(0).unwrap();
            assert_eq!(message.frame_bytes(), bytes);
            look(message.get());
        }
    }
}

fuzz_target!(|input: Input| {
    PAIR.with_borrow_mut(|pair| {
        let bytes = input.message.bytes();
        pair.a.try_send(|_| Ok(())).unwrap();
        let slot = pair.sent % 4;
        pair.sent += 1;
        pair.memory.write(SLOTS + slot * SLOT, &bytes);
        pair.memory.write(LENGTHS + slot * 4, &(bytes.len() as u32).to_ne_bytes());
        receive(&mut pair.b, input.by, &bytes);
        if pair.a.try_send_frame(&bytes).is_ok() {
            assert!(is_frame(&bytes));
            pair.sent += 1;
            receive(&mut pair.b, input.by, &bytes);
        } else {
            assert!(!is_frame(&bytes));
        }
    });
});
