//! Any bytes in any parts, as RPC messages: what comes in is what a reader of the whole stream sees, or the connection ends
//! with an error.
#![no_main]

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Arbitrary;
use capnp::message::ReaderOptions;
use capnproto_shm_transport::capnp_rpc::rpc_twoparty_capnp::Side;
use capnproto_shm_transport::capnp_rpc::{Connection, VatNetwork};
use capnproto_shm_transport::{Config, Transport, rpc};
use capnproto_shm_transport_fuzz::*;
use libfuzzer_sys::fuzz_target;

const SLOT: usize = 64;
/// Words of a message that are allowed.
const LIMIT: usize = 1 << 12;

#[derive(Arbitrary, Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// A message of segments of so many words.
    Frame(Vec<u8>, Vec<Edit>),
}

#[derive(Arbitrary, Debug)]
struct Input {
    pieces: Vec<Piece>,
    /// Where it is cut, as often as it takes.
    cuts: Vec<u8>,
    closes: bool,
}

impl Piece {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Frame(segments, edits) => {
                let segments = &segments[..segments.len().min(8)];
                let mut table = vec![(segments.len() as u32).wrapping_sub(1)];
                table.extend(segments.iter().map(|words| u32::from(words % 32)));
                table.resize(table.len().next_multiple_of(2), 0);
                let words: usize = segments.iter().map(|words| usize::from(words % 32)).sum();
                let mut bytes: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
                bytes.resize(bytes.len() + 8 * words, 0);
                edits.into_iter().for_each(|edit| edit.apply(&mut bytes));
                bytes
            }
        }
    }
}

fuzz_target!(|input: Input| {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let name = format!("{}-{}", name("rpc"), RUNS.fetch_add(1, Ordering::Relaxed));
    let mut a = Transport::create(&name, &Config::new().slot_size(SLOT).slot_count(8)).unwrap();
    let b = Transport::open(&name, Duration::ZERO).unwrap();
    let mut options = ReaderOptions::new();
    options.traversal_limit_in_words(Some(LIMIT));
    let mut network = rpc::VatNetwork::new(b, Side::Server, options);
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(mut connection)) = std::pin::pin!(network.accept()).poll(&mut cx) else {
        panic!("there is one connection");
    };

    let stream: Vec<u8> = input.pieces.into_iter().flat_map(Piece::bytes).take(1 << 14).collect();
    let (mut rest, mut came) = (&stream[..], 0);
    let mut cuts = input.cuts.into_iter().cycle();
    while !rest.is_empty() {
        let part = usize::from(cuts.next().unwrap_or(SLOT as u8)).clamp(1, SLOT).min(rest.len());
        if a.try_send(&rest[..part]).is_err() {
            // The other side has ended the connection.
            return;
        }
        rest = &rest[part..];
        match receive(&mut *connection, &mut cx) {
            Some(Ok(true)) => came += 1,
            Some(Ok(false)) => panic!("the end, before it closed"),
            Some(Err(_)) => return,
            None => {}
        }
    }
    // Behind a message nothing may stand in its last part, so there are no more than frames.
    assert!(came <= stream.len() / 8);
    if input.closes {
        drop(a);
        assert!(!matches!(receive(&mut *connection, &mut cx), Some(Ok(true)) | None));
    }
});

/// Whether a message came, or the end.
fn receive(connection: &mut dyn Connection<Side>, cx: &mut Context<'_>) -> Option<capnp::Result<bool>> {
    let mut message = connection.receive_incoming_message();
    // Until it sleeps, or there is something.
    for _ in 0..3 {
        if let Poll::Ready(message) = std::pin::Pin::new(&mut message).poll(cx) {
            return Some(message.map(|message| {
                message.inspect(|message| drop(message.get_body().map(|body| body.target_size()))).is_some()
            }));
        }
    }
    None
}
