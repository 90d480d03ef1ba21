//! What a client says to a server, and a server to a client: any packets, in any order, with any descriptors beside them.
//! Whoever is honest refuses or goes on; it neither fails nor waits for ever, and keeps nothing of the other.
#![no_main]

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::LazyLock;
use std::time::Duration;

use arbitrary::Arbitrary;
use capnproto_shm_transport::{AcceptError, Config, OpenError, Server, Transport};
use capnproto_shm_transport_fuzz::{Edit, name};
use handshake::{BYTES, JOINED, Raw, hello, welcome};
use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

#[path = "../../tests/handshake/mod.rs"]
mod handshake;

mod common {
    pub fn directory() -> std::path::PathBuf {
        "/dev/shm".into()
    }
}

static SERVER: LazyLock<String> = LazyLock::new(|| name("handshake"));
static LIAR: LazyLock<String> = LazyLock::new(|| name("handshake-liar"));

/// Something handed over.
#[derive(Arbitrary, Clone, Debug)]
enum Thing {
    /// The segments of a channel that this process has.
    AToB,
    BToA,
    /// The same, changed, sealed or not.
    Changed {
        b_to_a: bool,
        seals: u8,
        length: i8,
        edits: Vec<Edit>,
    },
    Pipe,
    Device,
}

#[derive(Arbitrary, Clone, Debug)]
struct Packet {
    joined: bool,
    edits: Vec<Edit>,
    /// Bytes that it is shorter, or longer.
    length: i8,
    things: Vec<Thing>,
}

#[derive(Arbitrary, Debug)]
enum Input {
    /// What a client says.
    Client(Vec<Packet>),
    /// What a server answers; so many pipes beside what else it hands over.
    Server { packet: Packet, pipes: u8 },
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

struct Good {
    _a: Transport,
    segments: [OwnedFd; 2],
}

impl Good {
    fn new() -> Self {
        let (a, segments) = Transport::pair(&config()).unwrap();
        Self { _a: a, segments }
    }

    fn make(&self, thing: &Thing) -> OwnedFd {
        match thing {
            Thing::AToB => self.segments[0].try_clone().unwrap(),
            Thing::BToA => self.segments[1].try_clone().unwrap(),
            Thing::Pipe => pipe(),
            Thing::Device => std::fs::File::open("/dev/null").unwrap().into(),
            Thing::Changed { b_to_a, seals, length, edits } => {
                let segment = &self.segments[usize::from(*b_to_a)];
                let mut bytes = vec![0; rustix::fs::fstat(segment).unwrap().st_size as usize];
                rustix::io::pread(segment, &mut bytes, 0).unwrap();
                edits.iter().for_each(|edit| edit.apply(&mut bytes));
                bytes.resize(bytes.len().saturating_add_signed(isize::from(*length) * 512), 0);
                let file = memfd_create("lie", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
                rustix::io::pwrite(&file, &bytes, 0).unwrap();
                // Some cannot be set together.
                let _ = fcntl_add_seals(&file, SealFlags::from_bits_truncate(u32::from(*seals)));
                file
            }
        }
    }
}

fn pipe() -> OwnedFd {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap().0
}

impl Packet {
    fn send(&self, to: &Raw, honest: [u8; BYTES], good: &Good, pipes: u8) {
        let mut bytes = if self.joined { JOINED.to_vec() } else { honest.to_vec() };
        self.edits.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes.resize(bytes.len().saturating_add_signed(self.length.into()), 0);
        let mut beside: Vec<_> = self.things.iter().take(9).map(|thing| good.make(thing)).collect();
        beside.extend((0..pipes % 8).map(|_| pipe()));
        to.send(&bytes, &beside.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    }
}

thread_local! {
    static HONEST: RefCell<Server<Transport>> = RefCell::new(Server::bind(&SERVER, &config()).unwrap());
    static LISTENS: Raw = Raw::listen(&LIAR);
}

/// An honest server, and what this client says.
fn serve(packets: &[Packet]) {
    HONEST.with_borrow_mut(|server| {
        let (good, client) = (Good::new(), Raw::connect(&SERVER));
        for packet in packets.iter().take(4) {
            packet.send(&client, hello(), &good, 0);
            match server.try_accept() {
                // It is written by the server itself that nobody has joined.
                Ok(channel) => assert!(channel.peer_attached()),
                Err(AcceptError::Empty) => {}
                Err(error) => panic!("{error}"),
            }
        }
        drop(client);
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
        assert_eq!(server.clients(), 0);
    });
}

/// An honest client, and what this server answers.
fn connect(packet: &Packet, pipes: u8) {
    LISTENS.with(|listens| {
        let good = Good::new();
        let client = std::thread::spawn(|| Transport::connect(&LIAR, Duration::ZERO));
        let asked = listens.accept();
        packet.send(&asked, welcome(), &good, pipes);
        match client.join().unwrap() {
            Ok(mut channel) => {
                let _ = channel.try_send(b"hello");
                let _ = channel.try_recv();
            }
            Err(OpenError::Io { source, .. }) => panic!("{source}"),
            Err(_) => {}
        }
    });
}

fuzz_target!(|input: Input| {
    match &input {
        Input::Client(packets) => serve(packets),
        Input::Server { packet, pipes } => connect(packet, *pipes),
    }
});
