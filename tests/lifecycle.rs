//! How a channel begins, ends and begins again, and who may take part.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{
    Config, CreateError, Missing, OpenError, PollMode, RecvError, RemoveError, SendError, Side, Stats,
    Transport,
};
use common::*;

/// For a wait that must end with nothing found.
const SHORT: Duration = Duration::from_millis(30);

#[test]
fn child() {
    play(&[("create", create_and_hold), ("open", open_and_hold), ("late", open_early)]);
}

fn config() -> Config {
    Config::new().slot_size(48).slot_count(4).poll(PollMode::Spin)
}

fn create(name: &str) -> Transport {
    Transport::create(name, &config()).unwrap()
}

fn open(name: &str) -> Transport {
    Transport::open(name, LONG).unwrap()
}

/// Opening finds nothing to join, and says what is missing.
#[track_caller]
fn nothing_to_join(name: &str, expected: Missing) {
    match Transport::open(name, SHORT) {
        Err(OpenError::Timeout { missing, waited, .. }) => assert_eq!((missing, waited), (expected, SHORT)),
        other => panic!("expected {expected:?}, found {other:?}"),
    }
}

/// Side A that sends one message; ends in order when told, or is killed.
fn create_and_hold(args: &[String]) {
    let mut a = create(&args[0]);
    a.send(b"from A").unwrap();
    say("ready");
    hold();
}

/// Side B that sends one message; ends in order when told, or is killed.
fn open_and_hold(args: &[String]) {
    let mut b = open(&args[0]);
    b.send(b"from B").unwrap();
    say("ready");
    hold();
}

/// Side B that is there before its channel.
fn open_early(args: &[String]) {
    nothing_to_join(&args[0], Missing::Channel);
    say("waiting");
    assert_eq!(&*open(&args[0]).recv().unwrap(), b"from A");
}

fn ready(role: &str, name: &str) -> Peer {
    let mut peer = spawn(role, &[name]);
    peer.wait_for("ready");
    peer
}

#[test]
fn side_b_waits_for_a_late_side_a() {
    let name = named("late");
    let mut peer = spawn("late", &[&name]);
    peer.wait_for("waiting");
    let mut a = create(&name);
    a.send(b"from A").unwrap();
    peer.join();
    assert!(matches!(a.recv(), Err(RecvError::Closed)));
}

#[test]
fn side_b_learns_the_geometry_from_the_header() {
    let name = named("geometry");
    let a = create(&name);
    let b = Transport::open_with(&name, LONG, &Config::new().slot_size(7).slot_count(2)).unwrap();
    for (transport, side) in [(&a, Side::A), (&b, Side::B)] {
        assert_eq!(transport.side(), side);
        assert_eq!((transport.slot_size(), transport.slot_count()), (48, 4));
        assert_eq!(transport.max_message_size(), 192);
    }
    let (tx, rx) = b.split();
    assert_eq!((tx.slot_size(), tx.slot_count(), tx.max_message_size()), (48, 4, 192));
    assert_eq!((rx.slot_size(), rx.slot_count(), rx.max_message_size()), (48, 4, 192));
}

#[test]
fn a_second_side_a_is_refused_and_disturbs_nobody() {
    let name = named("second-a");
    let peer = ready("create", &name);
    let error = Transport::create(&name, &config()).unwrap_err();
    assert!(matches!(&error, CreateError::InUse { name: asked } if **asked == *name), "{error}");
    assert!(error.to_string().contains(&*name));
    assert!(matches!(Transport::remove(&name), Err(RemoveError::InUse { .. })));
    let mut b = open(&name);
    assert_eq!(&*b.recv().unwrap(), b"from A");
    drop(b);
    peer.join();
    assert_eq!(name.left().len(), 0);
}

#[test]
fn a_second_side_b_is_refused_while_the_first_lives_and_after() {
    let name = named("second-b");
    let mut a = create(&name);
    let peer = ready("open", &name);
    let error = Transport::open(&name, LONG).unwrap_err();
    assert!(matches!(&error, OpenError::InUse { name: asked } if **asked == *name), "{error}");
    assert_eq!(&*a.recv().unwrap(), b"from B");
    peer.join();
    assert!(matches!(a.recv(), Err(RecvError::Closed)));
    nothing_to_join(&name, Missing::FreshGeneration);
    drop(a);
    let _a = create(&name);
    drop(open(&name));
}

#[test]
fn a_restarted_side_a_supersedes_what_the_dead_one_left() {
    let name = named("restart");
    let mut dead = ready("create", &name);
    let mut b = open(&name);
    dead.kill();
    assert!(matches!(b.reopen(SHORT), Err(OpenError::Timeout { missing: Missing::SideA, .. })));

    let mut a = create(&name);
    assert_eq!(&*b.recv().unwrap(), b"from A", "drained first");
    assert!(matches!(b.recv(), Err(RecvError::Superseded)));
    assert!(matches!(b.try_send(b"x"), Err(SendError::Superseded)));

    b.reopen(LONG).unwrap();
    a.send(b"from the new A").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"from the new A");
    b.send(b"from B").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"from B");
    drop((b, a));
    assert_eq!(name.left().len(), 0);
}

#[test]
fn a_waiting_side_b_is_told_of_the_new_side_a() {
    for full in [false, true] {
        let name = named("restart-waiting");
        let mut dead = ready("create", &name);
        let mut b = open(&name);
        while full && b.try_send(b"fill").is_ok() {}
        assert_eq!(&*b.recv().unwrap(), b"from A");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                // Whether it learns of the death or of the successor first is a matter of milliseconds.
                if full {
                    let end = b.send(b"more").unwrap_err();
                    assert!(matches!(end, SendError::PeerDead | SendError::Superseded), "{end}");
                } else {
                    let end = b.recv().map(|_| ()).unwrap_err();
                    assert!(matches!(end, RecvError::PeerDead | RecvError::Superseded), "{end}");
                }
                b
            });
            dead.kill();
            let _a = create(&name);
            let mut b = waiting.join().unwrap();
            assert!(matches!(b.try_recv(), Err(RecvError::Superseded)));
            b.reopen(LONG).unwrap();
        });
    }
}

#[test]
fn an_orderly_end_drains_and_then_says_closed() {
    let name = named("close");
    let mut a = create(&name);
    let mut b = open(&name);
    a.send(b"1").unwrap();
    a.send(b"2").unwrap();
    drop(a);
    assert!(matches!(b.try_send(b"x"), Err(SendError::Closed)));
    assert_eq!(&*b.recv().unwrap(), b"1");
    assert_eq!(&*b.recv().unwrap(), b"2");
    for _ in 0..2 {
        assert!(matches!(b.recv(), Err(RecvError::Closed)));
        assert!(matches!(b.try_recv(), Err(RecvError::Closed)));
    }
    nothing_to_join(&name, Missing::Channel);
    // The next generation may begin while this side B still holds the last one.
    let mut a = create(&name);
    b.reopen(LONG).unwrap();
    b.send(b"again").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"again");
}

#[test]
fn halves_close_one_direction_each() {
    let name = named("halves");
    let (mut a_tx, a_rx) = create(&name).split();
    let mut b = open(&name);
    drop(a_rx);
    assert!(matches!(b.send(b"x"), Err(SendError::Closed)));
    a_tx.send(b"still there").unwrap();
    assert_eq!(&*b.recv().unwrap(), b"still there");
    assert_eq!(name.left().len(), 2, "one half still holds the name");
    drop(a_tx);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert!(name.is_free());
    drop(b);
    assert_eq!(name.left().len(), 0);
}

#[test]
fn nothing_is_left_after_both_ends_went_in_either_order() {
    for a_goes_first in [true, false] {
        let name = named("order");
        let a = create(&name);
        let peer = ready("open", &name);
        assert_eq!(name.left().len(), 2);
        if a_goes_first {
            drop(a);
            peer.join();
        } else {
            peer.join();
            drop(a);
        }
        assert_eq!(name.left().len(), 0, "A first: {a_goes_first}");
    }
}

#[cfg(unix)] // elsewhere a segment in use cannot be removed
#[test]
fn a_half_made_channel_is_never_joined_and_is_made_whole_by_the_next_create() {
    // Side A lives, and its second segment is not there.
    let name = named("half-live");
    let a = create(&name);
    fs::remove_file(name.b2a()).unwrap();
    nothing_to_join(&name, Missing::Ready);
    drop(a);
    assert_eq!(name.left().len(), 0);

    // Side A died and left only one of the two.
    for (gone, expected) in [(1, Missing::SideA), (0, Missing::Channel)] {
        let name = named("half-dead");
        ready("create", &name).kill();
        fs::remove_file([name.a2b(), name.b2a()][gone].as_path()).unwrap();
        nothing_to_join(&name, expected);
        let mut a = create(&name);
        let mut b = open(&name);
        a.send(b"whole").unwrap();
        assert_eq!(&*b.recv().unwrap(), b"whole");
        drop((a, b));
        assert_eq!(name.left().len(), 0);
    }

    // Two segments of different generations.
    let (name, other) = (named("half-mixed"), named("half-other"));
    let a = create(&name);
    ready("create", &other).kill();
    fs::rename(other.b2a(), name.b2a()).unwrap();
    nothing_to_join(&name, Missing::Ready);
    drop(a);
    drop(create(&name));
    assert_eq!(name.left().len(), 0);
}

#[test]
fn remove_takes_leftovers_and_nothing_else() {
    let name = named("remove");
    let error = Transport::remove(&name).unwrap_err();
    assert!(matches!(&error, RemoveError::NotFound { name: asked } if **asked == *name), "{error}");
    for gone in [None, Some(0), Some(1)] {
        ready("create", &name).kill();
        if let Some(gone) = gone {
            fs::remove_file([name.a2b(), name.b2a()][gone].as_path()).unwrap();
        }
        Transport::remove(&name).unwrap();
        assert_eq!(name.left().len(), 0);
    }
    let a = create(&name);
    assert!(matches!(Transport::remove(&name), Err(RemoveError::InUse { .. })));
    assert_eq!(name.left().len(), 2);
    drop(a);
}

#[test]
fn reopen_is_for_side_b() {
    let name = named("reopen");
    let mut a = create(&name);
    assert!(matches!(a.reopen(LONG), Err(OpenError::WrongSide)));
    let mut b = open(&name);
    b.send(b"as before").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"as before");
    // A reopen that fails leaves the transport as it was.
    assert!(b.reopen(SHORT).is_err());
    b.send(b"still").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"still");
}

#[test]
fn a_tag_is_checked_if_side_b_gives_one() {
    let name = named("tag");
    let _a = Transport::create(&name, &config().message_tag("ticks/1")).unwrap();
    let error = Transport::open_with(&name, LONG, &config().message_tag("ticks/2")).unwrap_err();
    match &error {
        OpenError::Tag { found, expected, .. } => assert_eq!((&**found, &**expected), ("ticks/1", "ticks/2")),
        other => panic!("{other}"),
    }
    assert!(["ticks/1", "ticks/2", &*name].iter().all(|part| error.to_string().contains(part)), "{error}");
    drop(Transport::open_with(&name, LONG, &config().message_tag("ticks/1")).unwrap());
    let other = named("no-tag");
    let _a = create(&other);
    assert!(matches!(
        Transport::open_with(&other, LONG, &config().message_tag("t")),
        Err(OpenError::Tag { .. })
    ));
    drop(open(&other));
}

#[test]
fn a_third_process_sees_the_figures() {
    let name = named("stats");
    assert!(matches!(Stats::of(&name), Err(OpenError::Timeout { missing: Missing::Channel, .. })));
    let mut a = create(&name);
    let peer = ready("open", &name);
    a.send(b"12345").unwrap();
    let mut span = a.reserve_span(100).unwrap();
    span.fill(1);
    span.commit(100);
    let seen = Stats::of(&name).unwrap();
    assert_eq!(seen, a.stats());
    assert_eq!((seen.tx.slot_size, seen.tx.slot_count), (48, 4));
    assert_eq!((seen.tx.messages, seen.tx.bytes, seen.tx.used_slots), (2, 105, 3));
    assert_eq!((seen.rx.messages, seen.rx.bytes, seen.rx.used_slots), (1, 6, 1));
    assert!(!seen.tx.closed && !seen.rx.closed);
    peer.join();
    let seen = Stats::of(&name).unwrap();
    assert!(seen.tx.closed && seen.rx.closed);
}

#[test]
fn figures_never_go_backwards_while_spans_are_sent() {
    let name = named("figures");
    let spin = Config::new().slot_size(8).slot_count(8).poll(PollMode::Spin);
    let mut a = Transport::create(&name, &spin).unwrap();
    let mut b = Transport::open_with(&name, LONG, &spin).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let now = Stats::of(&name).unwrap().tx.messages;
                assert!(now >= last, "{last}, then {now}");
                last = now;
            }
        });
        scope.spawn(|| (0..20_000).for_each(|_| drop(b.recv().unwrap())));
        for _ in 0..20_000 {
            a.reserve_span(64).unwrap().commit(64);
        }
        stop.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
    });
}

/// The instant between the birth of the second file and the last word of `create`, made by hand.
#[cfg(unix)]
#[test]
fn a_side_a_that_died_before_it_said_so_is_found_out() {
    use std::os::unix::fs::FileExt;
    const ATTACHED: u64 = 256 + 24;
    let name = named("unattached");
    let mut a = ready("create", &name);
    let mut b = open(&name);
    let file = std::fs::OpenOptions::new().write(true).open(name.a2b()).unwrap();
    file.write_all_at(&[0; 4], ATTACHED).unwrap();
    a.kill();
    assert_eq!(&*b.recv().unwrap(), b"from A");
    assert!(matches!(b.recv_timeout(LONG), Err(RecvError::PeerDead)));
}

#[cfg(unix)]
#[test]
fn a_side_b_cannot_unsay_that_it_was_there() {
    use std::os::unix::fs::FileExt;
    const ATTACHED: u64 = 256 + 24;
    let name = named("unsaid");
    let mut a = create(&name);
    let mut peer = ready("open", &name);
    assert!(a.peer_attached());
    let file = std::fs::OpenOptions::new().write(true).open(name.b2a()).unwrap();
    file.write_all_at(&[0; 4], ATTACHED).unwrap();
    peer.kill();
    assert_eq!(&*a.recv().unwrap(), b"from B");
    assert!(matches!(a.recv_timeout(LONG), Err(RecvError::PeerDead)));
}

#[cfg(unix)]
#[test]
fn a_successor_touches_no_other_channel_that_its_leftover_was_linked_to() {
    let (dead, live) = (named("linked"), named("victim"));
    let mut leaver = ready("create", &dead);
    leaver.kill();
    let mut a = create(&live);
    let mut b = open(&live);
    fs::remove_file(dead.b2a()).unwrap();
    fs::hard_link(live.b2a(), dead.b2a()).unwrap();
    drop(create(&dead));
    b.send(b"still open").unwrap();
    assert_eq!(&*a.recv().unwrap(), b"still open");
}

#[test]
fn who_only_looks_in_leaves_nothing_behind() {
    let name = named("looks-in");
    let a = create(&name);
    assert!(matches!(Transport::create(&name, &config()), Err(CreateError::InUse { .. })));
    Stats::of(&name).unwrap();
    drop(open(&name));
    nothing_to_join(&name, Missing::FreshGeneration);
    assert_eq!(name.left().len(), 2);
    drop(a);
    assert_eq!(name.left().len(), 0);

    let mut dead = ready("create", &name);
    dead.kill();
    nothing_to_join(&name, Missing::SideA);
    drop(create(&name));
    assert_eq!(name.left().len(), 0);
}

#[test]
fn creators_that_race_leave_nothing_behind() {
    let name = named("race");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    match Transport::create(&name, &config()) {
                        Ok(_) | Err(CreateError::InUse { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            });
        }
    });
    assert_eq!(name.left().len(), 0, "{:?}", name.left());
}

#[test]
fn short_timed_waits_find_a_death_too() {
    let name = named("short");
    let mut a = create(&name);
    let mut peer = ready("open", &name);
    drop(a.recv().unwrap());
    peer.kill();
    eventually("the death is known", || {
        matches!(a.recv_timeout(Duration::from_millis(1)), Err(RecvError::PeerDead))
    });

    let name = named("no-wait");
    let mut a = create(&name);
    let mut peer = ready("open", &name);
    drop(a.recv().unwrap());
    peer.kill();
    eventually("the death is known without waiting", || {
        matches!(a.recv_timeout(Duration::ZERO), Err(RecvError::PeerDead))
    });
}

#[test]
fn a_side_a_that_only_receives_can_be_joined() {
    let name = named("receives");
    let (sending, mut receiving) = create(&name).split();
    drop(sending);
    let mut b = open(&name);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    b.send(b"heard").unwrap();
    assert_eq!(&*receiving.recv().unwrap(), b"heard");
}

#[test]
fn who_abandons_is_dead_to_its_peer_behind_everything_it_sent() {
    let name = named("abandon");
    for leaves_first in [Side::A, Side::B] {
        let (a, b) = (create(&name), open(&name));
        let (mut leaves, mut stays) = if leaves_first == Side::A { (a, b) } else { (b, a) };
        leaves.send(b"last").unwrap();
        leaves.abandon();
        assert_eq!(&*stays.recv().unwrap(), b"last");
        assert!(matches!(stays.recv(), Err(RecvError::PeerDead)));
        assert!(matches!(stays.send(b"x"), Err(SendError::PeerDead)));
        drop(stays);
        assert!(name.is_free());
    }
}

#[test]
fn one_half_may_be_abandoned_alone() {
    let name = named("abandon-half");
    let (to_b, mut from_b) = create(&name).split();
    let mut b = open(&name);
    to_b.abandon();
    assert!(matches!(b.recv(), Err(RecvError::PeerDead)));
    b.send(b"still").unwrap();
    assert_eq!(&*from_b.recv().unwrap(), b"still");
    from_b.abandon();
    assert!(matches!(b.send(b"x"), Err(SendError::PeerDead)));
}

#[test]
fn a_peer_that_sleeps_is_woken_by_who_abandons() {
    let name = named("abandon-asleep");
    let a = Transport::create(&name, &config().poll(PollMode::Park)).unwrap();
    let mut b = Transport::open_with(&name, LONG, &Config::new().poll(PollMode::Park)).unwrap();
    let sleeps = thread::spawn(move || matches!(b.recv(), Err(RecvError::PeerDead)));
    eventually("side B sleeps", || a.stats().tx.parks > 0);
    a.abandon();
    assert!(sleeps.join().unwrap());
}
