//! Loom tries every order in which the two sides' steps can happen and every value a weak memory may show. Compiles
//! `src/protocol` with loom's atomics. Run with
//! `RUSTFLAGS="--cfg loom_models" cargo test --release --test protocol_models`; with `LOOM_EXHAUSTIVE=1` and the name of a
//! model without a bound on preemptions: a minute for the ends, many for the rest.
#![cfg(loom_models)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "the models use a part of the protocol")]

#[path = "../src/crash.rs"]
mod crash;
#[path = "../src/error/mod.rs"]
mod error;
#[path = "../src/protocol/mod.rs"]
mod protocol;

/// In place of `src/sync.rs`. `membarrier` is a full barrier of the caller and of every other thread; loom has no such
/// thing, so here the light fence is a full one too.
mod sync {
    pub(crate) use loom::hint::spin_loop;
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

    pub(crate) fn compiler_fence(order: Ordering) {
        fence(order);
    }
}

use std::sync::atomic::AtomicU64 as Count;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use protocol::{End, EndpointStatus, Fence, Kernel, Rest, Words};
use sync::{AtomicU32, AtomicU64, Ordering, fence};

loom::lazy_static! {
    static ref BUCKET: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
}

/// The kernel's part as loom can try it: sleeping compares the words and goes to sleep in one step, nobody wakes by
/// itself, and no time passes. A lost wake is a deadlock.
struct Model;

impl Kernel for Model {
    fn barrier() {
        fence(Ordering::SeqCst);
    }

    fn sleep_while(word: &AtomicU32, value: u32, other: Option<(&AtomicU32, u32)>, _time: Duration) {
        let (lock, sleepers) = &*BUCKET;
        let mut guard = lock.lock().unwrap();
        let same = |(word, value): (&AtomicU32, u32)| word.load(Ordering::Relaxed) == value;
        while same((word, value)) && other.is_none_or(same) {
            guard = sleepers.wait(guard).unwrap();
        }
    }

    fn wake(_word: &AtomicU32) {
        let (lock, sleepers) = &*BUCKET;
        let _guard = lock.lock().unwrap();
        sleepers.notify_all();
    }

    fn now() -> u64 {
        0
    }

    fn processor() -> Option<u32> {
        None
    }
}

/// An event as loom can try it: set until it is cleared. The kernel does either under a lock.
struct Event {
    set: Mutex<bool>,
    sleeper: Condvar,
}

impl Event {
    fn new() -> Self {
        Self { set: Mutex::new(false), sleeper: Condvar::new() }
    }

    fn notify(&self) {
        *self.set.lock().unwrap() = true;
        self.sleeper.notify_all();
    }

    /// Sleeps until it is set, as an event loop does.
    fn wait(&self) {
        let mut set = self.set.lock().unwrap();
        while !*set {
            set = self.sleeper.wait(set).unwrap();
        }
    }

    fn clear(&self) {
        *self.set.lock().unwrap() = false;
    }
}

/// The words of a ring and its slots; loom reports any slot that both sides touch at once.
struct Ring<const SLOTS: usize> {
    words: Words,
    slots: [UnsafeCell<u64>; SLOTS],
    /// How both ends sleep, and on what if not on their words.
    rest: Rest,
    producer_event: Event,
    consumer_event: Event,
}

// SAFETY: the cells are what the protocol guards; loom checks that it does.
#[allow(unsafe_code)]
unsafe impl<const SLOTS: usize> Sync for Ring<SLOTS> {}

impl<const SLOTS: usize> Ring<SLOTS> {
    fn new(rest: Rest) -> Arc<Self> {
        Arc::new(Self {
            words: Words::default(),
            slots: std::array::from_fn(|_| UnsafeCell::new(0)),
            rest,
            producer_event: Event::new(),
            consumer_event: Event::new(),
        })
    }

    /// Sleeps until `ready`, perhaps: as `poll::wait` does, or as `poll::readiness` and an event loop do.
    fn sleep(
        &self,
        own: &EndpointStatus,
        peer: &EndpointStatus,
        event: &Event,
        ready: impl FnOnce() -> bool,
    ) {
        if self.rest == Rest::Futex {
            own.park::<Model>(peer, true, Duration::MAX, ready);
            return;
        }
        event.clear();
        own.announce(Rest::Descriptor);
        if peer.needs_barrier() {
            Model::barrier();
        }
        if !ready() {
            event.wait();
        }
        own.rise();
    }

    #[allow(unsafe_code)]
    fn write(&self, sequence: u64, value: u64) {
        // SAFETY: loom checks that nobody else has the cell.
        self.slots[sequence as usize % SLOTS].with_mut(|slot| unsafe { *slot = value });
    }

    #[allow(unsafe_code)]
    fn read(&self, sequence: u64) -> u64 {
        // SAFETY: loom checks that nobody writes the cell.
        self.slots[sequence as usize % SLOTS].with(|slot| unsafe { *slot })
    }

    /// Waits by parking until `slots` slots before `tail` are free.
    fn wait_free(&self, tail: u64, slots: u64) {
        let free = || SLOTS as u64 - self.words.taken(tail, SLOTS as u64).unwrap() >= slots;
        while !free() {
            self.sleep(&self.words.producer_status, &self.words.consumer_status, &self.producer_event, free);
        }
    }

    /// Waits by parking until something from `next` on is published, or the producer has ended.
    fn wait_published(&self, next: u64) -> Result<u64, End> {
        let count = || self.words.published(next, SLOTS as u64).unwrap();
        let ended = || self.words.producer_status.ended().unwrap();
        loop {
            let end = ended();
            match count() {
                0 if end != End::Open => return Err(end),
                0 => {
                    let ready = || count() > 0 || ended() != End::Open || self.words.producer_status.died();
                    let (own, peer) = (&self.words.consumer_status, &self.words.producer_status);
                    self.sleep(own, peer, &self.consumer_event, ready);
                    if self.words.producer_status.died() && count() == 0 {
                        return Err(End::Died);
                    }
                }
                published => return Ok(published),
            }
        }
    }

    fn close(&self, end: End) {
        match end {
            End::Superseded => self.words.producer_status.supersede(),
            end => self.words.producer_status.finish(end),
        }
        self.words.consumer_status.wake::<Model>(Fence::Full, None, || self.consumer_event.notify());
    }

    /// Publishes messages of these many slots each: the sequence is each slot's value.
    fn produce(&self, spans: &[u64], fence: Fence) {
        let mut tail = 0;
        for span in spans {
            self.wait_free(tail, *span);
            for sequence in tail..tail + span {
                self.write(sequence, sequence);
            }
            tail += span;
            self.words.publish::<Model>(tail, fence, || self.consumer_event.notify());
        }
    }

    /// Receives `total` slots, checks them, and releases what it has seen at once.
    fn consume(&self, total: u64, fence: Fence) {
        let mut next = 0;
        while next < total {
            let published = self.wait_published(next).unwrap();
            for sequence in next..next + published {
                assert_eq!(self.read(sequence), sequence);
            }
            next += published;
            self.words.release::<Model>(next, fence, || self.producer_event.notify());
        }
    }
}

/// Tries every order, or those with at most so many preemptions, and says how many there were.
fn explore(name: &str, preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let executions = std::sync::Arc::new(Count::new(0));
    let counted = std::sync::Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.filter(|_| std::env::var_os("LOOM_EXHAUSTIVE").is_none());
    builder.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    println!("loom: {name}: {} executions", executions.load(std::sync::atomic::Ordering::Relaxed));
}

/// Runs both sides; the consumer in the model's main thread.
fn duel<const SLOTS: usize>(
    name: &str,
    preemptions: Option<usize>,
    rest: Rest,
    spans: &'static [u64],
    fence: Fence,
) {
    explore(name, preemptions, move || {
        let ring = Ring::<SLOTS>::new(rest);
        let producer = Arc::clone(&ring);
        let thread = thread::spawn(move || producer.produce(spans, fence));
        ring.consume(spans.iter().sum(), fence);
        thread.join().unwrap();
    });
}

#[test]
fn publish_and_consume_with_parking_on_both_sides() {
    duel::<1>("parking on both sides", Some(4), Rest::Futex, &[1, 1], Fence::Full);
}

#[test]
fn the_same_with_the_sleepers_barrier_for_both() {
    duel::<1>("parking, light fence", Some(4), Rest::Futex, &[1, 1], Fence::Light);
}

#[test]
fn full_and_empty_in_a_ring_of_two() {
    duel::<2>("full and empty", Some(3), Rest::Futex, &[1, 1, 1], Fence::Full);
}

#[test]
fn a_span_waits_for_all_its_slots_and_is_seen_whole() {
    duel::<2>("span", Some(4), Rest::Futex, &[1, 2], Fence::Full);
}

#[test]
fn arm_and_notify_on_both_sides() {
    duel::<1>("events on both sides", Some(4), Rest::Descriptor, &[1, 1], Fence::Full);
}

#[test]
fn arm_and_notify_with_the_sleepers_barrier() {
    duel::<1>("events, light fence", Some(4), Rest::Descriptor, &[1, 1], Fence::Light);
}

#[test]
fn arm_and_notify_for_a_span() {
    duel::<2>("events, span", Some(3), Rest::Descriptor, &[1, 2], Fence::Full);
}

/// A half that armed and went away, without waiting, is woken no more by the next that arms than it should be: a stale
/// notification at most makes it look in vain.
#[test]
fn arming_again_after_a_dropped_wait_loses_no_wake() {
    explore("armed twice", Some(4), || {
        let ring = Ring::<1>::new(Rest::Descriptor);
        let producer = Arc::clone(&ring);
        let thread = thread::spawn(move || producer.produce(&[1], Fence::Full));
        ring.words.consumer_status.announce(Rest::Descriptor);
        ring.consume(1, Fence::Full);
        thread.join().unwrap();
    });
}

/// Everything published before an end is received before the end is.
fn end_is_last(name: &str, preemptions: Option<usize>, rest: Rest, end: End) {
    explore(name, preemptions, move || {
        let ring = Ring::<2>::new(rest);
        let producer = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            producer.produce(&[1], Fence::Full);
            producer.close(end);
        });
        ring.consume(1, Fence::Full);
        assert_eq!(ring.wait_published(1), Err(end));
        thread.join().unwrap();
    });
}

#[test]
fn close_wakes_and_comes_last() {
    end_is_last("close", Some(5), Rest::Futex, End::Closed);
}

#[test]
fn close_notifies_and_comes_last() {
    end_is_last("close, events", Some(5), Rest::Descriptor, End::Closed);
}

#[test]
fn supersede_wakes_and_comes_last() {
    end_is_last("supersede", Some(5), Rest::Futex, End::Superseded);
}

#[test]
fn only_one_end_is_remembered_unless_superseded() {
    explore("ends meet", None, || {
        let ring = Ring::<1>::new(Rest::Futex);
        let other = Arc::clone(&ring);
        let thread = thread::spawn(move || other.words.producer_status.finish(End::Closed));
        ring.words.producer_status.finish(End::Died);
        thread.join().unwrap();
        let end = ring.words.producer_status.ended().unwrap();
        assert!(matches!(end, End::Closed | End::Died));
        ring.words.producer_status.supersede();
        ring.words.producer_status.finish(End::Closed);
        assert_eq!(ring.words.producer_status.ended(), Ok(End::Superseded));
    });
}

/// The kernel's mark, made the way the kernel makes it: by a swap of the word, then a wake of who sleeps on it.
#[test]
fn a_death_wakes_a_sleeper_and_comes_after_what_was_published() {
    const OWNED: u32 = 0x8000_0001;
    const OWNER_DIED: u32 = 0x4000_0000;
    explore("death", Some(4), || {
        let ring = Ring::<2>::new(Rest::Futex);
        ring.words.producer_status.life.store(OWNED, Ordering::Relaxed);
        let producer = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            producer.produce(&[1], Fence::Full);
            producer.words.producer_status.life.swap(OWNED | OWNER_DIED, Ordering::SeqCst);
            Model::wake(&producer.words.producer_status.life);
        });
        ring.consume(1, Fence::Full);
        assert_eq!(ring.wait_published(1), Err(End::Died));
        thread.join().unwrap();
    });
}

/// A kernel whose barrier loom cannot show: a side that needs it does not sleep.
struct Unbarriered;

loom::lazy_static! {
    static ref NEEDED_A_BARRIER: AtomicU32 = AtomicU32::new(0);
}

impl Kernel for Unbarriered {
    fn barrier() {
        NEEDED_A_BARRIER.store(1, Ordering::Relaxed);
    }

    fn sleep_while(word: &AtomicU32, value: u32, other: Option<(&AtomicU32, u32)>, time: Duration) {
        if NEEDED_A_BARRIER.swap(0, Ordering::Relaxed) == 0 {
            Model::sleep_while(word, value, other, time);
        }
    }

    fn wake(word: &AtomicU32) {
        Model::wake(word);
    }

    fn now() -> u64 {
        0
    }

    fn processor() -> Option<u32> {
        None
    }
}

/// A half whose word a hostile peer clears, and wakes nobody, is interrupted all the same.
#[test]
fn an_interruption_wakes_whatever_the_peer_has_written() {
    for (name, rest) in [("word", Rest::Futex), ("descriptor", Rest::Descriptor)] {
        explore(&format!("interruption, {name}"), Some(3), move || {
            let ring = Ring::<1>::new(rest);
            let asked = Arc::new(AtomicU32::new(0));
            let hostile = Arc::clone(&ring);
            let hostile =
                thread::spawn(move || hostile.words.consumer_status.parked.store(0, Ordering::Relaxed));
            let (interrupted, ask) = (Arc::clone(&ring), Arc::clone(&asked));
            let interrupter = thread::spawn(move || {
                ask.store(1, Ordering::Release);
                interrupted.words.consumer_status.rouse::<Model>(|| interrupted.consumer_event.notify());
            });
            let is_asked = || asked.load(Ordering::Acquire) != 0;
            let (own, peer) = (&ring.words.consumer_status, &ring.words.producer_status);
            while !is_asked() {
                ring.sleep(own, peer, &ring.consumer_event, is_asked);
            }
            hostile.join().unwrap();
            interrupter.join().unwrap();
        });
    }
}

/// An actor promises full fences, takes that back, and then passes none. A sleeper that left the barrier out because of
/// the promise is woken all the same.
#[test]
fn a_promise_of_fences_that_is_taken_back_loses_no_wake() {
    explore("promise of fences", None, || {
        let ring = Ring::<1>::new(Rest::Futex);
        ring.words.producer_status.promise_fences(true);
        let actor = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            actor.words.producer_status.promise_fences(false);
            actor.words.producer.tail.store(1, Ordering::Release);
            if actor.words.consumer_status.parked.load(Ordering::Relaxed) != 0 {
                actor.words.consumer_status.wake::<Unbarriered>(Fence::Full, None, || ());
            }
        });
        let sent = || ring.words.published(0, 1).unwrap() > 0;
        // Without the promise it needs the barrier, so it tries once and no more.
        ring.words.consumer_status.park::<Unbarriered>(
            &ring.words.producer_status,
            false,
            Duration::MAX,
            sent,
        );
        thread.join().unwrap();
        assert!(sent());
    });
}

/// A ring of slots that a tap may read at any time, and so atomics. The slots of one message hold the same value.
struct Tapped<const SLOTS: usize> {
    words: Words,
    slots: [AtomicU64; SLOTS],
}

/// The producer's steps for one message that takes so many slots, or for a batch of so many.
#[derive(Clone, Copy)]
enum Write {
    Single,
    /// Several slots, then one publication.
    Several(u64),
    /// Several slots, and nothing is published.
    Aborted(u64),
}

/// A producer whose consumer releases at once, or not at all, and a tap that copies one slot. If the tap believes what
/// it copied, that is what was published.
fn tapped<const SLOTS: usize>(
    name: &str,
    preemptions: Option<usize>,
    writes: &'static [Write],
    released: bool,
) {
    explore(name, preemptions, move || {
        let ring = Arc::new(Tapped::<SLOTS> {
            words: Words::default(),
            slots: std::array::from_fn(|_| AtomicU64::new(0)),
        });
        let slots = SLOTS as u64;
        let producer = Arc::clone(&ring);
        let thread = thread::spawn(move || {
            let mut tail = 0;
            for write in writes {
                let count = match *write {
                    Write::Single => 1,
                    Write::Several(count) | Write::Aborted(count) => count,
                };
                if released {
                    producer.words.consumer.head.store(tail, Ordering::Release);
                }
                if producer.words.taken(tail, slots).unwrap() + count > slots {
                    return;
                }
                if !matches!(write, Write::Single) {
                    producer.words.begin(tail + count);
                }
                for sequence in tail..tail + count {
                    // Never 0, so that a slot that was never written is no message.
                    producer.slots[sequence as usize % SLOTS].store(sequence + 1, Ordering::Relaxed);
                }
                if !matches!(write, Write::Aborted(_)) {
                    tail += count;
                    producer.words.publish::<Model>(tail, Fence::Full, || ());
                }
            }
        });
        let tail = ring.words.producer.tail.load(Ordering::Acquire);
        for sequence in tail.saturating_sub(slots)..tail {
            let copy = ring.slots[sequence as usize % SLOTS].load(Ordering::Relaxed);
            let intact = ring.words.intact_from::<Model>(slots);
            if sequence.wrapping_sub(intact) as i64 >= 0 {
                assert_eq!(copy, sequence + 1);
                thread::yield_now();
            }
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_tap_believes_no_slot_that_is_written_again() {
    use Write::*;
    tapped::<2>("tap, single slots", Some(4), &[Single, Single, Single, Single], true);
    tapped::<2>("tap, a batch", Some(4), &[Single, Several(2), Single], true);
    tapped::<2>("tap, an aborted span", Some(4), &[Single, Single, Aborted(2), Single], true);
    tapped::<1>("tap, one slot", Some(4), &[Single, Single, Single], true);
    tapped::<2>("tap, nothing released", Some(4), &[Single, Single, Single], false);
}
