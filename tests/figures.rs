//! The figures of a channel while it is at work, and after a sender was killed at work.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Channel, Config, Consumer, Producer, RecvError, RingStats, Stats, Transport};
use common::*;

#[test]
fn child() {
    play(&[("flood", flood)]);
}

const SLOT: usize = 16;

fn config(slots: usize) -> Config {
    Config::new().a_to_b(SLOT, 4).b_to_a(SLOT, slots)
}

/// How messages are sent.
#[derive(Clone, Copy, Debug)]
enum Form {
    Singles,
    Batches,
    Spans,
    Mixed,
}

const FORMS: [Form; 4] = [Form::Singles, Form::Batches, Form::Spans, Form::Mixed];

/// Sends a few messages in some form. Returns how many, and their bytes.
fn burst(tx: &mut Producer, form: Form, turn: usize) -> (u64, u64) {
    match form {
        Form::Mixed => burst(tx, FORMS[turn % 3], turn / 3),
        Form::Singles => {
            tx.send(&[1; SLOT][..turn % (SLOT + 1)]).unwrap();
            (1, (turn % (SLOT + 1)) as u64)
        }
        Form::Spans => {
            let most = tx.max_message_size().min(20 * SLOT);
            let len = turn % (most + 1);
            tx.reserve_span(len).unwrap().commit(len);
            (1, len as u64)
        }
        Form::Batches => {
            // The first waits for room, the others take what there is.
            let mut batch = tx.batch();
            for count in 0..(turn % 300) as u64 {
                match batch.try_send(&[2; 9]) {
                    Ok(()) => {}
                    Err(_) => return (count, count * 9),
                }
            }
            let count = batch.publish() as u64;
            (count, count * 9)
        }
    }
}

/// Figures never go back: neither messages nor bytes.
#[derive(Default)]
struct Watch {
    messages: u64,
    bytes: u64,
}

impl Watch {
    #[track_caller]
    fn see(&mut self, now: RingStats) {
        assert!(
            now.messages >= self.messages && now.bytes >= self.bytes,
            "({}, {}), then ({}, {})",
            self.messages,
            self.bytes,
            now.messages,
            now.bytes
        );
        assert!(now.used_slots <= now.slot_count);
        (self.messages, self.bytes) = (now.messages, now.bytes);
    }
}

fn receive_all(rx: &mut Consumer) -> (u64, u64, Watch) {
    let (mut messages, mut bytes, mut watch) = (0, 0, Watch::default());
    let mut count = |message: &[u8]| {
        messages += 1;
        bytes += message.len() as u64;
        (messages, bytes)
    };
    loop {
        let mut so_far = match rx.recv() {
            Ok(message) => count(&message),
            Err(RecvError::Closed) => return (messages, bytes, watch),
            Err(error) => panic!("{error}"),
        };
        // An end may stand behind it already; the next look tells.
        let _ = rx.drain(1000, |message| so_far = count(message));
        // Every received message was sent before.
        watch.see(rx.stats());
        assert!(watch.messages >= so_far.0 && watch.bytes >= so_far.1, "{so_far:?} were received");
    }
}

#[test]
fn figures_never_go_back_while_a_sender_is_at_full_speed() {
    for slots in [1, 2, 64, 4096] {
        for form in FORMS {
            let name = named("full-speed");
            let (_, mut rx) = Transport::create(&name, &config(slots)).unwrap().split();
            let b = Transport::open(&name, LONG).unwrap();
            let (mut tx, _) = b.split();
            let sending = AtomicBool::new(true);
            thread::scope(|scope| {
                // From outside.
                let watcher = scope.spawn(|| {
                    let mut watch = Watch::default();
                    while sending.load(Ordering::Relaxed) {
                        watch.see(Stats::of(&name).unwrap().rx);
                    }
                });
                // The receiver, as often as it can.
                let receiver = scope.spawn(|| receive_all(&mut rx));
                let (mut messages, mut bytes, mut watch) = (0, 0, Watch::default());
                // Where every message waits for the one before, fewer do.
                let turns = if slots < 64 { 1000 } else { 4000 };
                for turn in 0..turns {
                    let (count, length) = burst(&mut tx, form, turn);
                    messages += count;
                    bytes += length;
                    if turn % 16 == 0 {
                        // The sender itself leaves nothing out.
                        let seen = tx.stats();
                        watch.see(seen);
                        assert_eq!((seen.messages, seen.bytes), (messages, bytes), "{form:?}, {slots}");
                    }
                }
                sending.store(false, Ordering::Relaxed);
                drop(tx);
                let (received, length, _) = receiver.join().unwrap();
                assert_eq!((received, length), (messages, bytes), "{form:?}, {slots}");
                watcher.join().unwrap();
            });
            let end = rx.stats();
            assert!(end.closed && end.used_slots == 0);
        }
    }
}

/// Sends without end, until it is killed.
fn flood(args: &[String]) {
    let b = Transport::open(&args[0], LONG).unwrap();
    let form = FORMS[args[1].parse::<usize>().unwrap()];
    let (mut tx, _rx) = b.split();
    say("begun");
    for turn in 0.. {
        burst(&mut tx, form, turn);
    }
}

#[test]
fn a_sender_killed_at_work_leaves_the_figures_of_what_it_sent() {
    for (round, slots) in [1, 2, 64, 4096].into_iter().cycle().take(32).enumerate() {
        let form = round / 4 % FORMS.len();
        let name = named("killed");
        let mut a = Transport::create(&name, &config(slots)).unwrap();
        let mut peer = spawn("flood", &[&name, &form.to_string()]);
        peer.wait_for("begun");
        let (mut messages, mut bytes, mut watch) = (0, 0, Watch::default());
        let mut count = |message: &[u8]| {
            messages += 1;
            bytes += message.len() as u64;
        };
        let enough = 1000 + round as u64 * 37;
        while watch.messages < enough {
            count(&a.recv().unwrap());
            a.drain(100, &mut count).unwrap();
            watch.see(a.stats().rx);
        }
        // It may have sent more meanwhile, and dies in the midst of that.
        peer.kill();
        for _ in 0..3 {
            watch.see(Stats::of(&name).unwrap().rx);
            watch.see(a.stats().rx);
        }
        let dead = loop {
            match a.recv() {
                Ok(message) => count(&message),
                Err(error) => break error,
            }
        };
        assert!(matches!(dead, RecvError::PeerDead), "{dead}");
        let end = a.stats().rx;
        watch.see(end);
        assert_eq!((end.messages, end.bytes), (messages, bytes), "{:?}, {slots} slots", FORMS[form]);
        assert!(end.closed);
    }
}

/// A reader of the figures need not add up a whole large ring, again and again.
#[cfg(target_os = "linux")]
#[test]
fn figures_of_a_ring_of_millions_take_a_bounded_time() {
    use rustix::time::{ClockId, clock_gettime};
    const SLOTS: usize = 1 << 22;
    let name = named("millions");
    let mut a = Transport::create(&name, &Config::new().a_to_b(8, SLOTS).b_to_a(8, 1)).unwrap();
    let mut batch = a.batch();
    for _ in 0..SLOTS {
        batch.try_send(b"x").unwrap();
    }
    assert_eq!(batch.publish(), SLOTS);
    let cpu = || {
        let now = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let (before, mut watch) = (cpu(), Watch::default());
    for _ in 0..100 {
        watch.see(a.stats().tx);
    }
    let took = cpu() - before;
    // To add up all of them takes each time some ten times as long as is allowed for a hundred times.
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(a.stats().tx.used_slots, SLOTS);
    // Nothing stays left out.
    let mut b = Transport::open(&name, LONG).unwrap();
    let mut received = 0;
    while received < SLOTS {
        received += b.drain(SLOTS, |_| ()).unwrap();
        watch.see(b.stats().rx);
    }
    a.send(b"x").unwrap();
    watch.see(a.stats().tx);
    assert_eq!((watch.messages, watch.bytes), (SLOTS as u64 + 1, SLOTS as u64 + 1));
}

#[test]
fn halves_tell_what_the_whole_does() {
    let name = named("halves");
    let config = Config::new().a_to_b(SLOT, 8).b_to_a(32, 2);
    let mut a = Transport::create(&name, &config).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    a.send(b"12345").unwrap();
    let mut span = a.reserve_span(50).unwrap();
    span.fill(1);
    span.commit(50);
    b.send(b"x").unwrap();
    {
        let (tx, rx) = a.halves();
        assert_eq!((tx.slot_count(), tx.used_slots(), tx.free_slots()), (8, 5, 3));
        assert_eq!((rx.slot_count(), rx.used_slots(), rx.free_slots()), (2, 1, 1));
        let (tx, rx) = (tx.stats(), rx.stats());
        assert_eq!((tx.slot_size, tx.messages, tx.bytes, tx.used_slots), (SLOT, 2, 55, 5));
        assert_eq!((rx.slot_size, rx.messages, rx.bytes, rx.used_slots), (32, 1, 1, 1));
        let whole = a.stats();
        assert_eq!((whole.tx, whole.rx), (tx, rx));
        assert_eq!(Stats::of(&name).unwrap(), whole);
    }
    let whole = b.stats();
    let (_, rx) = b.halves();
    assert_eq!(rx.stats(), whole.rx);
    // A message that is held is in use, one that is released is not.
    let held = rx.recv().unwrap();
    assert_eq!(a.stats().tx.used_slots, 5);
    drop(held);
    assert_eq!((rx.used_slots(), rx.free_slots()), (4, 4));
    let (tx, _) = a.halves();
    assert_eq!((tx.used_slots(), tx.free_slots()), (4, 4));
    // The sender counts what it gathers, the receiver what it can see.
    let mut batch = tx.batch();
    batch.try_send(b"one").unwrap();
    batch.try_send(b"two").unwrap();
    std::mem::forget(batch);
    assert_eq!((tx.used_slots(), tx.free_slots(), rx.used_slots()), (6, 2, 4));
    tx.send(b"three").unwrap();
    assert_eq!((tx.used_slots(), rx.used_slots()), (7, 7));
    // As many as are free can be sent without waiting, and no more.
    for _ in 0..tx.free_slots() {
        tx.try_send(b"fill").unwrap();
    }
    assert!(tx.free_slots() == 0 && tx.try_send(b"x").is_err());
}

#[test]
fn typed_halves_tell_the_same() {
    let name = named("typed-halves");
    let a = Channel::<u64, u32>::create(&name, &Config::new().slot_count(4)).unwrap();
    let (mut to_b, from_b) = a.split();
    let (mut to_a, mut from_a) = Channel::<u32, u64>::open(&name, LONG).unwrap().split();
    (0..3).for_each(|n| to_b.send(&n).unwrap());
    to_a.send(&7).unwrap();
    assert_eq!((to_b.used_slots(), to_b.free_slots(), to_b.slot_count()), (3, 1, 4));
    assert_eq!((from_a.used_slots(), from_a.free_slots(), from_a.slot_count()), (3, 1, 4));
    assert_eq!((from_b.used_slots(), from_b.free_slots()), (1, 3));
    assert_eq!((to_b.stats().messages, to_b.stats().bytes), (3, 24));
    assert_eq!(to_b.stats(), from_a.stats());
    assert_eq!((from_b.stats().messages, from_b.stats().bytes), (1, 4));
    drop(from_a.recv().unwrap());
    assert_eq!((to_b.used_slots(), from_a.used_slots()), (2, 2));
}

#[cfg(feature = "capnp")]
#[test]
fn capnp_halves_tell_the_same() {
    use capnproto_shm_transport::{CapnpChannel, capnp::schema_capnp::capnp_version};
    let name = named("capnp-halves");
    type Versions = CapnpChannel<capnp_version::Owned>;
    let a = Versions::create(&name, &Config::new().slot_size(64).slot_count(4)).unwrap();
    let (mut tx, _) = a.split();
    let (_, mut rx) = Versions::open(&name, LONG).unwrap().split();
    (0..3).for_each(|_| tx.send(|_| Ok(())).unwrap());
    assert_eq!((tx.used_slots(), tx.free_slots(), rx.used_slots(), rx.free_slots()), (3, 1, 3, 1));
    assert_eq!((tx.stats(), tx.stats().messages), (rx.stats(), 3));
    drop(rx.recv().unwrap());
    assert_eq!((tx.used_slots(), rx.used_slots()), (2, 2));
}
