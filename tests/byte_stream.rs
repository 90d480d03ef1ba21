//! A channel as a stream of bytes: whatever the pieces, the same bytes; and what a socket would say at each end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod memory;

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use capnproto_shm_transport::{ByteReader, ByteStream, ByteWriter, Config, PollMode, Transport};
use common::*;
use futures_lite::future::{block_on, try_zip};
use proptest::prelude::*;

#[test]
fn child() {
    play(&[
        ("both", both),
        ("talk", talk),
        ("read when told", read_when_told),
        ("pieces", pieces),
        ("messages", messages),
        ("give back", give_back),
        ("echo", echo),
        ("lines", lines),
    ]);
}

/// Whose traits are used, and in whose runtime.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Traits {
    Futures,
    Tokio,
}

const TRAITS: [Traits; 2] = [Traits::Futures, Traits::Tokio];

impl Traits {
    fn named(name: &str) -> Self {
        *TRAITS.iter().find(|traits| format!("{traits:?}") == name).unwrap()
    }

    fn name(self) -> String {
        format!("{self:?}")
    }

    fn run<T>(self, future: impl Future<Output = T>) -> T {
        match self {
            Self::Futures => block_on(future),
            Self::Tokio => {
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
            }
        }
    }

    fn poll_read(
        self,
        from: &mut ByteReader,
        cx: &mut Context<'_>,
        into: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let from = Pin::new(from);
        match self {
            Self::Futures => futures::io::AsyncRead::poll_read_vectored(from, cx, into),
            Self::Tokio => {
                // tokio has no vectored reads.
                let buffer = into.iter_mut().find(|slice| !slice.is_empty());
                let mut buffer = tokio::io::ReadBuf::new(buffer.map_or(&mut [][..], |slice| slice));
                let polled = tokio::io::AsyncRead::poll_read(from, cx, &mut buffer);
                polled.map_ok(|()| buffer.filled().len())
            }
        }
    }

    fn poll_write(
        self,
        to: &mut ByteWriter,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let to = Pin::new(to);
        match (self, slices) {
            (Self::Futures, [one]) => futures::io::AsyncWrite::poll_write(to, cx, one),
            (Self::Futures, _) => futures::io::AsyncWrite::poll_write_vectored(to, cx, slices),
            (Self::Tokio, [one]) => tokio::io::AsyncWrite::poll_write(to, cx, one),
            (Self::Tokio, _) => tokio::io::AsyncWrite::poll_write_vectored(to, cx, slices),
        }
    }

    async fn read(self, from: &mut ByteReader, into: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(from, cx, &mut [IoSliceMut::new(into)])).await
    }

    async fn write(self, to: &mut ByteWriter, bytes: &[u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_write(to, cx, &[IoSlice::new(bytes)])).await
    }

    async fn write_all(self, to: &mut ByteWriter, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Futures => futures_lite::AsyncWriteExt::write_all(to, bytes).await,
            Self::Tokio => tokio::io::AsyncWriteExt::write_all(to, bytes).await,
        }
    }

    async fn read_to_end(self, from: &mut ByteReader) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Futures => futures_lite::AsyncReadExt::read_to_end(from, &mut bytes).await?,
            Self::Tokio => tokio::io::AsyncReadExt::read_to_end(from, &mut bytes).await?,
        };
        Ok(bytes)
    }

    async fn flush(self, to: &mut ByteWriter) -> io::Result<()> {
        match self {
            Self::Futures => futures_lite::AsyncWriteExt::flush(to).await,
            Self::Tokio => tokio::io::AsyncWriteExt::flush(to).await,
        }
    }

    async fn shut_down(self, to: &mut ByteWriter) -> io::Result<()> {
        match self {
            Self::Futures => futures_lite::AsyncWriteExt::close(to).await,
            Self::Tokio => tokio::io::AsyncWriteExt::shutdown(to).await,
        }
    }
}

fn create(name: &str, slot_size: usize, slot_count: usize) -> Transport {
    Transport::create(name, &Config::new().slot_size(slot_size).slot_count(slot_count)).unwrap()
}

fn open(name: &str) -> (ByteReader, ByteWriter) {
    Transport::open(name, LONG).unwrap().into_io().into_split()
}

/// Polls once, for nobody.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls again and again, as a task does that waits for other things as well, until the half sleeps surely.
async fn stays_pending<F: Future>(mut future: Pin<&mut F>) {
    for _ in 0..20 {
        let polled = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending()));
        assert!(polled.await);
        std::thread::sleep(Duration::from_millis(1));
    }
}

// ---- Any sizes of pieces, compared with a model: byte `at` of a direction is known.

fn byte(way: u8, at: usize) -> u8 {
    (at.wrapping_mul(0x9E37_79B1) >> 11) as u8 ^ way
}

/// Three borders of parts in `len` bytes, which differ from turn to turn. Parts may be empty.
fn cuts(len: usize, turn: usize) -> [usize; 3] {
    let mut cuts = [1, 2, 3].map(|part| turn.wrapping_mul(31 * part + 7) % (len + 1));
    cuts.sort_unstable();
    cuts
}

async fn write_model(traits: Traits, to: &mut ByteWriter, way: u8, sizes: &[usize]) -> io::Result<()> {
    let mut at = 0;
    for (turn, &size) in sizes.iter().enumerate() {
        let bytes: Vec<u8> = (at..at + size).map(|at| byte(way, at)).collect();
        let mut rest = &bytes[..];
        loop {
            let [x, y, z] = cuts(rest.len(), turn);
            let parts = [&rest[..x], &rest[x..y], &rest[y..z], &rest[z..]].map(IoSlice::new);
            let whole = [IoSlice::new(rest)];
            let slices = if turn % 2 == 0 { &parts[..] } else { &whole[..] };
            let written = std::future::poll_fn(|cx| traits.poll_write(to, cx, slices)).await?;
            assert!(written <= rest.len() && (written == 0) == rest.is_empty());
            rest = &rest[written..];
            if rest.is_empty() {
                break;
            }
        }
        at += size;
        if turn % 3 == 0 {
            traits.flush(to).await?;
        }
    }
    traits.shut_down(to).await
}

/// Reads to the end, in pieces of these sizes again and again, and says how much came.
async fn read_model(traits: Traits, from: &mut ByteReader, way: u8, sizes: &[usize]) -> io::Result<usize> {
    let (mut at, mut buffer) = (0, vec![0; 4096]);
    for (turn, &size) in sizes.iter().cycle().enumerate() {
        let (one, rest) = buffer[..size].split_at_mut(cuts(size, turn)[1]);
        let mut slices = [IoSliceMut::new(one), IoSliceMut::new(&mut []), IoSliceMut::new(rest)];
        let read = std::future::poll_fn(|cx| traits.poll_read(from, cx, &mut slices)).await?;
        assert!(read <= size);
        if read == 0 && size > 0 {
            break;
        }
        for &found in &buffer[..read] {
            assert_eq!(found, byte(way, at), "at {at}");
            at += 1;
        }
    }
    Ok(at)
}

#[derive(Clone, Debug)]
struct Sizes {
    writes: Vec<usize>,
    reads: Vec<usize>,
}

impl Sizes {
    fn total(&self) -> usize {
        self.writes.iter().sum()
    }
}

fn sizes() -> impl Strategy<Value = Sizes> {
    let size = || prop_oneof![4 => 0..20_usize, 3 => 0..300_usize, 1 => 0..4000_usize];
    let many = || proptest::collection::vec(size(), 1..12);
    (many(), many(), 1..500_usize).prop_map(|(writes, mut reads, last)| {
        // One that is not empty.
        reads.push(last);
        Sizes { writes, reads }
    })
}

fn words(sizes: &[usize]) -> String {
    sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn numbers(words: &str) -> Vec<usize> {
    words.split(',').map(|word| word.parse().unwrap()).collect()
}

/// Writes and reads at once, to the end of both directions.
fn exchange(
    traits: Traits,
    (mut reader, mut writer): (ByteReader, ByteWriter),
    side: u8,
    out: &[usize],
    back: &[usize],
) -> usize {
    traits.run(async {
        let writes = write_model(traits, &mut writer, side, out);
        let reads = read_model(traits, &mut reader, 1 - side, back);
        try_zip(writes, reads).await.unwrap().1
    })
}

/// Side B of an exchange.
fn both(args: &[String]) {
    let ends = open(&args[0]);
    let read = exchange(Traits::named(&args[1]), ends, 1, &numbers(&args[2]), &numbers(&args[3]));
    assert_eq!(read, args[4].parse().unwrap());
}

/// Two processes read the bytes that they write to each other.
fn both_ways(config: &Config, traits: [Traits; 2], a_to_b: &Sizes, b_to_a: &Sizes) {
    let name = named("both");
    let a = Transport::create(&name, config).unwrap();
    let total = a_to_b.total().to_string();
    let peer =
        spawn("both", &[&name, &traits[1].name(), &words(&b_to_a.writes), &words(&a_to_b.reads), &total]);
    let read = exchange(traits[0], a.into_io().into_split(), 0, &a_to_b.writes, &b_to_a.reads);
    assert_eq!(read, b_to_a.total());
    peer.join();
    assert!(name.is_free(), "{:?}", name.left());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_pieces_are_the_same_bytes(
        a_to_b in (1..80_usize, 0..4_u32),
        b_to_a in (1..80_usize, 0..4_u32),
        out in sizes(),
        back in sizes(),
        traits in (any::<bool>(), any::<bool>()),
    ) {
        let config = Config::new().a_to_b(a_to_b.0, 1 << a_to_b.1).b_to_a(b_to_a.0, 1 << b_to_a.1);
        let traits = [traits.0, traits.1].map(|tokio| TRAITS[usize::from(tokio)]);
        both_ways(&config, traits, &out, &back);
    }
}

#[test]
fn the_smallest_rings_carry_streams_in_every_mode() {
    let sizes = Sizes { writes: vec![1, 2, 700, 0, 3, 900], reads: vec![5, 1, 0, 64, 333] };
    for mode in [PollMode::Spin, PollMode::Interval(Duration::from_micros(20)), PollMode::Park] {
        for (slot_size, slot_count) in [(1, 1), (1, 8), (7, 1), (13, 2), (4096, 1)] {
            for traits in TRAITS {
                let config = Config::new().slot_size(slot_size).slot_count(slot_count).poll(mode);
                both_ways(&config, [traits; 2], &sizes, &sizes);
            }
        }
    }
}

// ---- Ends.

/// Says its last words, and leaves as it is told.
fn talk(args: &[String]) {
    let mut side = match &*args[1] {
        "supersede" => create(&args[0], 16, 2),
        _ => Transport::open(&args[0], LONG).unwrap(),
    };
    side.send(b"last words").unwrap();
    say("here");
    hold();
    let (reader, mut writer) = side.into_io().into_split();
    if args[1] == "close" {
        drop((reader, writer));
    } else {
        block_on(Traits::Futures.shut_down(&mut writer)).unwrap();
    }
    say("done");
    hold();
}

type Said<T> = Result<T, ErrorKind>;

/// The peer's action, and the results of reading and writing after it.
const ENDS: [(&str, Said<usize>, Said<()>); 4] = [
    ("shut down", Ok(0), Ok(())),
    ("close", Ok(0), Err(ErrorKind::BrokenPipe)),
    ("kill", Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)),
    ("supersede", Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)),
];

/// A side whose peer has said its last words.
fn with_peer(end: &str) -> (Name, Peer, ByteReader, ByteWriter) {
    let name = named("end");
    let spawned = |name: &Name| {
        let mut peer = spawn("talk", &[name, end]);
        peer.wait_for("here");
        peer
    };
    if end == "supersede" {
        let peer = spawned(&name);
        let (reader, writer) = open(&name);
        return (name, peer, reader, writer);
    }
    let a = create(&name, 16, 2);
    let peer = spawned(&name);
    let (reader, writer) = a.into_io().into_split();
    (name, peer, reader, writer)
}

/// Has the peer go. Returns its successor.
fn go(end: &str, name: &Name, peer: &mut Peer) -> Option<Transport> {
    match end {
        "shut down" | "close" => {
            peer.go();
            peer.wait_for("done");
            None
        }
        _ => {
            peer.kill();
            (end == "supersede").then(|| create(name, 16, 2))
        }
    }
}

#[test]
fn every_end_is_the_one_of_a_socket() {
    for traits in TRAITS {
        for (end, reading, writing) in ENDS {
            let (name, mut peer, mut reader, mut writer) = with_peer(end);
            let _successor = go(end, &name, &mut peer);
            traits.run(async {
                let (mut words, mut rest) = ([0; 10], [0; 9]);
                assert_eq!(traits.read(&mut reader, &mut words[..4]).await.unwrap(), 4);
                assert_eq!(traits.read(&mut reader, &mut words[4..]).await.unwrap(), 6, "{end}");
                assert_eq!(&words, b"last words");
                for _ in 0..3 {
                    let read = traits.read(&mut reader, &mut rest).await;
                    assert_eq!(read.map_err(|error| error.kind()), reading, "{traits:?} {end}");
                }
                for _ in 0..3 {
                    let written = traits.write(&mut writer, b"x").await;
                    // A ring of two slots takes two of them from nobody.
                    if writing.is_err() {
                        assert_eq!(
                            written.map_err(|error| error.kind()).map(drop),
                            writing,
                            "{traits:?} {end}"
                        );
                        continue;
                    }
                    assert_eq!(written.unwrap(), 1, "{traits:?} {end}");
                    break;
                }
            });
        }
    }
}

#[test]
fn every_end_reaches_a_read_that_waits() {
    for traits in TRAITS {
        for (end, reading, _) in ENDS {
            let (name, mut peer, mut reader, _writer) = with_peer(end);
            traits.run(async {
                let mut words = [0; 20];
                assert_eq!(traits.read(&mut reader, &mut words).await.unwrap(), 10);
                let mut read = pin!(traits.read(&mut reader, &mut words));
                stays_pending(read.as_mut()).await;
                let _successor = go(end, &name, &mut peer);
                assert_eq!(read.await.map_err(|error| error.kind()), reading, "{traits:?} {end}");
            });
        }
    }
}

#[test]
fn every_end_reaches_a_write_that_waits() {
    for traits in TRAITS {
        for (end, _, writing) in ENDS {
            let Err(writing) = writing else { continue };
            let (name, mut peer, _reader, mut writer) = with_peer(end);
            traits.run(async {
                assert_eq!(traits.write(&mut writer, &[7; 100]).await.unwrap(), 32, "two slots");
                let mut write = pin!(traits.write(&mut writer, b"x"));
                stays_pending(write.as_mut()).await;
                let _successor = go(end, &name, &mut peer);
                assert_eq!(write.await.unwrap_err().kind(), writing, "{traits:?} {end}");
            });
        }
    }
}

/// The results of calls on two connected streams, one after the other.
#[cfg(unix)]
async fn script<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut connected: impl FnMut() -> (S, S),
) -> Vec<Said<usize>> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut said = Vec::new();
    let mut say = |result: io::Result<usize>| said.push(result.map_err(|error| error.kind()));
    let done = |()| 0;
    let mut buffer = [0; 10];

    let (mut a, mut b) = connected();
    say(a.write(b"").await);
    say(a.write(b"one").await);
    say(a.write(b"two").await);
    say(a.flush().await.map(done));
    say(b.read(&mut []).await);
    say(b.read(&mut buffer[..4]).await);
    say(b.read(&mut buffer).await);
    // A direction that is shut down does not disturb the other one.
    say(a.write(b"last").await);
    say(a.shutdown().await.map(done));
    say(a.write(b"x").await);
    say(a.flush().await.map(done));
    say(a.shutdown().await.map(done));
    say(b.read(&mut buffer).await);
    say(b.read(&mut buffer).await);
    say(b.read(&mut buffer).await);
    say(b.write(b"answer").await);
    say(a.read(&mut buffer).await);
    say(b.shutdown().await.map(done));
    say(a.read(&mut buffer).await);
    say(b.write(b"x").await);
    drop(a);
    say(b.read(&mut buffer).await);
    say(b.write(b"x").await);

    // One that goes without shutting down.
    let (mut a, mut b) = connected();
    say(a.write(b"last").await);
    drop(a);
    say(b.write(b"x").await);
    say(b.read(&mut buffer).await);
    say(b.read(&mut buffer).await);
    say(b.flush().await.map(done));
    say(b.shutdown().await.map(done));
    said
}

#[cfg(unix)]
#[test]
fn calls_return_what_a_sockets_calls_return() {
    Traits::Tokio.run(async {
        let sockets = script(|| tokio::net::UnixStream::pair().unwrap()).await;
        let streams = script(|| {
            let name = named("script");
            let a = create(&name, 16, 4);
            (a.into_io(), Transport::open(&name, LONG).unwrap().into_io())
        });
        assert_eq!(streams.await, sockets);
    });
}

#[test]
fn an_interruption_and_a_lie_are_errors_of_their_own() {
    for traits in TRAITS {
        let name = named("lie");
        let a = create(&name, memory::SLOT, memory::SLOTS);
        let memory = memory::Memory::of(&name.b2a());
        let interrupter = a.interrupter();
        let (mut reader, _writer) = a.into_io().into_split();
        traits.run(async {
            let mut buffer = [0; 4];
            let mut read = Box::pin(traits.read(&mut reader, &mut buffer));
            stays_pending(read.as_mut()).await;
            interrupter.interrupt();
            assert_eq!(read.await.unwrap_err().kind(), ErrorKind::Interrupted);
            assert!(poll_once(pin!(traits.read(&mut reader, &mut buffer))).is_pending());
            memory.put(memory::at::TAIL, 1 << 40);
            for _ in 0..2 {
                let read = traits.read(&mut reader, &mut buffer).await;
                assert_eq!(read.unwrap_err().kind(), ErrorKind::InvalidData);
            }
        });
    }
}

// ---- Backpressure, and turns.

/// Reads everything once it is told, and says how much came.
fn read_when_told(args: &[String]) {
    let (mut reader, _writer) = open(&args[0]);
    say("here");
    hold();
    let read = block_on(Traits::Futures.read_to_end(&mut reader)).unwrap();
    assert!(read.iter().enumerate().all(|(at, &found)| found == byte(0, at)));
    say(&read.len().to_string());
    hold();
}

#[test]
fn a_reader_that_does_not_read_holds_up_the_writer() {
    for traits in TRAITS {
        // How much a write is, and how much the ring of 4 slots of 10 bytes takes of such writes.
        for (piece, held) in [(1000, 40), (10, 40), (1, 4), (11, 22), (3, 12)] {
            let name = named("backpressure");
            let a = create(&name, 10, 4);
            let mut peer = spawn("read when told", &[&name]);
            peer.wait_for("here");
            let (_reader, mut writer) = a.into_io().into_split();
            let bytes: Vec<u8> = (0..2000).map(|at| byte(0, at)).collect();
            traits.run(async {
                let mut at = 0;
                loop {
                    let mut write = pin!(traits.write(&mut writer, &bytes[at..at + piece]));
                    match poll_once(write.as_mut()) {
                        Poll::Ready(written) => at += written.unwrap(),
                        Poll::Pending => {
                            // Nobody takes anything: it is not a matter of time, nor of how often one asks.
                            stays_pending(write.as_mut()).await;
                            assert_eq!(at, held, "{traits:?}, pieces of {piece}");
                            peer.go();
                            // The reader wakes the writer.
                            at += write.await.unwrap();
                            break;
                        }
                    }
                }
                traits.write_all(&mut writer, &bytes[at..]).await.unwrap();
                traits.shut_down(&mut writer).await.unwrap();
            });
            peer.wait_for("2000");
            peer.join();
        }
    }
}

#[test]
fn a_read_that_is_polled_often_is_woken_all_the_same() {
    for traits in TRAITS {
        let name = named("often");
        let a = create(&name, 16, 2);
        let mut peer = spawn("pieces", &[&name]);
        peer.wait_for("here");
        let (mut reader, _writer) = a.into_io().into_split();
        traits.run(async {
            let mut buffer = [0; 16];
            for _ in 0..5 {
                let mut read = Box::pin(traits.read(&mut reader, &mut buffer));
                stays_pending(read.as_mut()).await;
                peer.go();
                assert_eq!(read.await.unwrap(), 5);
                assert_eq!(&buffer[..5], b"piece");
            }
        });
        peer.join();
    }
}

/// Sends a piece each time it is told, five times.
fn pieces(args: &[String]) {
    let (_reader, mut writer) = open(&args[0]);
    say("here");
    for _ in 0..5 {
        hold();
        block_on(Traits::Futures.write_all(&mut writer, b"piece")).unwrap();
    }
    hold();
}

/// A task that always finds something to read, or room to write, lets others of its thread run.
#[test]
fn a_busy_task_lets_others_run() {
    const CALLS: usize = 2048;
    for traits in TRAITS {
        for writes in [false, true] {
            let name = named("turns");
            let (mut reader, mut writer) = create(&name, 1, CALLS).into_io().into_split();
            let (_their_reader, mut their_writer) = open(&name);
            traits.run(async {
                // Each byte lies in a slot of its own.
                for _ in 0..CALLS {
                    traits.write(&mut their_writer, b"x").await.unwrap();
                }
                let others = std::cell::Cell::new(0);
                let busy = async {
                    for _ in 0..CALLS {
                        let call = if writes {
                            traits.write(&mut writer, b"x").await
                        } else {
                            traits.read(&mut reader, &mut [0]).await
                        };
                        assert_eq!(call.unwrap(), 1);
                    }
                    assert!(others.get() > 1, "{traits:?}, writes: {writes}");
                };
                let other = async {
                    loop {
                        others.set(others.get() + 1);
                        futures_lite::future::yield_now().await;
                    }
                };
                futures_lite::future::or(busy, other).await;
            });
        }
    }
}

// ---- A peer that sends and receives messages.

const MESSAGES: [&[u8]; 8] = [b"", b"one ", b"", b"", b"a span of several slots ", b"two", b"!", b""];

/// Sends messages, empty ones and spans among them, then receives what a stream writes.
fn messages(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    for message in MESSAGES {
        let mut slot = b.reserve_span(message.len()).unwrap();
        slot[..message.len()].copy_from_slice(message);
        slot.commit(message.len());
    }
    b.finish(LONG).unwrap();
    let mut came = Vec::new();
    while let Ok(message) = b.recv() {
        assert!(!message.is_empty() && message.len() <= 8);
        came.extend_from_slice(&message);
    }
    assert_eq!(came, b"in pieces of a slot at most");
}

#[test]
fn a_peer_may_send_and_receive_messages() {
    for traits in TRAITS {
        for buffer in [1, 3, 100] {
            let name = named("messages");
            let a = create(&name, 8, 4);
            let peer = spawn("messages", &[&name]);
            let (mut reader, mut writer) = a.into_io().into_split();
            traits.run(async {
                let (mut came, mut buffer) = (Vec::new(), vec![0; buffer]);
                loop {
                    match traits.read(&mut reader, &mut buffer).await.unwrap() {
                        0 => break,
                        read => came.extend_from_slice(&buffer[..read]),
                    }
                }
                assert_eq!(came, MESSAGES.concat());
                traits.write_all(&mut writer, b"in pieces of a slot at most").await.unwrap();
                traits.shut_down(&mut writer).await.unwrap();
            });
            peer.join();
        }
    }
}

// ---- Futures that are dropped.

/// Reads to the end, then writes all of it back.
fn give_back(args: &[String]) {
    let (mut reader, mut writer) = open(&args[0]);
    block_on(async {
        let all = Traits::Futures.read_to_end(&mut reader).await.unwrap();
        Traits::Futures.write_all(&mut writer, &all).await.unwrap();
    });
}

/// A writer that notes what was accepted.
struct Noted<'a> {
    traits: Traits,
    writer: &'a mut ByteWriter,
    accepted: &'a mut Vec<u8>,
}

impl futures::io::AsyncWrite for Noted<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = this.traits.poll_write(this.writer, cx, &[IoSlice::new(bytes)]);
        if let Poll::Ready(Ok(written)) = &polled {
            this.accepted.extend_from_slice(&bytes[..*written]);
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls so many times at most.
async fn at_most<F: Future>(polls: usize, mut future: Pin<&mut F>) -> Option<F::Output> {
    let mut seen = 0;
    std::future::poll_fn(|cx| {
        if seen == polls {
            return Poll::Ready(None);
        }
        seen += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

#[test]
fn a_write_that_is_dropped_half_way_has_written_what_was_accepted() {
    for traits in TRAITS {
        let name = named("half");
        let a = create(&name, 16, 4);
        let peer = spawn("give back", &[&name]);
        let (mut reader, mut writer) = a.into_io().into_split();
        traits.run(async {
            let (mut accepted, mut dropped) = (Vec::new(), 0);
            for turn in 0..300 {
                let piece: Vec<u8> = pattern(turn, 1 + turn * 7 % 200);
                let (writer, accepted) = (&mut writer, &mut accepted);
                let mut noted = Noted { traits, writer, accepted };
                let write = pin!(futures_lite::AsyncWriteExt::write_all(&mut noted, &piece));
                match at_most(turn % 5, write).await {
                    Some(written) => written.unwrap(),
                    None => dropped += 1,
                }
            }
            // Those that were not polled at all, and others.
            assert!(dropped > 60, "{dropped}");
            traits.shut_down(&mut writer).await.unwrap();
            // A read that is dropped has taken nothing.
            let (mut came, mut buffer) = (Vec::new(), [0; 50]);
            for turn in 0.. {
                let read = at_most(turn % 3, Box::pin(traits.read(&mut reader, &mut buffer)).as_mut()).await;
                match read.transpose().unwrap() {
                    None => continue,
                    Some(0) => break,
                    Some(read) => came.extend_from_slice(&buffer[..read]),
                }
            }
            assert!(came == accepted, "{} bytes of {}", came.len(), accepted.len());
        });
        peer.join();
    }
}

// ---- Uses by other code: halves in tasks of their own, `copy`, lines.

/// Gives back whatever comes, by `copy`.
fn echo(args: &[String]) {
    let stream = Transport::open(&args[0], LONG).unwrap().into_io();
    let traits = Traits::named(&args[1]);
    let copied = traits.run(async {
        match traits {
            Traits::Futures => {
                let (reader, mut writer) = futures_lite::io::split(stream);
                let copied = futures_lite::io::copy(reader, &mut writer).await.unwrap();
                futures_lite::AsyncWriteExt::close(&mut writer).await.unwrap();
                copied
            }
            Traits::Tokio => {
                let (mut reader, mut writer) = tokio::io::split(stream);
                let copied = tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                tokio::io::AsyncWriteExt::shutdown(&mut writer).await.unwrap();
                copied
            }
        }
    });
    assert_eq!(copied, args[2].parse::<u64>().unwrap());
}

#[test]
fn halves_in_two_tasks_are_echoed_by_copy() {
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

    async fn tasks(
        mut reader: impl AsyncRead + Unpin + Send + 'static,
        mut writer: impl AsyncWrite + Unpin + Send + 'static,
    ) {
        let all: Vec<u8> = (0..300_000).map(|at| byte(0, at)).collect();
        let expected = all.clone();
        let writing = tokio::spawn(async move {
            for piece in all.chunks(7001) {
                writer.write_all(piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        });
        let reading = tokio::spawn(async move {
            let mut came = Vec::new();
            reader.read_to_end(&mut came).await.unwrap();
            assert!(came == expected);
        });
        writing.await.unwrap();
        reading.await.unwrap();
    }

    for traits in TRAITS {
        for in_two in [false, true] {
            let name = named("echo");
            let a: ByteStream = create(&name, 1000, 8).into_io();
            let peer = spawn("echo", &[&name, &traits.name(), "300000"]);
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                if in_two {
                    let (reader, writer) = a.into_split();
                    tasks(reader, writer).await;
                } else {
                    let (reader, writer) = tokio::io::split(a);
                    tasks(reader, writer).await;
                }
            });
            peer.join();
        }
    }
}

const LINES: usize = 2000;

fn line(number: usize) -> String {
    format!("line {number} {}", "x".repeat(number % 90))
}

/// Writes lines through a buffer.
fn lines(args: &[String]) {
    let stream = Transport::open(&args[0], LONG).unwrap().into_io();
    Traits::Tokio.run(async {
        use tokio::io::AsyncWriteExt;
        let mut writer = tokio::io::BufWriter::with_capacity(100, stream);
        for number in 0..LINES {
            writer.write_all(format!("{}\n", line(number)).as_bytes()).await.unwrap();
        }
        writer.shutdown().await.unwrap();
        hold();
    });
}

#[test]
fn lines_come_as_lines() {
    for traits in TRAITS {
        let name = named("lines");
        let a = create(&name, 33, 4).into_io();
        let peer = spawn("lines", &[&name]);
        traits.run(async {
            match traits {
                Traits::Futures => {
                    use futures_lite::{AsyncBufReadExt, StreamExt};
                    let mut lines = futures_lite::io::BufReader::new(a).lines();
                    for number in 0..LINES {
                        assert_eq!(lines.next().await.unwrap().unwrap(), line(number));
                    }
                    assert!(lines.next().await.is_none());
                }
                Traits::Tokio => {
                    use tokio::io::AsyncBufReadExt;
                    let mut lines = tokio::io::BufReader::new(a).lines();
                    for number in 0..LINES {
                        assert_eq!(lines.next_line().await.unwrap().unwrap(), line(number));
                    }
                    assert_eq!(lines.next_line().await.unwrap(), None);
                }
            }
        });
        peer.join();
    }
}
