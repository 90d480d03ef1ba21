//! Servers and clients say and hand over anything that they like. An honest peer gets an error, or is not
//! concerned at all.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod handshake;

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{
    AcceptError, Config, Limits, Missing, OpenError, RecvError, SegmentError, SendError, Server, Transport,
};
use common::*;
use handshake::{ANY, BYTES, JOINED, Raw, hello, packet, welcome};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, ftruncate, memfd_create};
use rustix::net::sockopt::set_socket_linger;
use rustix::pipe::{PipeFlags, pipe_with};

#[test]
fn child() {
    play(&[
        ("flood", flood),
        ("echo", echo),
        ("without_descriptors", without_descriptors),
        ("full_server", full_server),
    ]);
}

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

/// The error of an honest client at a server that answers its hello with this packet and these descriptors.
fn found(answer: &[u8], descriptors: &[&OwnedFd]) -> OpenError {
    found_with(|client| {
        client.send(answer, &descriptors.iter().map(|descriptor| descriptor.as_fd()).collect::<Vec<_>>());
    })
}

fn found_with(answer: impl FnOnce(&Raw)) -> OpenError {
    let name = named("lying-server");
    let server = Raw::listen(&name);
    let client = thread::spawn({
        let name = name.to_string();
        move || Transport::connect(&name, LONG).unwrap_err()
    });
    let joining = server.accept();
    let (packet, descriptors) = joining.receive().unwrap();
    assert_eq!((packet.as_slice(), descriptors.len()), (&hello()[..], 0));
    answer(&joining);
    let error = client.join().unwrap();
    drop(server);
    std::fs::remove_file(handshake::path(&name)).unwrap();
    error
}

/// The descriptors that an honest server would hand over: its segments from A to B and from B to A, then four pipes.
fn handed() -> (Transport, Vec<OwnedFd>) {
    let (a, segments) = Transport::pair(&config()).unwrap();
    (a, segments.into_iter().chain((0..4).map(|_| pipe())).collect())
}

fn pipe() -> OwnedFd {
    pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap().0
}

/// A memory file of this content, sealed or not.
fn memory(bytes: &[u8], length: u64, seals: SealFlags) -> OwnedFd {
    let file = memfd_create("lie", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, length).unwrap();
    rustix::io::pwrite(&file, bytes, 0).unwrap();
    fcntl_add_seals(&file, seals).unwrap();
    file
}

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

fn content(segment: &OwnedFd) -> Vec<u8> {
    let mut bytes = vec![0; rustix::fs::fstat(segment).unwrap().st_size as usize];
    let read = rustix::io::pread(segment, &mut bytes, 0).unwrap();
    assert_eq!(read, bytes.len());
    bytes
}

#[track_caller]
fn refused(error: &OpenError, expected: impl Fn(&SegmentError) -> bool) {
    assert!(matches!(error, OpenError::Segment { source, .. } if expected(source)), "{error}");
}

#[test]
fn an_answer_that_is_none_is_refused() {
    for answer in [&b"x"[..], &[0; BYTES], &[0xff; 4000], &welcome()[..BYTES - 1], JOINED] {
        let error = found(answer, &[]);
        assert!(matches!(error, OpenError::Handshake { .. }), "{error}");
    }
    let mut other_version = welcome();
    other_version[8] = 7;
    let error = found(&other_version, &[]);
    assert!(matches!(error, OpenError::Handshake { found: 7, supported: 1, .. }), "{error}");
    for verdict in [5, 6, u32::MAX] {
        let error = found(&packet(0, verdict), &[]);
        assert!(matches!(error, OpenError::Handshake { .. }), "{error}");
    }
    let error = found(&packet(0, 3), &[]);
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
    let error = found(&packet(65, 1), &[]);
    assert!(matches!(error, OpenError::Handshake { .. }), "a tag that is too long: {error}");
    assert!(matches!(found(&packet(0, 1), &[]), OpenError::Tag { .. }));
    assert!(matches!(found(&packet(ANY, 2), &[]), OpenError::Type { .. }));
}

#[test]
fn descriptors_that_are_none_too_few_or_too_many_are_refused() {
    let (_a, good) = handed();
    let all: Vec<_> = good.iter().collect();
    for number in [0, 1, 5] {
        refused(&found(&welcome(), &all[..number]), |source| matches!(source, SegmentError::Foreign));
    }
    for more in [1, 2, 3, 200] {
        let many: Vec<_> = all.iter().copied().chain(std::iter::repeat_n(all[0], more)).collect();
        refused(&found(&welcome(), &many), |source| matches!(source, SegmentError::Foreign));
    }
}

#[test]
fn segments_that_are_not_sealed_or_of_another_size_are_refused() {
    let (_a, good) = handed();
    let whole = content(&good[0]);
    let length = whole.len() as u64;
    let unsealed = memory(&whole, length, SealFlags::empty());
    let shrinkable = memory(&whole, length, SealFlags::GROW | SealFlags::SEAL);
    let short = memory(&whole[..4096], 4096, SEALS);
    let long = memory(&whole, length + 4096, SEALS);
    let empty = memory(&[], 0, SEALS);
    let nonsense = memory(&[0x5a; 8192], 8192, SEALS);
    let file: OwnedFd = File::open("/dev/null").unwrap().into();
    for (what, bad) in [
        ("unsealed", &unsealed),
        ("shrinkable", &shrinkable),
        ("short", &short),
        ("long", &long),
        ("empty", &empty),
        ("nonsense", &nonsense),
        ("a device", &file),
        ("a pipe", &good[2]),
        ("the other direction", &good[1]),
    ] {
        let mut handed: Vec<_> = good.iter().collect();
        handed[0] = bad;
        let error = found(&welcome(), &handed);
        assert!(matches!(error, OpenError::Segment { .. }), "{what}: {error}");
    }
    let swapped = [&good[1], &good[0], &good[2], &good[3], &good[4], &good[5]];
    assert!(matches!(found(&welcome(), &swapped), OpenError::Segment { .. }));
    let (_other, others) = handed();
    let mixed = [&good[0], &others[1], &good[2], &good[3], &good[4], &good[5]];
    refused(&found(&welcome(), &mixed), |source| matches!(source, SegmentError::Geometry));
}

#[test]
fn events_that_are_none_are_refused() {
    let (_a, good) = handed();
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let socket = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .unwrap()
    .0;
    let file: OwnedFd = File::open("/dev/zero").unwrap().into();
    for bad in [&eventfd, &socket, &file, &good[0]] {
        for place in 2..6 {
            let mut handed: Vec<_> = good.iter().collect();
            handed[place] = bad;
            refused(&found(&welcome(), &handed), |source| matches!(source, SegmentError::Foreign));
        }
    }
}

/// A pipe has flags for each that opened it, so that nobody has another wait by changing his own.
#[test]
fn pipes_that_are_full_empty_or_blocking_hold_nobody_up() {
    let name = named("blocking");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let client = Raw::connect(&name);
    client.send(&hello(), &[]);
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    let (_, handed) = client.receive().unwrap();
    let mut handed: Vec<_> = handed.into_iter().collect();
    let mut events = handed.split_off(2);
    for event in &events {
        // For the client's side it is opened anew, as honest ones do.
        let entry = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(event));
        let mut filled = File::options().read(true).write(true).open(entry).unwrap();
        fcntl_setfl(&filled, OFlags::NONBLOCK).unwrap();
        while std::io::Write::write(&mut filled, &[1; 4096]).is_ok() {}
        fcntl_setfl(event, OFlags::empty()).unwrap();
    }
    let segments: [OwnedFd; 2] = handed.try_into().unwrap();
    let mut joined = Transport::from_fds(segments, &Config::new()).unwrap();
    client.send(JOINED, &[]);
    let mut channel = server.accept().unwrap();

    let mut set = capnproto_shm_transport::WaitSet::new().unwrap();
    set.insert(1, channel.halves().1).unwrap();
    // Events that say that there is something are no message.
    assert!(set.wait(Some(Duration::from_millis(20))).unwrap().is_empty());
    joined.send(b"from the client").unwrap();
    assert_eq!(set.wait(Some(LONG)).unwrap(), [1]);
    assert_eq!(&*channel.recv().unwrap(), b"from the client");
    // The client's events are full, and the client never reads.
    events.truncate(2);
    while channel.try_send(b"to the client").is_ok() {}
    assert!(matches!(channel.send_timeout(b"more", Duration::from_millis(20)), Err(SendError::Timeout)));
}

#[test]
fn a_server_that_never_answers_is_waited_for_as_long_as_was_asked() {
    let name = named("silent-server");
    let _server = Raw::listen(&name);
    let error = Transport::connect(&name, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { missing: Missing::Place, .. }), "{error}");
    std::fs::remove_file(handshake::path(&name)).unwrap();
}

#[test]
fn a_server_that_hangs_up_is_asked_again() {
    let name = named("rude-server");
    let server = Raw::listen(&name);
    let (_a, good) = handed();
    let client = thread::spawn({
        let name = name.to_string();
        move || Transport::connect(&name, LONG).unwrap()
    });
    // At once, after the hello, when it is full, and at last it answers.
    drop(server.accept());
    server.accept().receive().unwrap();
    let full = server.accept();
    full.receive().unwrap();
    full.send(&packet(0, 4), &[]);
    let last = server.accept();
    last.receive().unwrap();
    last.send(&welcome(), &good.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    let client = client.join().unwrap();
    assert_eq!(last.receive().unwrap().0, JOINED);
    assert_eq!(client.peer().unwrap().pid, std::process::id());
    std::fs::remove_file(handshake::path(&name)).unwrap();
}

/// Has this process open so many descriptors more than now, at most. The gaps between them are filled.
fn descriptors_left(left: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u64>().ok());
    let full = Rlimit { current: Some(numbers.max().unwrap()), maximum };
    setrlimit(Resource::Nofile, full).unwrap();
    while let Ok(filler) = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 0) {
        std::mem::forget(filler);
    }
    setrlimit(Resource::Nofile, Rlimit { current: full.current.map(|full| full + left), maximum }).unwrap();
}

fn without_descriptors(args: &[String]) {
    descriptors_left(3);
    let error = Transport::connect(&args[0], LONG).unwrap_err();
    assert!(matches!(&error, OpenError::Io { source, .. } if source.raw_os_error() == Some(24)), "{error}");
    descriptors_left(30);
    let mut channel = Transport::connect(&args[0], LONG).unwrap();
    channel.send(b"in the end").unwrap();
    assert!(matches!(channel.recv(), Err(RecvError::Closed)));
}

#[test]
fn a_client_without_descriptors_is_told_so_and_not_that_the_server_lies() {
    let name = named("no-room");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let peer = spawn("without_descriptors", &[&name]);
    let mut channel = server.accept().unwrap();
    assert_eq!(&*channel.recv().unwrap(), b"in the end");
    drop(channel);
    peer.join();
}

/// Accepts without descriptors, then with some.
fn full_server(args: &[String]) {
    // So that no channel is made ahead.
    let config = config().prefault(true);
    let mut server = Server::<Transport>::bind(&args[0], &config).unwrap();
    say("bound");
    hold();
    descriptors_left(0);
    let (began, mut errors) = (std::time::Instant::now(), 0);
    while began.elapsed() < Duration::from_millis(300) {
        match server.accept_timeout(Duration::from_millis(100)) {
            Err(AcceptError::Io { action: "accept", source }) => {
                assert_eq!(source.raw_os_error(), Some(24));
                errors += 1;
            }
            Err(AcceptError::Timeout) => {}
            other => panic!("{other:?}"),
        }
    }
    // One at once, then one after each rest of 50 ms.
    let most = began.elapsed().as_millis() / 50 + 1;
    assert!((1..=most).contains(&errors), "{errors} errors, at most {most}");
    // For the socket, and not for the channel.
    descriptors_left(2);
    let refused = loop {
        match server.accept() {
            Err(AcceptError::Io { action: "accept", .. }) => {}
            other => break other.map(|_| ()).unwrap_err(),
        }
    };
    assert!(matches!(refused, AcceptError::Create(_)), "{refused}");
    descriptors_left(30);
    let mut channel = loop {
        match server.accept() {
            Ok(channel) => break channel,
            Err(AcceptError::Io { .. } | AcceptError::Create(_)) => {}
            Err(other) => panic!("{other}"),
        }
    };
    channel.send(b"in the end").unwrap();
    hold();
}

#[test]
fn a_server_without_descriptors_rests_and_loses_no_client() {
    let name = named("full");
    let mut server = spawn("full_server", &[&name]);
    server.wait_for("bound");
    let client = thread::spawn({
        let name = name.to_string();
        move || Transport::connect(&name, LONG).unwrap()
    });
    server.go();
    let mut channel = client.join().unwrap();
    assert_eq!(&*channel.recv().unwrap(), b"in the end");
    server.go();
    server.join();
}

/// An honest client, which comes through whatever others do.
fn honest(server: &mut Server<Transport>, name: &Name) {
    let peer = spawn("echo", &[name]);
    let mut channel = server.accept().unwrap();
    channel.send(b"honest").unwrap();
    assert_eq!(&*channel.recv().unwrap(), b"honest");
    drop(channel);
    peer.join();
}

fn echo(args: &[String]) {
    let mut channel = Transport::connect(&args[0], LONG).unwrap();
    let message = channel.recv().unwrap().to_vec();
    channel.send(&message).unwrap();
    assert!(matches!(channel.recv(), Err(RecvError::Closed)));
}

#[test]
fn a_client_that_lies_is_dropped_and_concerns_nobody() {
    let name = named("liars");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let beside = vec![eventfd.as_fd(); 200];

    // Descriptors beside the hello: few, and more than anybody takes.
    for number in [1, 6, 8, 200] {
        let client = Raw::connect(&name);
        let sent = client.send(&hello(), &beside[..number]);
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
        assert_ne!(sent, descriptors_can_be_refused(), "{number} descriptors");
        assert!(!sent || client.receive().is_none(), "{number} descriptors");
    }
    // Hello twice: the second is no word that it has joined.
    let twice = Raw::connect(&name);
    twice.send(&hello(), &[]);
    twice.send(&hello(), &[]);
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    assert!(twice.receive().is_some_and(|(_, handed)| handed.len() == 6));
    assert!(twice.receive().is_none());
    // It says that it has joined, and has not; or has said no hello.
    let early = Raw::connect(&name);
    early.send(JOINED, &[]);
    let liar = Raw::connect(&name);
    liar.send(&hello(), &[]);
    liar.send(JOINED, &[]);
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    assert_eq!(early.receive().unwrap().0, packet(0, 5), "not this version");
    assert!(early.receive().is_none());
    assert!(liar.receive().is_some_and(|(_, handed)| handed.len() == 6));
    assert!(liar.receive().is_none());
    // An empty packet, one that is longer than any, and half of one.
    for words in [&[][..], &[0; 100_000], &hello()[..60]] {
        let client = Raw::connect(&name);
        client.send(words, &beside[..1]);
        client.send(words, &[]);
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    }
    assert_eq!(server.clients(), 0);
    honest(&mut server, &name);
}

/// A descriptor whose closing takes an hour unless somebody reads what it has sent, and who could.
fn slow_to_close() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lingers = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let reader = listener.accept().unwrap().0;
    set_socket_linger(&lingers, Some(Duration::from_secs(3600))).unwrap();
    lingers.set_nonblocking(true).unwrap();
    while lingers.write(&[0; 4096]).is_ok() {}
    (lingers.into(), reader)
}

/// Whether the system lets a socket refuse descriptors: Linux does from 6.16 on.
#[allow(unsafe_code)]
fn descriptors_can_be_refused() -> bool {
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let (mut value, mut bytes) = (0, size_of::<i32>() as libc::socklen_t);
    let to = (&raw mut value).cast();
    const SO_PASSRIGHTS: i32 = 83;
    // SAFETY: the descriptor is open, and there is room for the number.
    unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, to, &raw mut bytes) == 0 }
}

/// The last holder of a descriptor waits while it closes: that must not be the server.
#[test]
fn a_descriptor_that_is_slow_to_close_holds_nobody_up() {
    if !descriptors_can_be_refused() {
        return;
    }
    let name = named("slow-to-close");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let (slow, reader) = slow_to_close();
    let liar = Raw::connect(&name);
    match liar.send(&hello(), &[slow.as_fd(); 20]) {
        true => drop(slow),
        false => drop(thread::spawn(move || drop(slow))),
    }
    let (said, heard) = std::sync::mpsc::channel();
    let serving = thread::spawn(move || {
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
        drop(liar);
        assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
        said.send(()).unwrap();
        server
    });
    let served = heard.recv_timeout(LONG);
    drop(reader);
    honest(&mut serving.join().unwrap(), &name);
    served.expect("the server closed what a client had handed to it, and waited");
}

/// Never reads its answer, and goes on to send.
#[test]
fn a_client_that_never_reads_is_dropped() {
    let name = named("deaf");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    limits.handshake_time = Duration::from_millis(30);
    server.limits(limits);
    let deaf = Raw::connect(&name);
    deaf.send(&hello(), &[]);
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    assert_eq!(server.clients(), 1);
    honest(&mut server, &name);
    assert!(matches!(server.accept_timeout(Duration::from_millis(60)), Err(AcceptError::Timeout)));
    assert_eq!(server.clients(), 0, "what it took is given back");
    drop(deaf);
}

/// Connects as often as it can, says hello or nothing, and keeps all that it is left.
fn flood(args: &[String]) {
    let mut kept = Vec::new();
    say("flooding");
    for turn in 0.. {
        let client = Raw::connect(&args[0]);
        if turn % 3 == 0 {
            client.send(&hello(), &[]);
        }
        kept.push(client);
        if kept.len() > 300 {
            kept.drain(..100);
        }
    }
}

/// With time for a handshake without end, one process's flood displaces itself alone.
#[test]
fn a_flood_holds_nobody_up() {
    let name = named("flood");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let mut limits = Limits::default();
    limits.handshakes = 8;
    limits.handshake_time = Duration::MAX;
    server.limits(limits);
    let mut flood = spawn("flood", &[&name]);
    flood.wait_for("flooding");
    for _ in 0..5 {
        honest(&mut server, &name);
    }
    // Calls that are not to wait, or not for long, end though there is always something to do.
    assert!(matches!(server.try_accept(), Err(AcceptError::Empty)));
    assert!(matches!(server.accept_timeout(Duration::from_millis(10)), Err(AcceptError::Timeout)));
    assert!(server.clients() <= 8);
    flood.kill();
}

/// Floods its channel and the events' descriptors once it has joined.
#[test]
fn a_client_that_floods_its_channel_touches_nobody_else() {
    let name = named("chatter");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let name = &name;
        let stop = &stop;
        scope.spawn(move || {
            let mut chatter = Transport::connect(name, LONG).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let _ = chatter.try_send(b"chatter");
            }
        });
        let mut chatter = server.accept().unwrap();
        let peer = spawn("echo", &[name]);
        let mut channel = server.accept().unwrap();
        let mut set = capnproto_shm_transport::WaitSet::new().unwrap();
        set.insert(0, chatter.halves().1).unwrap();
        set.insert(1, channel.halves().1).unwrap();
        channel.send(b"through").unwrap();
        while !set.wait(Some(LONG)).unwrap().contains(&1) {
            drop(chatter.recv_timeout(LONG).unwrap());
        }
        assert_eq!(&*channel.recv().unwrap(), b"through");
        stop.store(true, Ordering::Relaxed);
        drop((channel, chatter));
        peer.join();
    });
}
