//! Event loops: descriptors, `arm`, sets of channels, and what a hostile neighbour does to them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod memory;

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Channel, Config, RecvError, SendError, Transport, WaitSet};
use common::*;
use memory::*;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

#[test]
fn child() {
    play(&[
        ("sender", sender),
        ("answer", answer),
        ("leave", leave),
        ("arm", arm_and_stay),
        ("ring", ring),
        ("exhaust", exhaust),
    ]);
}

fn config() -> Config {
    Config::new().slot_size(32).slot_count(4)
}

/// Whether a descriptor is readable, now or within [`LONG`].
fn readable(fd: BorrowedFd<'_>, wait: bool) -> bool {
    let limit = Timespec { tv_sec: if wait { LONG.as_secs() as i64 } else { 0 }, tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap() == 1
}

/// The names of a channel's events.
fn events(name: &Name) -> Vec<PathBuf> {
    let known = [name.a2b(), name.b2a()];
    name.left().into_iter().filter(|path| !known.contains(path)).collect()
}

/// Sends so many numbers, each after a pause.
fn sender(args: &[String]) {
    let mut b = Channel::<u64>::open(&args[0], LONG).unwrap();
    for number in 0..args[1].parse().unwrap() {
        std::thread::sleep(Duration::from_millis(1));
        b.send(&number).unwrap();
    }
    b.finish(LONG).unwrap();
}

#[test]
fn a_descriptor_tells_of_each_message_and_of_the_end() {
    let name = named("each");
    let mut a = Channel::<u64>::create(&name, &Config::new()).unwrap();
    let peer = spawn("sender", &[&name, "50"]);
    let (_to_b, from_b) = a.halves();
    let mut expected = 0;
    let end = loop {
        match from_b.arm() {
            Ok(true) => assert!(readable(from_b.wait_fd().unwrap(), true)),
            Ok(false) => {}
            Err(end) => break end,
        }
        loop {
            match from_b.try_recv() {
                Ok(number) => assert_eq!(*number, expected),
                Err(RecvError::Empty) => break,
                Err(end) => {
                    assert!(matches!(end, RecvError::Closed));
                    break;
                }
            }
            expected += 1;
        }
    };
    assert!(matches!(end, RecvError::Closed), "{end}");
    assert_eq!(expected, 50);
    peer.join();
    drop(a);
    assert!(name.is_free(), "{:?}", name.left());
}

/// Joins, waits for a word, receives one message, and leaves.
fn answer(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    hold();
    drop(b.recv().unwrap());
    say("received");
    hold();
}

#[test]
fn a_descriptor_tells_of_room() {
    let name = named("room");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut peer = spawn("answer", &[&name]);
    a.wait_for_peer(LONG).unwrap();
    let (to_b, _) = a.halves();
    assert!(!to_b.arm().unwrap(), "there is room");
    while to_b.try_send(b"x").is_ok() {}
    assert!(to_b.arm().unwrap());
    assert!(!readable(to_b.wait_fd().unwrap(), false));
    peer.go();
    assert!(readable(to_b.wait_fd().unwrap(), true));
    to_b.try_send(b"y").unwrap();
    peer.kill();
    loop {
        match to_b.arm() {
            Ok(true) => assert!(readable(to_b.wait_fd().unwrap(), true)),
            Ok(false) => panic!("nobody makes room"),
            Err(end) => {
                assert!(matches!(end, SendError::PeerDead), "{end}");
                break;
            }
        }
    }
}

/// A span needs more than one free slot, and the end of the lap skipped where it does not fit there.
#[test]
fn a_descriptor_tells_of_room_for_a_span() {
    let name = named("span");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let (to_b, _) = a.halves();
    let span = |slots: usize| slots * 32;
    assert!(!to_b.arm_span(span(4)).unwrap(), "the ring is empty");
    for _ in 0..4 {
        to_b.try_send(b"x").unwrap();
    }
    for received in 1..=2 {
        assert!(to_b.arm_span(span(2)).unwrap());
        assert!(!readable(to_b.wait_fd().unwrap(), false));
        drop(b.recv().unwrap());
        assert!(readable(to_b.wait_fd().unwrap(), true), "{received} slots are free: it looks again");
    }
    assert!(!to_b.arm_span(span(2)).unwrap());
    let mut slots = to_b.try_reserve_span(span(2)).unwrap();
    slots.fill(7);
    slots.commit(span(2));
    // Two of the lap are left, and three are wanted: the two are skipped before there is room for three.
    for _ in 0..2 {
        drop(b.recv().unwrap());
    }
    assert!(to_b.arm_span(span(3)).unwrap());
    assert_eq!(&*b.recv().unwrap(), [7; 64]);
    while to_b.arm_span(span(3)).unwrap() {
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)), "steps over what was skipped");
        assert!(readable(to_b.wait_fd().unwrap(), true));
    }
    assert_eq!(to_b.try_reserve_span(span(3)).unwrap().len(), span(3));
    // The reservation says what no room helps.
    assert!(!to_b.arm_span(span(5)).unwrap());
    assert!(matches!(to_b.try_reserve_span(span(5)), Err(SendError::TooLarge { .. })));
}

/// Joins, says so, and waits to be killed.
fn leave(args: &[String]) {
    let _b = Transport::open(&args[0], LONG).unwrap();
    say("here");
    hold();
}

#[test]
fn a_descriptor_tells_of_a_death_without_any_message() {
    let name = named("death");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut peer = spawn("leave", &[&name]);
    peer.wait_for("here");
    let (_, from_b) = a.halves();
    assert!(from_b.arm().unwrap());
    peer.kill();
    assert!(readable(from_b.wait_fd().unwrap(), true));
    assert!(matches!(from_b.try_recv(), Err(RecvError::PeerDead)));
}

/// Arms both halves, says so, and waits to be killed.
fn arm_and_stay(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    let (to_a, from_a) = b.halves();
    while to_a.try_send(b"x").is_ok() {}
    assert!(to_a.arm().unwrap() && from_a.arm().unwrap());
    say("armed");
    hold();
}

#[test]
fn names_of_events_go_when_their_side_dies_and_the_other_closes() {
    let name = named("names");
    let mut a = Transport::create(&name, &config()).unwrap();
    assert!(events(&name).is_empty(), "made before anybody asked");
    let mut peer = spawn("arm", &[&name]);
    peer.wait_for("armed");
    assert_eq!(events(&name).len(), 2);
    for event in events(&name) {
        let found = event.symlink_metadata().unwrap();
        assert!(found.file_type().is_fifo() && found.mode() & 0o777 == 0o600, "{event:?}");
    }
    // The first notification opens it, and takes its name away.
    a.send(b"hello").unwrap();
    assert_eq!(events(&name).len(), 1);
    peer.kill();
    drop(a);
    assert!(name.is_free(), "{:?}", name.left());
}

#[test]
fn names_that_a_dead_side_a_left_are_reclaimed() {
    for create in [true, false] {
        let name = named("reclaimed");
        let mut peer = {
            let mut a = spawn("ring", &[&name]);
            a.wait_for("armed");
            a
        };
        assert_eq!(events(&name).len(), 1);
        peer.kill();
        if create {
            drop(Transport::create(&name, &config()).unwrap());
        } else {
            Transport::remove(&name).unwrap();
        }
        assert!(name.is_free(), "{:?}", name.left());
    }
}

/// Side A: arms its receiving half, says so, and waits to be killed.
fn ring(args: &[String]) {
    let mut a = Transport::create(&args[0], &config()).unwrap();
    assert!(a.halves().1.arm().unwrap());
    say("armed");
    hold();
}

/// A thing in place of a side's event does no harm, and the side is woken all the same.
#[test]
fn an_event_that_was_replaced_is_not_trusted() {
    type Replace = fn(&PathBuf);
    let replacements: [(&str, Replace); 5] = [
        ("nothing", |path| std::fs::remove_file(path).unwrap()),
        ("a file", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::write(path, b"").unwrap();
        }),
        ("a link", |path| {
            std::fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink("/dev/full", path).unwrap();
        }),
        ("a directory", |path| {
            std::fs::remove_file(path).unwrap();
            std::fs::create_dir(path).unwrap();
        }),
        ("an open FIFO", |path| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
        }),
    ];
    for (what, replace) in replacements {
        let name = named("replaced");
        let mut a = Transport::create(&name, &config()).unwrap();
        let mut b = Transport::open(&name, LONG).unwrap();
        let (_, from_a) = b.halves();
        assert!(from_a.arm().unwrap());
        let [event] = &events(&name)[..] else { panic!("{:?}", events(&name)) };
        replace(event);
        a.send(b"hello").unwrap();
        assert!(readable(from_a.wait_fd().unwrap(), true), "{what}");
        assert_eq!(&*from_a.try_recv().unwrap(), b"hello");
        // From now on this process's own thread serves.
        assert!(from_a.arm().unwrap(), "{what}");
        a.send(b"again").unwrap();
        assert!(readable(from_a.wait_fd().unwrap(), true), "{what}");
        assert_eq!(&*from_a.try_recv().unwrap(), b"again");
        let _ = std::fs::remove_dir(event).or_else(|_| std::fs::remove_file(event));
    }
}

/// A hostile peer that rings without end costs time, and nothing else.
#[test]
fn bytes_that_nobody_asked_for_do_no_harm() {
    use std::io::Write;
    let name = named("rings");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let (_, from_a) = b.halves();
    assert!(from_a.arm().unwrap());
    let [event] = &events(&name)[..] else { panic!("{:?}", events(&name)) };
    let mut fifo = std::fs::OpenOptions::new().read(true).write(true).open(event).unwrap();
    rustix::fs::fcntl_setfl(&fifo, rustix::fs::OFlags::NONBLOCK).unwrap();
    for round in 0..100u8 {
        while fifo.write(&[round; 512]).is_ok() {}
        assert!(readable(from_a.wait_fd().unwrap(), true));
        assert!(matches!(from_a.try_recv(), Err(RecvError::Empty)));
        assert!(from_a.arm().unwrap());
        assert!(!readable(from_a.wait_fd().unwrap(), false), "arm clears it");
    }
    a.send(b"hello").unwrap();
    assert!(readable(from_a.wait_fd().unwrap(), true));
    assert_eq!(&*from_a.try_recv().unwrap(), b"hello");
}

#[test]
fn an_anonymous_channel_wakes_through_a_thread() {
    #[cfg(target_os = "linux")]
    {
        let (mut a, descriptors) = Transport::pair(&config()).unwrap();
        let mut b = Transport::from_fds(descriptors, &config()).unwrap();
        let (_, from_a) = b.halves();
        for round in 0..50u8 {
            assert!(from_a.arm().unwrap());
            assert!(!readable(from_a.wait_fd().unwrap(), false));
            a.send(&[round]).unwrap();
            assert!(readable(from_a.wait_fd().unwrap(), true));
            assert_eq!(&*from_a.try_recv().unwrap(), [round]);
        }
    }
}

#[test]
fn an_interruption_makes_the_descriptor_readable() {
    let name = named("interrupt");
    let mut a = Transport::create(&name, &config()).unwrap();
    let interrupter = a.interrupter();
    let (_, from_b) = a.halves();
    assert!(from_b.arm().unwrap());
    interrupter.interrupt();
    assert!(readable(from_b.wait_fd().unwrap(), true));
    assert!(matches!(from_b.arm(), Err(RecvError::Interrupted)));
    assert!(from_b.arm().unwrap());
}

#[test]
fn an_interruption_is_told_to_the_half_and_not_to_its_set() {
    let name = named("interrupt");
    let mut a = Transport::create(&name, &config()).unwrap();
    let interrupter = a.interrupter();
    let mut set = WaitSet::new().unwrap();
    set.insert(7, a.halves().1).unwrap();
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    interrupter.interrupt();
    assert!(set.wait(Some(Duration::from_millis(1))).unwrap().is_empty());
    assert!(matches!(a.halves().1.arm(), Err(RecvError::Interrupted)));
}

/// An armed half may go back to calls that block.
#[test]
fn a_blocking_call_after_arm_is_woken() {
    let name = named("back");
    let mut a = Channel::<u64>::create(&name, &Config::new()).unwrap();
    let peer = spawn("sender", &[&name, "100"]);
    for expected in 0..100 {
        let _ = a.halves().1.arm().unwrap();
        assert_eq!(*a.recv().unwrap(), expected);
    }
    assert!(matches!(a.recv(), Err(RecvError::Closed)));
    peer.join();
}

#[test]
fn descriptors_that_run_out_are_an_error() {
    let name = named("exhausted");
    spawn("exhaust", &[&name]).join();
}

/// Uses every descriptor up: the limit is a process's own.
fn exhaust(args: &[String]) {
    let mut a = Transport::create(&args[0], &config()).unwrap();
    let mut taken = Vec::new();
    let end = loop {
        match std::fs::File::open("/dev/null") {
            Ok(file) => taken.push(file),
            Err(end) => break end,
        }
    };
    let (to_b, from_b) = a.halves();
    let code = end.raw_os_error().unwrap();
    assert!(matches!(from_b.arm(), Err(RecvError::NoDescriptor { code: found }) if found == code));
    assert!(matches!(to_b.arm(), Err(SendError::NoDescriptor { code: found }) if found == code));
    assert_eq!(from_b.wait_fd().unwrap_err().raw_os_error(), Some(code));
    assert!(WaitSet::new().is_err());
    drop(taken);
    assert!(from_b.arm().unwrap());
}

#[test]
fn a_set_tells_which_channels_have_something() {
    let names: Vec<_> = (0..20).map(|_| named("set")).collect();
    let config = config();
    let mut senders: Vec<_> = names.iter().map(|name| Transport::create(name, &config).unwrap()).collect();
    let mut receivers: Vec<_> = names.iter().map(|name| Transport::open(name, LONG).unwrap()).collect();
    let mut set = WaitSet::new().unwrap();
    for (key, receiver) in receivers.iter_mut().enumerate() {
        set.insert(key as u64, receiver.halves().1).unwrap();
    }
    assert_eq!(set.len(), 20);
    let taken = set.insert(3, receivers[3].halves().1).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(set.wait(Some(Duration::from_millis(1))).unwrap().is_empty());

    for round in 0..200 {
        let chosen = [round % 20, (round * 7 + 3) % 20];
        for &key in &chosen {
            senders[key].send(&[round as u8]).unwrap();
        }
        let mut missing: Vec<_> = chosen.to_vec();
        while !missing.is_empty() {
            for key in set.wait(None).unwrap() {
                while let Ok(message) = receivers[*key as usize].try_recv() {
                    assert_eq!(&*message, [round as u8]);
                    let at = missing.iter().position(|missing| *missing as u64 == *key).unwrap();
                    missing.remove(at);
                }
            }
        }
    }

    // A key stays as long as there is something to receive, and after the end.
    senders[4].send(b"x").unwrap();
    assert_eq!(set.wait(None).unwrap(), [4]);
    assert_eq!(set.wait(None).unwrap(), [4]);
    drop(receivers[4].recv().unwrap());
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    drop(senders.remove(4));
    assert_eq!(set.wait(None).unwrap(), [4]);
    assert_eq!(set.wait(None).unwrap(), [4]);
    set.remove(4);
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    // One that is dropped is forgotten.
    drop(receivers.remove(4));
    drop(receivers.pop());
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
}

#[test]
fn a_set_is_woken_by_other_processes_and_learns_of_their_deaths() {
    let names: Vec<_> = (0..6).map(|_| named("many")).collect();
    let mut sides: Vec<_> =
        names.iter().map(|name| Channel::<u64>::create(name, &Config::new()).unwrap()).collect();
    let mut set = WaitSet::new().unwrap();
    for (key, side) in sides.iter_mut().enumerate() {
        set.insert(key as u64, side.halves().1).unwrap();
    }
    let mut peers: Vec<_> = names.iter().map(|name| spawn("sender", &[name, "1000000"])).collect();
    let mut next = vec![0u64; names.len()];
    let mut dead = vec![false; names.len()];
    while dead.contains(&false) {
        let keys = set.wait(None).unwrap().to_vec();
        for key in keys {
            let at = key as usize;
            loop {
                match sides[at].try_recv() {
                    Ok(number) => assert_eq!(*number, next[at]),
                    Err(RecvError::Empty) => break,
                    Err(RecvError::PeerDead) => {
                        dead[at] = true;
                        set.remove(key);
                        break;
                    }
                    Err(error) => panic!("{error}"),
                }
                next[at] += 1;
                if next[at] == 20 {
                    peers[at].kill();
                }
            }
        }
    }
}

/// Looking is not waiting: a side that looks where nothing was announced loses no wake.
#[test]
fn whoever_only_looks_goes_on_sleeping() {
    let name = named("looked");
    let mut a = Channel::<u64>::create(&name, &Config::new()).unwrap();
    let mut b = Channel::<u64>::open(&name, LONG).unwrap();
    for round in 0..20 {
        assert!(b.halves().1.arm().unwrap());
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
        a.send(&round).unwrap();
        assert!(readable(b.halves().1.wait_fd().unwrap(), true));
        assert_eq!(*b.try_recv().unwrap(), round);
    }
    let mut set = WaitSet::new().unwrap();
    set.insert(1, b.halves().1).unwrap();
    for round in 0..20 {
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
        assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
        a.send(&round).unwrap();
        assert_eq!(set.wait(Some(LONG)).unwrap(), [1]);
        assert_eq!(*b.try_recv().unwrap(), round);
    }
}

#[test]
fn a_set_ends_in_time() {
    let mut set = WaitSet::new().unwrap();
    let began = Instant::now();
    assert!(set.wait(Some(Duration::from_millis(20))).unwrap().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(20));
    assert!(set.is_empty());
}

#[test]
fn the_descriptor_is_the_same_as_long_as_the_half_lives() {
    let name = named("same");
    let a = Transport::create(&name, &config()).unwrap();
    let (_, consumer) = a.split();
    let first = std::os::fd::AsRawFd::as_raw_fd(&consumer.wait_fd().unwrap().as_fd());
    let second = std::os::fd::AsRawFd::as_raw_fd(&consumer.wait_fd().unwrap().as_fd());
    assert_eq!(first, second);
}

/// A program that is woken tries all its halves, also those that sleep.
#[test]
fn a_call_that_does_not_wait_leaves_a_half_armed() {
    let name = named("tried");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let (to_b, from_b) = a.halves();
    while to_b.try_send(b"x").is_ok() {}
    assert!(to_b.arm().unwrap() && from_b.arm().unwrap());
    assert!(matches!(from_b.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(from_b.recv_timeout(Duration::ZERO), Err(RecvError::Timeout)));
    assert_eq!(from_b.drain(9, |_| ()).unwrap(), 0);
    assert!(matches!(to_b.try_send(b"y"), Err(SendError::Full)));
    b.send(b"hello").unwrap();
    assert!(readable(from_b.wait_fd().unwrap(), true));
    drop(b.recv().unwrap());
    assert!(readable(to_b.wait_fd().unwrap(), true));
}

#[test]
fn a_set_whose_user_tries_every_half_loses_no_wake() {
    let names = [named("tried"), named("tried")];
    let mut senders = names.each_ref().map(|name| Transport::create(name, &config()).unwrap());
    let mut receivers = names.each_ref().map(|name| Transport::open(name, LONG).unwrap());
    let mut set = WaitSet::new().unwrap();
    for (key, receiver) in receivers.iter_mut().enumerate() {
        set.insert(key as u64, receiver.halves().1).unwrap();
    }
    for round in 0..100usize {
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty(), "all sleep");
        for receiver in &mut receivers {
            assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
        }
        senders[round % 2].send(b"x").unwrap();
        let told = set.wait(Some(LONG)).unwrap();
        assert_eq!(told, [round as u64 % 2]);
        drop(receivers[round % 2].try_recv().unwrap());
    }
}

#[test]
fn a_set_tells_each_key_once() {
    let name = named("once");
    let mut a = Transport::create(&name, &config()).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let mut set = WaitSet::new().unwrap();
    for _ in 0..3 {
        set.insert(7, b.halves().1).unwrap();
        set.remove(7);
    }
    set.insert(7, b.halves().1).unwrap();
    a.send(b"x").unwrap();
    assert_eq!(set.wait(None).unwrap(), [7]);
    set.remove(7);
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    set.insert(7, b.halves().1).unwrap();
    assert_eq!(set.wait(None).unwrap(), [7]);
    // A notification that comes late, as one may, makes no second entry.
    let event = b.halves().1.wait_fd().unwrap().try_clone_to_owned().unwrap();
    for _ in 0..3 {
        rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
        assert_eq!(set.wait(None).unwrap(), [7]);
    }
}

/// Two threads may ask for the descriptor at once.
#[test]
fn the_descriptor_is_made_once() {
    for _ in 0..50 {
        let name = named("threads");
        let a = Transport::create(&name, &config()).unwrap();
        let (producer, consumer) = a.split();
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            let ask = || {
                start.wait();
                std::os::fd::AsRawFd::as_raw_fd(&consumer.wait_fd().unwrap())
            };
            let threads = [(); 4].map(|()| scope.spawn(ask));
            let found = threads.map(|thread| thread.join().unwrap());
            assert!(found.iter().all(|fd| *fd == found[0]), "{found:?}");
        });
        drop((producer, consumer));
        assert!(name.is_free(), "{:?}", name.left());
    }
}

/// Four senders, each with pauses of its own; the set's user tries halves that were not told of, takes some out and puts
/// them in again, and asks without waiting.
#[test]
fn a_set_loses_no_wake_whatever_its_user_does_between_waits() {
    const MESSAGES: u64 = 3000;
    let names: Vec<_> = (0..4).map(|_| named("between")).collect();
    let senders: Vec<_> = names.iter().map(|name| Transport::create(name, &config()).unwrap()).collect();
    let mut receivers: Vec<_> = names.iter().map(|name| Transport::open(name, LONG).unwrap()).collect();
    let mut set = WaitSet::new().unwrap();
    for (key, receiver) in receivers.iter_mut().enumerate() {
        set.insert(key as u64, receiver.halves().1).unwrap();
    }
    let mut seed = 0x5EED_u64;
    let mut dice = move |sides: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % sides
    };
    std::thread::scope(|scope| {
        for (number, mut sender) in senders.into_iter().enumerate() {
            let pause = [0, 7, 50, 300][number];
            scope.spawn(move || {
                for sequence in 0..MESSAGES {
                    if sequence % 16 == 0 && pause > 0 {
                        std::thread::sleep(Duration::from_micros(pause));
                    }
                    sender.send(&sequence.to_ne_bytes()).unwrap();
                }
                sender.finish(LONG).unwrap();
            });
        }
        let mut next = [0u64; 4];
        let mut receive = |receivers: &mut [Transport], at: usize| match receivers[at].try_recv() {
            Ok(message) => {
                assert_eq!(*message, next[at].to_ne_bytes());
                next[at] += 1;
                Some(true)
            }
            Err(RecvError::Empty) => Some(false),
            Err(RecvError::Closed) => {
                assert_eq!(next[at], MESSAGES);
                None
            }
            Err(error) => panic!("{error}"),
        };
        while !set.is_empty() {
            let limit = [Duration::ZERO, Duration::from_micros(50), LONG, LONG][dice(4) as usize];
            let told = set.wait(Some(limit)).unwrap().to_vec();
            assert!(limit != LONG || !told.is_empty(), "a wake is lost");
            for key in told {
                match receive(&mut receivers, key as usize) {
                    Some(found) => assert!(found, "told of nothing"),
                    None => set.remove(key),
                }
            }
            let key = dice(4);
            match dice(6) {
                0 => while receive(&mut receivers, key as usize) == Some(true) {},
                1 => drop(receive(&mut receivers, key as usize)),
                2 => {
                    let before = set.len();
                    set.remove(key);
                    if set.len() < before {
                        set.insert(key, receivers[key as usize].halves().1).unwrap();
                    }
                }
                _ => {}
            }
        }
    });
}

/// A peer has a hand in every word of the ring, also in the one by which this half would say that it is no more.
#[test]
fn a_set_keeps_a_half_that_its_peer_says_is_dropped() {
    for end in 1..=4 {
        let name = named("said-dropped");
        let mut a = Transport::create(&name, &config()).unwrap();
        let mut b = Transport::open(&name, LONG).unwrap();
        let hand = Memory::of(&name.b2a());
        let mut set = WaitSet::new().unwrap();
        set.insert(1, a.halves().1).unwrap();
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
        b.send(b"here").unwrap();
        hand.put_half(at::CONSUMER_END, end);
        assert_eq!(set.wait(Some(LONG)).unwrap(), [1], "{end}");
        assert_eq!(&*a.try_recv().unwrap(), b"here");
        drop(b);
        assert_eq!(set.wait(Some(LONG)).unwrap(), [1], "{end}: its end");
        assert!(matches!(a.try_recv(), Err(RecvError::Closed)));
        drop(a);
        assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
        assert!(set.is_empty(), "{end}: the half is forgotten once it is dropped");
    }
}

#[test]
fn a_set_forgets_a_dropped_half_that_its_peer_says_is_awake() {
    let name = named("said-awake");
    let mut a = Transport::create(&name, &config()).unwrap();
    let _b = Transport::open(&name, LONG).unwrap();
    let hand = Memory::of(&name.b2a());
    let mut set = WaitSet::new().unwrap();
    set.insert(1, a.halves().1).unwrap();
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    hand.put_half(at::CONSUMER_PARKED, 0);
    drop(a);
    assert!(set.wait(Some(Duration::ZERO)).unwrap().is_empty());
    assert!(set.is_empty());
}
