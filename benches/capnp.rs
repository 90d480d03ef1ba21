//! What a Cap'n Proto message costs through the channel, beyond building and reading it.
//!
//! ```sh
//! cargo bench --bench capnp
//! ```
//!
//! A request-reply builds and reads a message twice: the request, and a reply of the same size. So the channel
//! is compared with twice build and read in one process plus one bare round trip of the ring. Both processes
//! are pinned and spin. Rounds of all kinds are interleaved, and medians of them are printed, of ratios too.

use std::error::Error;
use std::hint::black_box;
#[cfg(unix)]
use std::io::BufReader;
use std::io::Write;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use capnp::message::{self, ReaderOptions, ScratchSpaceHeapAllocator, SegmentArray};
use capnproto_shm_transport::{CapnpChannel, Config, PollMode, Transport};
use comfy_table::Table;
use schemas::quotes_capnp::quotes;

type Channel = CapnpChannel<quotes::Owned>;
type Outcome<T> = Result<T, Box<dyn Error>>;

/// A size of message: so many books of so many levels on each side.
struct Shape {
    name: &'static str,
    books: u32,
    bids: u32,
    asks: u32,
    /// Messages a round.
    count: u32,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "small", books: 1, bids: 1, asks: 0, count: 20_000 },
    Shape { name: "medium", books: 4, bids: 14, asks: 14, count: 4_000 },
    Shape { name: "large", books: 200, bids: 14, asks: 14, count: 100 },
];
/// Round trips of the bare ring, a round.
const TRIPS: u32 = 50_000;
/// Words, as the largest message and its table take.
const SCRATCH: usize = 16 << 10;
const WAIT: Duration = Duration::from_secs(10);

fn build(mut message: quotes::Builder<'_>, shape: &Shape, seed: u64) {
    message.set_venue("XLON");
    message.set_time(seed);
    let mut books = message.init_books(shape.books);
    for at in 0..shape.books {
        let mut book = books.reborrow().get(at);
        book.set_symbol("SYMBOL");
        let mut bids = book.reborrow().init_bids(shape.bids);
        for level in 0..shape.bids {
            let mut bid = bids.reborrow().get(level);
            bid.set_price(seed as f64 - f64::from(level));
            bid.set_size(level);
        }
        let mut asks = book.init_asks(shape.asks);
        for level in 0..shape.asks {
            let mut ask = asks.reborrow().get(level);
            ask.set_price(seed as f64 + f64::from(level));
            ask.set_size(level);
        }
    }
}

fn read(message: quotes::Reader<'_>) -> capnp::Result<f64> {
    let mut sum = message.get_time() as f64 + message.get_venue()?.len() as f64;
    for book in message.get_books()? {
        sum += book.get_symbol()?.len() as f64;
        for level in book.get_bids()?.iter().chain(book.get_asks()?) {
            sum += level.get_price() * f64::from(level.get_size());
        }
    }
    Ok(black_box(sum))
}

/// Builds and reads in one process. Read as any message that came in, or through the builder, unchecked.
fn in_process(shape: &Shape, checked: bool) -> Outcome<Duration> {
    let mut scratch = capnp::Word::allocate_zeroed_vec(SCRATCH);
    let scratch = capnp::Word::words_to_bytes_mut(&mut scratch);
    let mut allocator = ScratchSpaceHeapAllocator::new(scratch);
    let start = Instant::now();
    for seed in 0..shape.count {
        let mut message = message::Builder::new(&mut allocator);
        build(message.init_root(), shape, seed.into());
        if checked {
            let segments = message.get_segments_for_output();
            let segments = SegmentArray::new(&segments);
            read(message::Reader::new(segments, ReaderOptions::new()).get_root()?)?;
        } else {
            read(message.get_root_as_reader()?)?;
        }
    }
    Ok(start.elapsed() / shape.count)
}

fn frame_bytes(shape: &Shape) -> usize {
    let mut message = message::Builder::new_default();
    build(message.init_root(), shape, 0);
    capnp::serialize::compute_serialized_size_in_words(&message) * 8
}

/// A side's connections of every kind.
struct Connections {
    ring: Transport,
    channels: Vec<Channel>,
    #[cfg(unix)]
    socket: socket::Socket,
}

impl Connections {
    fn ask_ring(&mut self) -> Outcome<Duration> {
        let start = Instant::now();
        for trip in 0..u64::from(TRIPS) {
            self.ring.send(&trip.to_ne_bytes())?;
            black_box(self.ring.recv()?.first());
        }
        Ok(start.elapsed() / TRIPS)
    }

    fn answer_ring(&mut self) -> Outcome<()> {
        let (sender, receiver) = self.ring.halves();
        for _ in 0..TRIPS {
            let message = receiver.recv()?;
            sender.send(&message)?;
        }
        Ok(())
    }

    fn ask_channel(&mut self, at: usize) -> Outcome<Duration> {
        let shape = &SHAPES[at];
        let start = Instant::now();
        for seed in 0..shape.count {
            let mut request = self.channels[at].reserve()?;
            build(request.init_root(), shape, seed.into());
            request.commit()?;
            read(self.channels[at].recv()?.get()?)?;
        }
        Ok(start.elapsed() / shape.count)
    }

    fn answer_channel(&mut self, at: usize) -> Outcome<()> {
        let shape = &SHAPES[at];
        for seed in 0..shape.count {
            read(self.channels[at].recv()?.get()?)?;
            let mut reply = self.channels[at].reserve()?;
            build(reply.init_root(), shape, seed.into());
            reply.commit()?;
        }
        Ok(())
    }
}

#[cfg(unix)]
mod socket {
    use super::*;
    use std::io::BufWriter;
    use std::os::unix::net::{UnixListener, UnixStream};

    pub struct Socket {
        reader: BufReader<UnixStream>,
        writer: BufWriter<UnixStream>,
    }

    impl Socket {
        fn new(stream: UnixStream) -> Outcome<Self> {
            Ok(Self { reader: BufReader::new(stream.try_clone()?), writer: BufWriter::new(stream) })
        }

        fn path(name: &str) -> std::path::PathBuf {
            std::env::temp_dir().join(name)
        }

        pub fn listen(name: &str) -> Outcome<UnixListener> {
            Ok(UnixListener::bind(Self::path(name))?)
        }

        pub fn accept(listener: &UnixListener, name: &str) -> Outcome<Self> {
            let (stream, _) = listener.accept()?;
            std::fs::remove_file(Self::path(name))?;
            Self::new(stream)
        }

        pub fn connect(name: &str) -> Outcome<Self> {
            Self::new(UnixStream::connect(Self::path(name))?)
        }

        fn send(
            &mut self,
            shape: &Shape,
            allocator: &mut ScratchSpaceHeapAllocator<'_>,
            seed: u32,
        ) -> Outcome<()> {
            let mut message = message::Builder::new(allocator);
            build(message.init_root(), shape, seed.into());
            capnp::serialize::write_message(&mut self.writer, &message)?;
            Ok(self.writer.flush()?)
        }

        fn receive(&mut self) -> Outcome<()> {
            let message = capnp::serialize::read_message(&mut self.reader, ReaderOptions::new())?;
            read(message.get_root()?)?;
            Ok(())
        }

        /// One side of `shape.count` calls; gives the time of each.
        pub fn converse(&mut self, shape: &Shape, asks: bool) -> Outcome<Duration> {
            let mut scratch = capnp::Word::allocate_zeroed_vec(SCRATCH);
            let scratch = capnp::Word::words_to_bytes_mut(&mut scratch);
            let mut allocator = ScratchSpaceHeapAllocator::new(scratch);
            let start = Instant::now();
            for seed in 0..shape.count {
                if asks {
                    self.send(shape, &mut allocator, seed)?;
                }
                self.receive()?;
                if !asks {
                    self.send(shape, &mut allocator, seed)?;
                }
            }
            Ok(start.elapsed() / shape.count)
        }
    }
}

/// Side B: does its half of what the lines on its standard input say.
fn peer(name: &str) -> Outcome<()> {
    pin(1);
    let config = Config::new().poll(PollMode::Spin);
    let open = |at| Channel::open_with(&format!("{name}-{at}"), WAIT, &config);
    let mut connections = Connections {
        ring: Transport::open_with(name, WAIT, &config)?,
        channels: (0..SHAPES.len()).map(open).collect::<Result<_, _>>()?,
        #[cfg(unix)]
        socket: socket::Socket::connect(name)?,
    };
    for line in std::io::stdin().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("channel", at)) => connections.answer_channel(at.parse()?)?,
            #[cfg(unix)]
            Some(("socket", at)) => {
                connections.socket.converse(&SHAPES[at.parse::<usize>()?], false)?;
            }
            _ => connections.answer_ring()?,
        }
    }
    Ok(())
}

/// The other process; it ends with its standard input.
struct Peer {
    child: Child,
    input: ChildStdin,
}

impl Peer {
    fn spawn(name: &str) -> Outcome<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.args(["peer", name]).stdin(Stdio::piped()).spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        Ok(Self { child, input })
    }

    fn begin(&mut self, what: &str, at: usize) -> Outcome<()> {
        writeln!(self.input, "{what} {at}")?;
        Ok(self.input.flush()?)
    }
}

#[cfg(target_os = "linux")]
fn pin(core: usize) {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &cores) {
        eprintln!("not pinned to core {core}: {error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn pin(_core: usize) {}

/// Times of one kind in nanoseconds, a round each.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn push(&mut self, time: Duration) {
        self.0.push(time.as_nanos() as f64);
    }

    /// Round by round: by the next, the machine may have changed its pace.
    fn zip(&self, other: &Self, with: impl Fn(f64, f64) -> f64) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(&a, &b)| with(a, b)).collect())
    }

    fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

#[derive(Default)]
struct Figures {
    checked: Times,
    unchecked: Times,
    channel: Times,
    socket: Times,
}

fn measure(rounds: usize) -> Outcome<()> {
    let name = format!("bench-capnp-{}", std::process::id());
    let config = Config::new().slot_size(64).poll(PollMode::Spin).prefault(true);
    let create = |at: usize| {
        // One message is under way at a time; a few slots keep the ring in the caches.
        let config = config.clone().slot_size(frame_bytes(&SHAPES[at])).slot_count(16);
        Channel::create(&format!("{name}-{at}"), &config)
    };
    let ring = Transport::create(&name, &config)?;
    let channels = (0..SHAPES.len()).map(create).collect::<Result<_, _>>()?;
    #[cfg(unix)]
    let listener = socket::Socket::listen(&name)?;
    let mut peer = Peer::spawn(&name)?;
    let mut connections = Connections {
        ring,
        channels,
        #[cfg(unix)]
        socket: socket::Socket::accept(&listener, &name)?,
    };
    pin(0);

    let mut ring = Times::default();
    let mut figures: [Figures; SHAPES.len()] = Default::default();
    for _ in 0..rounds {
        peer.begin("ring", 0)?;
        ring.push(connections.ask_ring()?);
        for (at, (shape, figures)) in SHAPES.iter().zip(&mut figures).enumerate() {
            figures.checked.push(in_process(shape, true)?);
            figures.unchecked.push(in_process(shape, false)?);
            peer.begin("channel", at)?;
            figures.channel.push(connections.ask_channel(at)?);
            #[cfg(unix)]
            {
                peer.begin("socket", at)?;
                figures.socket.push(connections.socket.converse(shape, true)?);
            }
        }
    }
    drop(peer.input);
    drop(connections);
    peer.child.wait()?;

    let trip = ring.median();
    println!("Round trip of the bare ring, 8 bytes: {trip:.0} ns. In ns a call, medians of {rounds} rounds:");
    let mut table = Table::new();
    table.set_header([
        "message",
        "frame bytes",
        "2 x build + read, in process",
        "the same, read unchecked",
        "request-reply, channel",
        "request-reply, Unix socket",
        "channel / (in process + ring)",
        "channel / (unchecked + ring)",
    ]);
    for (shape, figures) in SHAPES.iter().zip(&figures) {
        let Figures { checked, unchecked, channel, socket } = figures;
        let against = |work: &Times| {
            let bound = work.zip(&ring, |work, trip| 2.0 * work + trip);
            channel.zip(&bound, |channel, bound| channel / bound).median()
        };
        table.add_row([
            shape.name.to_owned(),
            frame_bytes(shape).to_string(),
            format!("{:.0}", 2.0 * checked.median()),
            format!("{:.0}", 2.0 * unchecked.median()),
            format!("{:.0}", channel.median()),
            format!("{:.0}", socket.median()),
            format!("{:.3}", against(checked)),
            format!("{:.3}", against(unchecked)),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [role, name] if role == "peer" => peer(name),
        // `cargo bench` says so; anything else only sees that it works.
        _ => measure(if arguments.iter().any(|argument| argument == "--bench") { 21 } else { 1 }),
    }
}
