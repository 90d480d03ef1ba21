//! Kills at random moments, under load in both directions: the survivor receives every message that was
//! committed, in order and whole, none twice, and none that was not; then the two meet again. In calls that block, and in tasks.
//!
//! `KILLS=n` asks for another number of kills than 2,000 (200 in a debug build), `SEED=n` for another run,
//! `FROZEN=n` for another time in seconds that a peer stands still than 3.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "common/mod.rs"]
mod common;
#[path = "kills/load.rs"]
mod load;

use std::mem;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{
    Config, Consumer, CreateError, OpenError, PollMode, Producer, RecvError, SendError, Side, Transport,
};
use common::*;
use load::{Dice, Load, Progress};

/// The promise is 100 ms; a loaded machine may stop the survivor itself for longer.
const ALLOWED: Duration = Duration::from_secs(2);

#[test]
fn child() {
    play(&[("victim", victim), ("holder", holder)]);
}

fn config(dice: &mut Dice) -> Config {
    Config::new().slot_size(dice.pick(&[24, 64, 200])).slot_count(dice.pick(&[4, 16, 128])).poll(mode(dice))
}

fn mode(dice: &mut Dice) -> PollMode {
    dice.pick(&[PollMode::Spin, PollMode::Park, PollMode::Interval(Duration::from_micros(200))])
}

/// How both sides send and receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Calls,
    #[cfg(all(unix, feature = "tokio"))]
    Tasks,
}

impl By {
    fn send(self, load: Load, tx: &mut Producer, progress: Option<&Progress>) -> SendError {
        match self {
            Self::Calls => load.send(tx, progress),
            #[cfg(all(unix, feature = "tokio"))]
            Self::Tasks => load.send_in_task(tx, progress),
        }
    }

    fn receive(self, load: Load, rx: &mut Consumer) -> (u64, RecvError) {
        match self {
            Self::Calls => load.receive(rx),
            #[cfg(all(unix, feature = "tokio"))]
            Self::Tasks => load.receive_in_task(rx),
        }
    }

    /// One that has this name.
    fn named(name: &str) -> Self {
        match name {
            #[cfg(all(unix, feature = "tokio"))]
            "Tasks" => Self::Tasks,
            _ => Self::Calls,
        }
    }
}

/// Sends and receives until it is killed, and writes down what it committed.
fn victim(args: &[String]) {
    let (name, seed) = (&args[0], args[2].parse().unwrap());
    let mut dice = Dice::new(seed);
    let config = config(&mut dice);
    let transport = match args[1].as_str() {
        "A" => Transport::create(name, &config).unwrap(),
        _ => Transport::open_with(name, LONG, &config).unwrap(),
    };
    let (mut tx, mut rx) = transport.split();
    let progress = Progress::open(&args[3]);
    let by = By::named(&args[4]);
    thread::spawn(move || by.receive(Load::new(seed + 1), &mut rx));
    let end = by.send(Load::new(seed + 2), &mut tx, Some(&progress));
    panic!("the survivor ended first: {end}");
}

/// One pair after another on one name, of which one side is killed, `kills` times.
fn kill(by: By, kills: usize, seed: u64) -> Duration {
    let mut dice = Dice::new(seed);
    let name = named("kills");
    let progress = Progress::create(&name);
    let mut slowest = Duration::ZERO;
    let mut survivor: Option<Transport> = None;
    for round in 0..kills {
        // Four in a row of one side, so that a survivor also meets its peer again.
        let dies = if round % 8 < 4 { Side::B } else { Side::A };
        let seed = dice.next() >> 1;
        progress.write(0, 0);
        let args = [&*name, &format!("{dies:?}"), &seed.to_string(), progress.path(), &format!("{by:?}")];
        let (mut transport, victim) = match (dies, survivor.take()) {
            (Side::B, before) => {
                drop(before);
                let a = Transport::create(&name, &config(&mut dice)).unwrap();
                let victim = spawn("victim", &args);
                // Or a survivor that spins would take the processor from the victim's start.
                eventually("the victim is there", || a.peer_attached());
                (a, victim)
            }
            (Side::A, Some(mut b)) if b.side() == Side::B => {
                let victim = spawn("victim", &args);
                b.reopen(LONG).unwrap();
                (b, victim)
            }
            (Side::A, before) => {
                drop(before);
                let victim = spawn("victim", &args);
                let own = Config::new().poll(mode(&mut dice));
                (Transport::open_with(&name, LONG, &own).unwrap(), victim)
            }
        };
        let survived = survive(by, &mut transport, victim, seed, dice.below(2_000));
        let place = format!("round {round}: {dies:?} dies, seed {seed}");
        let (received, took) = survived.unwrap_or_else(|why| panic!("{place}: {why}"));
        let (committed, intended) = progress.read();
        assert!(
            received == committed || received == intended,
            "{place}: received {received}, committed {committed}, then up to {intended}"
        );
        assert!(took < ALLOWED, "{place}: found out after {took:?}");
        slowest = slowest.max(took);
        survivor = Some(transport);
    }
    drop((survivor, progress));
    // The last to die may have been side A.
    let _ = Transport::remove(&name);
    if cfg!(windows) {
        // The mappings of the dead one go once the system has cleared up after it.
        eventually("nothing is left", || Transport::remove(&name).is_err() && name.left().is_empty());
    }
    assert_eq!(name.left().len(), 0);
    slowest
}

/// Works until the victim is dead, which is killed `micros` after its first message. Returns how many
/// messages came, and how long the death went unnoticed.
fn survive(
    by: By,
    transport: &mut Transport,
    mut victim: Peer,
    seed: u64,
    micros: u64,
) -> Result<(u64, Duration), String> {
    let (tx, rx) = transport.halves();
    let (came, comes) = channel();
    thread::scope(|scope| {
        let sender = scope.spawn(move || by.send(Load::new(seed + 3), tx, None));
        let killer = scope.spawn(move || {
            // A survivor that fails drops its end; then the victim dies too.
            let _ = comes.recv();
            let began = Instant::now();
            while began.elapsed() < Duration::from_micros(micros) {
                thread::yield_now();
            }
            let killed = Instant::now();
            victim.kill();
            killed
        });
        let (received, end) = by.receive(Load::new(seed + 4).announce(came), rx);
        let noticed = Instant::now();
        let took = noticed.saturating_duration_since(killer.join().unwrap());
        let refused = sender.join().unwrap();
        match (end, refused) {
            (RecvError::PeerDead, SendError::PeerDead) => Ok((received, took)),
            (end, refused) => Err(format!("received {received}, then {end}; sending: {refused}")),
        }
    })
}

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).map_or(default, |value| value.parse().unwrap())
}

/// Two pairs at once.
fn kill_many(by: By) -> u64 {
    let kills = number("KILLS", if cfg!(debug_assertions) { 200 } else { 2_000 });
    let seed = number("SEED", u64::from(std::process::id()));
    println!("{kills} kills, SEED={seed}");
    let slowest = thread::scope(|scope| {
        let pairs = [(kills / 2, seed << 1), (kills - kills / 2, seed << 1 | 1)];
        let pairs = pairs.map(|(kills, seed)| scope.spawn(move || kill(by, kills as usize, seed)));
        pairs.into_iter().map(|pair| pair.join().unwrap()).max().unwrap()
    });
    println!("every death found out within {slowest:?}");
    kills
}

#[test]
fn nothing_is_lost_torn_or_repeated_whenever_a_side_is_killed() {
    println!("guarantee: kills under load: {}", kill_many(By::Calls));
}

#[cfg(all(unix, feature = "tokio"))]
#[test]
fn nothing_is_lost_torn_or_repeated_whenever_a_side_is_killed_whose_tasks_send_and_receive() {
    println!("guarantee: kills of tasks under load: {}", kill_many(By::Tasks));
}

/// Creates a channel, says so, and forgets it; lives until it is told to go.
fn holder(args: &[String]) {
    let mut transport = Transport::create(&args[0], &Config::new().slot_size(8).slot_count(4)).unwrap();
    eventually("side B is there", || transport.peer_attached());
    transport.send(b"first").unwrap();
    match args[1].as_str() {
        "transport" => mem::forget(transport),
        "producer" => mem::forget(transport.split().0),
        "consumer" => mem::forget(transport.split().1),
        other => panic!("{other}"),
    }
    say("forgotten");
    hold();
}

#[test]
fn what_is_forgotten_holds_the_name_until_the_process_ends() {
    for what in ["transport", "producer", "consumer"] {
        let name = named("forgotten");
        let mut peer = spawn("holder", &[&name, what]);
        let mut b = Transport::open(&name, LONG).unwrap();
        peer.wait_for("forgotten");
        assert_eq!(&*b.recv().unwrap(), b"first");
        // The half that was not forgotten has closed; the other is as if it were held.
        let received = b.recv_timeout(Duration::from_millis(100)).map(|_| ()).unwrap_err();
        assert_eq!(matches!(received, RecvError::Closed), what == "consumer", "{what}: {received}");
        assert_eq!(matches!(received, RecvError::Timeout), what != "consumer", "{what}: {received}");
        let sent = b.try_send(b"x");
        assert_eq!(matches!(sent, Err(SendError::Closed)), what == "producer", "{what}: {sent:?}");
        assert!(matches!(Transport::create(&name, &Config::new()), Err(CreateError::InUse { .. })));
        let second = Transport::open(&name, Duration::ZERO);
        assert!(matches!(second, Err(OpenError::InUse { .. } | OpenError::Timeout { .. })), "{second:?}");
        peer.go();
        peer.join();
        // A process that ends without closing has died.
        let received = b.recv().map(|_| ()).unwrap_err();
        assert_eq!(matches!(received, RecvError::PeerDead), what != "consumer", "{what}: {received}");
        drop(b);
        drop(Transport::create(&name, &Config::new()).unwrap());
        assert_eq!(name.left().len(), 0);
    }
}

#[test]
#[allow(clippy::forget_non_drop, reason = "which guards have a destructor is not for their user to know")]
fn forgotten_guards_cost_what_their_documentation_says() {
    let name = named("guards");
    let mut a = Transport::create(&name, &Config::new().slot_size(8).slot_count(4)).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();

    // A reservation: aborted; the next one is the same slot.
    let mut slot = a.reserve().unwrap();
    slot.copy_from_slice(b"forgotte");
    mem::forget(slot);
    let slot = a.reserve().unwrap();
    assert_eq!(&slot[..], b"forgotte");
    drop(slot);
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));

    // A batch: published with the next message.
    let mut batch = a.batch();
    batch.try_send(b"one").unwrap();
    batch.try_send(b"two").unwrap();
    mem::forget(batch);
    assert!(matches!(b.try_recv(), Err(RecvError::Empty)));
    a.send(b"three").unwrap();

    // A received message: received all the same, and released with the next one.
    mem::forget(b.try_recv().unwrap());
    assert_eq!(a.stats().tx.used_slots, 3);
    assert_eq!(&*b.try_recv().unwrap(), b"two");
    assert_eq!(a.stats().tx.used_slots, 1);
    assert_eq!(&*b.try_recv().unwrap(), b"three");

    // A listener: its thread goes on until the channel ends.
    let (sender, messages) = channel();
    let (_tx, listener) = b.listen(move |message: &[u8]| sender.send(message.to_vec()).unwrap());
    mem::forget(listener);
    a.send(b"four").unwrap();
    assert_eq!(messages.recv_timeout(LONG).unwrap(), b"four");
    drop(a);
    assert!(messages.recv_timeout(LONG).is_err(), "the callback went with the thread");
}

#[test]
fn a_thread_may_outlive_the_handle_it_came_from() {
    let name = named("outlives");
    let mut a = Transport::create(&name, &Config::new().slot_size(8).slot_count(4)).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    let control = a.poll_control();
    let (gone, is_gone) = channel();
    let late = thread::spawn(move || {
        is_gone.recv().unwrap();
        // Both sides and both files are gone; the memory is not.
        control.set_remote(PollMode::Spin);
        control.set_local(PollMode::Interval(Duration::from_millis(7)));
        (control.local(), control.remote())
    });
    a.send(b"last").unwrap();
    drop(a);
    assert!(name.is_free(), "a control holds no name");
    assert_eq!(&*b.recv().unwrap(), b"last");
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    drop(b);
    // The name is another generation's by now, which the old control does not reach.
    let next = Transport::create(&name, &Config::new().poll(PollMode::Park)).unwrap();
    gone.send(()).unwrap();
    assert_eq!(late.join().unwrap(), (PollMode::Interval(Duration::from_millis(7)), PollMode::Spin));
    assert_eq!(next.poll_control().local(), PollMode::Park);

    // A half in a thread keeps the whole name, and side B is told nothing of the other half's end but that.
    let (tx, mut rx) = next.split();
    let receiver = thread::spawn(move || rx.recv().map(|message| message.to_vec()).unwrap());
    let mut b = Transport::open(&name, LONG).unwrap();
    drop(tx);
    assert!(matches!(b.recv(), Err(RecvError::Closed)));
    assert_eq!(name.left().len(), 2);
    b.send(b"still").unwrap();
    assert_eq!(receiver.join().unwrap(), b"still");
    assert!(name.is_free());
    drop(b);
    assert_eq!(name.left().len(), 0);
}

#[cfg(unix)]
#[test]
fn a_frozen_peer_is_alive_however_long() {
    let name = named("frozen");
    let mut peer = spawn("holder", &[&name, "transport"]);
    let mut b = Transport::open(&name, LONG).unwrap();
    peer.wait_for("forgotten");
    assert_eq!(&*b.recv().unwrap(), b"first");
    use rustix::process::{Pid, Signal, kill_process};
    let pid = Pid::from_raw(peer.id() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    while b.try_send(b"fill").is_ok() {}
    let (tx, rx) = b.halves();
    let frozen = Duration::from_secs(number("FROZEN", 3));
    thread::scope(|scope| {
        scope.spawn(|| assert!(matches!(tx.send_timeout(b"more", frozen), Err(SendError::Timeout))));
        assert!(matches!(rx.recv_timeout(frozen), Err(RecvError::Timeout)));
    });
    assert!(!capnproto_shm_transport::Stats::of(&name).unwrap().tx.closed);
    assert!(matches!(Transport::create(&name, &Config::new()), Err(CreateError::InUse { .. })));
    // A frozen process dies like any other.
    peer.kill();
    assert!(matches!(b.recv(), Err(RecvError::PeerDead)));
    Transport::remove(&name).unwrap();
}
