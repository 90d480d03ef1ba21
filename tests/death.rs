//! A peer that dies is found out, whatever the survivor does meanwhile, and nothing it committed is lost.
//!
//! The promise is 100 ms. A loaded machine may stop the survivor itself for longer, so the tests allow
//! twenty times as much and print what they measured.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
#[cfg(target_os = "linux")]
mod memory;

use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, Missing, OpenError, PollMode, RecvError, SendError, Transport};
use common::*;

const ALLOWED: Duration = Duration::from_secs(2);
const INTERVAL: PollMode = PollMode::Interval(Duration::from_millis(1));
const MODES: [PollMode; 3] = [PollMode::Spin, INTERVAL, PollMode::Park];
const SIDES: [&str; 2] = ["A", "B"];

#[test]
fn child() {
    play(&[
        ("doomed", doomed),
        #[cfg(target_os = "linux")]
        ("heavy", linux::heavy),
        #[cfg(target_os = "linux")]
        ("many", linux::many),
    ]);
}

fn meet(side: &str, name: &str, mode: PollMode) -> Transport {
    let config = Config::new().slot_size(32).slot_count(4).poll(mode);
    match side {
        "A" => Transport::create(name, &config).unwrap(),
        _ => Transport::open_with(name, LONG, &config).unwrap(),
    }
}

/// Commits three messages, has a fourth half written, and waits for the end.
fn doomed(args: &[String]) {
    let mut transport = meet(&args[1], &args[0], PollMode::Park);
    if args[1] == "A" {
        eventually("side B is there", || transport.peer_attached());
    }
    for message in ["one", "two", "three"] {
        transport.send(message.as_bytes()).unwrap();
    }
    let mut slot = transport.reserve().unwrap();
    slot[..4].copy_from_slice(b"four");
    say("ready");
    hold();
}

/// A survivor, and the other process that will die.
fn doom(name: &str, dies: &str, mode: PollMode) -> (Transport, Peer) {
    let (survivor, mut peer);
    if dies == "A" {
        peer = spawn("doomed", &[name, "A"]);
        survivor = meet("B", name, mode);
    } else {
        survivor = meet("A", name, mode);
        peer = spawn("doomed", &[name, "B"]);
    }
    peer.wait_for("ready");
    (survivor, peer)
}

/// Kills the peer once `survive` is at work, and checks how long it took to notice.
fn killed_during(what: &str, mut peer: Peer, survive: impl FnOnce()) {
    let (died, noticed) = thread::scope(|scope| {
        let killer = scope.spawn(move || {
            // Lets the survivor begin to wait. If it has not, the test shows less, not something else.
            thread::sleep(Duration::from_millis(50));
            let now = Instant::now();
            peer.kill();
            now
        });
        survive();
        let noticed = Instant::now();
        (killer.join().unwrap(), noticed)
    });
    let took = noticed.saturating_duration_since(died);
    println!("{what}: found out after {took:?}");
    assert!(took < ALLOWED, "{what}: {took:?}");
}

fn drain_three(survivor: &mut Transport) {
    for message in ["one", "two", "three"] {
        assert_eq!(&*survivor.recv().unwrap(), message.as_bytes());
    }
}

#[test]
fn a_receiver_drains_and_then_learns_of_the_death() {
    for dies in SIDES {
        for mode in MODES {
            let name = named("death-recv");
            let (mut survivor, peer) = doom(&name, dies, mode);
            killed_during(&format!("{dies} dies, the other receives in {mode:?}"), peer, || {
                drain_three(&mut survivor);
                assert!(matches!(survivor.recv(), Err(RecvError::PeerDead)));
            });
            assert!(matches!(survivor.try_recv(), Err(RecvError::PeerDead)), "and stays dead");
            assert!(matches!(survivor.drain(9, |_| ()), Err(RecvError::PeerDead)));
            assert!(matches!(survivor.try_send(b"x"), Err(SendError::PeerDead)), "to the other half too");
        }
    }
}

#[test]
fn what_was_committed_is_drained_after_the_death_too() {
    for dies in SIDES {
        let name = named("death-drain");
        let (mut survivor, mut peer) = doom(&name, dies, PollMode::Park);
        peer.kill();
        drain_three(&mut survivor);
        let mut copy = Vec::new();
        assert!(matches!(survivor.recv_copied(&mut copy), Err(RecvError::PeerDead)));
    }
}

#[test]
fn a_sender_in_a_full_ring_learns_of_the_death() {
    for dies in SIDES {
        for mode in MODES {
            let name = named("death-send");
            let (mut survivor, peer) = doom(&name, dies, mode);
            while survivor.try_send(b"fill").is_ok() {}
            killed_during(&format!("{dies} dies, the other waits for room in {mode:?}"), peer, || {
                assert!(matches!(survivor.send(b"more"), Err(SendError::PeerDead)));
            });
            assert!(matches!(survivor.try_reserve(), Err(SendError::PeerDead)));
            assert!(matches!(survivor.try_reserve_span(64), Err(SendError::PeerDead)));
            drain_three(&mut survivor);
            assert!(matches!(survivor.try_recv(), Err(RecvError::PeerDead)));
        }
    }
}

#[test]
fn who_only_tries_every_30_ms_learns_of_the_death() {
    for busy_before in [false, true] {
        let name = named("death-try");
        let (mut survivor, peer) = doom(&name, "B", PollMode::Spin);
        drain_three(&mut survivor);
        if busy_before {
            for _ in 0..10_002 {
                assert!(matches!(survivor.try_recv(), Err(RecvError::Empty)));
            }
        }
        killed_during(&format!("tries each 30 ms, in a tight loop before: {busy_before}"), peer, || {
            while matches!(survivor.try_recv(), Err(RecvError::Empty)) {
                thread::sleep(Duration::from_millis(30));
            }
            assert!(matches!(survivor.try_recv(), Err(RecvError::PeerDead)));
        });
    }
    let name = named("death-try-send");
    let (mut survivor, peer) = doom(&name, "B", PollMode::Spin);
    while survivor.try_send(b"fill").is_ok() {}
    killed_during("tries to send each 30 ms", peer, || {
        while matches!(survivor.try_send(b"x"), Err(SendError::Full)) {
            thread::sleep(Duration::from_millis(30));
        }
        assert!(matches!(survivor.try_send(b"x"), Err(SendError::PeerDead)));
    });
}

#[test]
fn both_halves_in_two_threads_learn_of_one_death() {
    let name = named("death-halves");
    let (mut survivor, peer) = doom(&name, "B", PollMode::Park);
    while survivor.try_send(b"fill").is_ok() {}
    let (mut tx, mut rx) = survivor.split();
    killed_during("two threads wait", peer, || {
        thread::scope(|scope| {
            scope.spawn(|| assert!(matches!(tx.send(b"more"), Err(SendError::PeerDead))));
            while rx.recv().is_ok() {}
            assert!(matches!(rx.recv(), Err(RecvError::PeerDead)));
        });
    });
}

#[cfg(unix)]
#[test]
fn a_stopped_peer_is_not_dead() {
    use rustix::process::{Pid, Signal, kill_process};
    for stops in SIDES {
        let name = named("stopped");
        let (mut survivor, mut peer) = doom(&name, stops, PollMode::Park);
        drain_three(&mut survivor);
        let pid = Pid::from_raw(peer.id() as i32).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        assert!(matches!(survivor.recv_timeout(Duration::from_millis(300)), Err(RecvError::Timeout)));
        assert!(!capnproto_shm_transport::Stats::of(&name).unwrap().tx.closed);
        kill_process(pid, Signal::CONT).unwrap();
        // It goes on, and ends in order.
        peer.go();
        peer.join();
        assert!(matches!(survivor.recv(), Err(RecvError::Closed)));
    }
}

#[test]
fn a_dead_side_a_is_never_joined_and_its_leftovers_are_removable() {
    let name = named("death-join");
    let (survivor, mut peer) = doom(&name, "A", PollMode::Park);
    drop(survivor);
    peer.kill();
    let error = Transport::open(&name, Duration::from_millis(30)).unwrap_err();
    assert!(matches!(error, OpenError::Timeout { missing: Missing::SideA, .. }), "{error}");
    assert_eq!(name.left().len(), 2);
    Transport::remove(&name).unwrap();
    assert_eq!(name.left().len(), 0);
}

/// Where the kernel marks a word at a death.
#[cfg(target_os = "linux")]
mod linux {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::memory::{Memory, at, nasty};
    use super::*;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use rustix::time::{ClockId, clock_gettime};

    const SHORT: Duration = Duration::from_millis(5);
    /// `FUTEX_WAITERS` and `FUTEX_OWNER_DIED` of linux/futex.h.
    const WAITERS: u32 = 0x8000_0000;
    const OWNER_DIED: u32 = 0x4000_0000;

    const GIGABYTE: usize = 1 << 30;

    fn available_bytes() -> usize {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = memory.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
    }

    /// Side B, with a gigabyte that takes its time to go.
    pub fn heavy(args: &[String]) {
        let mut memory = vec![0_u8; GIGABYTE];
        memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        std::hint::black_box(&memory);
        doomed(args);
        drop(memory);
    }

    /// The locks of a dying process fall after its memory is torn down; its death is known before. A lock that never
    /// falls is in `fork.rs`.
    #[test]
    fn a_peer_with_a_large_memory_is_known_to_be_dead() {
        if available_bytes() < 4 * GIGABYTE {
            eprintln!("SKIPPED: too little memory");
            return;
        }
        for mode in MODES {
            let name = named("death-heavy");
            let mut survivor = meet("A", &name, mode);
            let mut peer = spawn("heavy", &[&name, "B"]);
            peer.wait_for("ready");
            drain_three(&mut survivor);
            killed_during(&format!("a gigabyte dies, the other waits in {mode:?}"), peer, || {
                assert!(matches!(survivor.recv(), Err(RecvError::PeerDead)));
            });
        }
    }

    /// Two sides in one process, and the memory of both rings.
    fn pair(name: &Name, mode: PollMode) -> (Transport, Transport, [Memory; 2]) {
        let (a, b) = (meet("A", name, mode), meet("B", name, mode));
        (a, b, [Memory::of(&name.a2b()), Memory::of(&name.b2a())])
    }

    fn cpu() -> Duration {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    }

    #[test]
    fn a_peer_that_claims_to_be_dead_and_is_known_to_the_kernel_is_taken_at_its_word() {
        for mode in MODES {
            // Its sending end, its receiving end, or both.
            for ends in [&[0][..], &[1], &[0, 1]] {
                for waits in [false, true] {
                    let name = named("claims");
                    let (_a, mut b, rings) = pair(&name, mode);
                    if rings[0].half(at::CAPABILITIES[0]).load(Ordering::SeqCst) & 1 == 0 {
                        eprintln!("SKIPPED: this kernel passes no barrier for others");
                        return;
                    }
                    let claim =
                        || ends.iter().for_each(|&end| rings[end].put_half(at::LIFE[end], OWNER_DIED));
                    thread::scope(|scope| {
                        if waits {
                            scope.spawn(|| {
                                thread::sleep(SHORT);
                                claim();
                            });
                        } else {
                            claim();
                        }
                        // A side that waits in this ring is told, or asks in time.
                        let end = b.recv().map(|_| ()).unwrap_err();
                        assert!(matches!(end, RecvError::PeerDead), "{mode:?}, {ends:?}: {end}");
                    });
                    assert!(matches!(b.try_send(b"x"), Err(SendError::PeerDead)));
                }
            }
        }
    }

    #[test]
    fn a_peer_that_only_claims_to_be_dead_keeps_nobody_awake() {
        const WAIT: Duration = Duration::from_millis(500);
        for mode in [INTERVAL, PollMode::Park] {
            for word in [OWNER_DIED, OWNER_DIED | WAITERS | 1, u32::MAX] {
                let name = named("claims-falsely");
                let (mut a, mut b, rings) = pair(&name, mode);
                for (end, ring) in rings.iter().enumerate() {
                    // Without the registration no claim is believed: the lock says that it lives.
                    ring.put_half(at::CAPABILITIES[0], 0);
                    ring.put_half(at::LIFE[end], word);
                }
                let before = cpu();
                assert!(matches!(b.recv_timeout(WAIT), Err(RecvError::Timeout)), "{mode:?}, {word:#x}");
                let used = cpu() - before;
                assert!(used < WAIT / 4, "{mode:?}, {word:#x}: {used:?} of {WAIT:?}");
                while b.try_send(b"fill").is_ok() {}
                let before = cpu();
                assert!(matches!(b.send_timeout(b"x", WAIT), Err(SendError::Timeout)));
                let used = cpu() - before;
                assert!(used < WAIT / 4, "{mode:?}, {word:#x}: {used:?} of {WAIT:?}");
                // It goes on.
                a.send(b"alive").unwrap();
                assert_eq!(&*b.recv().unwrap(), b"alive");
                assert_eq!(&*a.recv().unwrap(), b"fill");
                b.send_timeout(b"room", LONG).unwrap();
            }
        }
    }

    #[test]
    fn a_life_word_of_any_value_costs_patience_at_most() {
        for mode in MODES {
            for value in nasty(0).into_iter().map(|value| value as u32) {
                let name = named("life");
                let (mut a, mut b, rings) = pair(&name, mode);
                rings.iter().enumerate().for_each(|(end, ring)| ring.put_half(at::LIFE[end], value));
                let looked = b.recv_timeout(SHORT).map(|message| message.len());
                match looked {
                    Err(RecvError::Timeout) => {
                        a.send(b"alive").unwrap();
                        assert_eq!(&*b.recv().unwrap(), b"alive");
                        b.send(b"too").unwrap();
                        assert_eq!(&*a.recv().unwrap(), b"too");
                    }
                    Err(RecvError::PeerDead) => assert_ne!(value & OWNER_DIED, 0),
                    other => panic!("{value:#x}: {other:?}"),
                }
            }
        }
    }

    /// Somebody writes to the word all the time, registered or not.
    #[test]
    fn a_life_word_that_never_rests_holds_nobody() {
        for registered in [false, true] {
            let name = named("restless");
            let (mut a, mut b, rings) = pair(&name, PollMode::Park);
            for ring in rings.iter().filter(|_| !registered) {
                ring.put_half(at::CAPABILITIES[0], 0);
            }
            let stop = AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut values = nasty(7).into_iter().cycle();
                    while !stop.load(Ordering::Relaxed) {
                        let value = values.next().unwrap() as u32;
                        rings.iter().enumerate().for_each(|(end, ring)| ring.put_half(at::LIFE[end], value));
                    }
                });
                for round in 0..20_u8 {
                    match b.recv_timeout(SHORT) {
                        Err(RecvError::Timeout) => {}
                        Err(RecvError::PeerDead) if registered => break,
                        other => panic!("{other:?}"),
                    }
                    match a.send(&[round]) {
                        Ok(()) => assert_eq!(&*b.recv().unwrap(), [round]),
                        Err(error) => panic!("{error}"),
                    }
                }
                stop.store(true, Ordering::Relaxed);
            });
        }
    }

    /// Files of channels by number, which go with this.
    struct Many(Name);

    impl Many {
        fn channel(&self, number: usize) -> String {
            format!("{}-{number}", &*self.0)
        }
    }

    impl Drop for Many {
        fn drop(&mut self) {
            self.0.left().iter().for_each(|file| drop(std::fs::remove_file(file)));
        }
    }

    fn tiny() -> Config {
        Config::new().slot_size(8).slot_count(1)
    }

    /// Lets this process have as many open files as it may; whether that is enough.
    fn open_files(needed: u64) -> bool {
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
        limit.maximum.is_none_or(|most| most >= needed)
    }

    /// Side A of many channels, each with a message in it.
    pub fn many(args: &[String]) {
        let count: usize = args[1].parse().unwrap();
        assert!(open_files(4 * count as u64 + 100));
        let mut sides = Vec::new();
        for number in 0..count {
            let mut a = Transport::create(&format!("{}-{number}", args[0]), &tiny()).unwrap();
            a.send(b"last").unwrap();
            sides.push(a);
        }
        say("there");
        hold();
    }

    /// Side B of many channels of one process, and that process.
    fn meet_many(count: usize) -> (Many, Vec<Transport>, Peer) {
        let many = Many(named("many"));
        let mut peer = spawn("many", &[&many.0, &count.to_string()]);
        peer.wait_for("there");
        let sides = (0..count).map(|number| {
            let mut b = Transport::open(&many.channel(number), LONG).unwrap();
            assert_eq!(&*b.recv().unwrap(), b"last");
            b
        });
        let sides = sides.collect();
        (many, sides, peer)
    }

    /// These wait, each in a thread of its own, while their one peer is killed.
    fn all_learn<'a>(what: &str, sides: impl Iterator<Item = &'a mut Transport>, peer: Peer) {
        killed_during(what, peer, || {
            thread::scope(|scope| {
                for side in sides {
                    let wait = move || assert!(matches!(side.recv(), Err(RecvError::PeerDead)));
                    thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, wait).unwrap();
                }
            });
        });
    }

    #[test]
    fn a_hundred_channels_of_one_process_all_learn_of_its_death() {
        let (_many, mut sides, peer) = meet_many(100);
        all_learn("a hundred wait", sides.iter_mut(), peer);
    }

    /// The kernel marks some two thousand words of a process, two for each channel. The locks of the others fall.
    #[test]
    fn more_channels_than_the_kernel_marks_learn_of_a_death_too() {
        const COUNT: usize = 1100;
        if !open_files(4 * COUNT as u64 + 200) {
            eprintln!("SKIPPED: too few open files");
            return;
        }
        let (many, mut sides, peer) = meet_many(COUNT);
        let life = |number: usize| {
            let file = directory().join(format!("{}.fs.a2b", many.channel(number)));
            Memory::of(&file).half(at::LIFE[0]).load(Ordering::SeqCst)
        };
        if life(0) != 0 {
            assert!(
                life(999) != 0 && life(1000) == 0 && life(COUNT - 1) == 0,
                "another limit than is tested"
            );
        }
        // Some of both kinds wait, and the others ask afterwards.
        all_learn("channels without a word wait", sides[980..1050].iter_mut(), peer);
        for side in &mut sides {
            assert!(matches!(side.recv(), Err(RecvError::PeerDead)));
        }
    }
}
