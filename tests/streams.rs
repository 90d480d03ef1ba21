//! Messages as streams, of every kind: in order, to the end that there was, and none before it is asked for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod kinds;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use capnproto_shm_transport::{Channel, Config, RecvError, SendError, Transport};
use common::*;
use futures::StreamExt;
use futures::stream::FusedStream;
use kinds::*;

#[test]
fn child() {
    play(&[("count", count), ("last words", last_words), ("fill", fill), ("one", one)]);
}

/// The numbers of a channel, as a stream.
type Numbers = Pin<Box<dyn FusedStream<Item = Result<u16, RecvError>>>>;

/// A channel whose receiving half becomes a stream.
trait Streamed: Kind {
    fn numbers(self) -> Numbers;
}

impl Streamed for Transport {
    fn numbers(self) -> Numbers {
        let (_, receiver) = self.split();
        let number = |message: Vec<u8>| u16::from_ne_bytes(message.try_into().unwrap());
        Box::pin(receiver.into_stream().map(move |item| item.map(number)))
    }
}

impl Streamed for Channel<u16> {
    fn numbers(self) -> Numbers {
        let (_, receiver) = self.split();
        Box::pin(receiver.into_stream())
    }
}

#[cfg(feature = "capnp")]
impl Streamed for Versions {
    fn numbers(self) -> Numbers {
        let (_, receiver) = self.split();
        Box::pin(receiver.into_stream().map(|item| item.map(|message| message.get().unwrap().get_major())))
    }
}

const SLOTS: usize = 4;

fn config() -> Config {
    Config::new().slot_count(SLOTS)
}

fn open<K: Kind>(name: &str) -> K {
    K::open_with(name, LONG, &config()).unwrap()
}

/// Runs `future` as futures' executor does, with async-io's reactor; and in tokio, if that is there.
fn executors<F: Future<Output = ()>>(mut future: impl FnMut() -> F) {
    futures_lite::future::block_on(future());
    #[cfg(feature = "tokio")]
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future());
}

/// Polls for nobody.
fn poll(numbers: &mut Numbers) -> Poll<Option<Result<u16, RecvError>>> {
    numbers.as_mut().poll_next(&mut Context::from_waker(Waker::noop()))
}

/// Polls again and again, until the half sleeps surely.
async fn stays_pending(numbers: &mut Numbers) {
    for _ in 0..20 {
        let polled = std::future::poll_fn(|cx| Poll::Ready(numbers.as_mut().poll_next(cx).is_pending()));
        assert!(polled.await);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends numbers from 0 on, sometimes after a pause, and closes.
fn count(args: &[String]) {
    fn run<K: Kind>(args: &[String]) {
        let mut b = open::<K>(&args[1]);
        for number in 0..args[2].parse().unwrap() {
            if number % 100 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
            b.put(number, LONG).unwrap();
        }
        b.finish(LONG).unwrap();
    }
    of_kind!(&*args[0], run(args));
}

#[test]
fn everything_comes_in_order_and_then_the_end() {
    fn test<K: Streamed>() {
        executors(|| async {
            let name = named("order");
            let mut numbers = K::create(&name, &config()).unwrap().numbers();
            let peer = spawn("count", &[K::NAME, &name, "1000"]);
            for expected in 0..1000 {
                assert!(!numbers.is_terminated());
                assert_eq!(numbers.next().await.unwrap().unwrap(), expected, "{}", K::NAME);
            }
            for _ in 0..3 {
                assert!(numbers.next().await.is_none(), "{}", K::NAME);
                assert!(numbers.is_terminated());
            }
            peer.join();
            drop(numbers);
            assert!(name.is_free(), "{:?}", name.left());
        });
    }
    each_kind!(test());
}

#[test]
fn a_dropped_next_takes_nothing() {
    fn test<K: Streamed>() {
        executors(|| async {
            let name = named("next");
            let mut numbers = K::create(&name, &config()).unwrap().numbers();
            let peer = spawn("count", &[K::NAME, &name, "300"]);
            let (mut polls, mut came) = (0, Vec::new());
            loop {
                polls += 1;
                let (wanted, mut seen) = (polls % 5, 0);
                let mut next = numbers.next();
                // Polls it a number of times at most, and drops it then.
                let item = std::future::poll_fn(|cx| {
                    if seen == wanted {
                        return Poll::Ready(None);
                    }
                    seen += 1;
                    Pin::new(&mut next).poll(cx).map(Some)
                });
                match item.await {
                    None => continue,
                    Some(None) => break,
                    Some(Some(item)) => came.push(item.unwrap()),
                }
            }
            assert_eq!(came, (0..300).collect::<Vec<_>>(), "{}", K::NAME);
            peer.join();
        });
    }
    each_kind!(test());
}

/// Sends three numbers, and waits to be killed.
fn last_words(args: &[String]) {
    fn run<K: Kind>(args: &[String]) {
        let mut b = open::<K>(&args[1]);
        (0..3).for_each(|number| b.put(number, LONG).unwrap());
        say("said");
        hold();
    }
    of_kind!(&*args[0], run(args));
}

#[test]
fn a_death_is_the_last_item() {
    fn test<K: Streamed>() {
        for sleeps in [false, true] {
            executors(|| async move {
                let name = named("death");
                let mut numbers = K::create(&name, &config()).unwrap().numbers();
                let mut peer = spawn("last words", &[K::NAME, &name]);
                peer.wait_for("said");
                if !sleeps {
                    peer.kill();
                }
                for expected in 0..3 {
                    assert_eq!(numbers.next().await.unwrap().unwrap(), expected);
                }
                if sleeps {
                    stays_pending(&mut numbers).await;
                    peer.kill();
                }
                assert!(!numbers.is_terminated());
                let last = numbers.next().await;
                assert!(matches!(last, Some(Err(RecvError::PeerDead))), "{} {last:?}", K::NAME);
                assert!(numbers.is_terminated());
                assert!(numbers.next().await.is_none());
            });
        }
    }
    each_kind!(test());
}

/// Sends one number when it is told.
fn one(args: &[String]) {
    fn run<K: Kind>(args: &[String]) {
        let mut b = open::<K>(&args[1]);
        hold();
        b.put(7, LONG).unwrap();
        b.finish(LONG).unwrap();
    }
    of_kind!(&*args[0], run(args));
}

#[test]
fn an_interruption_is_an_item_and_no_end() {
    fn test<K: Streamed>() {
        executors(|| async {
            let name = named("interrupted");
            let a = K::create(&name, &config()).unwrap();
            let mut peer = spawn("one", &[K::NAME, &name]);
            let interrupter = a.interrupter();
            let mut numbers = a.numbers();
            for _ in 0..2 {
                stays_pending(&mut numbers).await;
                interrupter.interrupt();
                let item = numbers.next().await;
                assert!(matches!(item, Some(Err(RecvError::Interrupted))), "{} {item:?}", K::NAME);
                assert!(!numbers.is_terminated());
            }
            peer.go();
            assert_eq!(numbers.next().await.unwrap().unwrap(), 7);
            assert!(numbers.next().await.is_none());
            peer.join();
        });
    }
    each_kind!(test());
}

/// Each time it is told: sends as many as go, and says how many.
fn fill(args: &[String]) {
    fn run<K: Kind>(args: &[String]) {
        let mut b = open::<K>(&args[1]);
        let mut next = 0;
        for _ in 0..5 {
            hold();
            let before = next;
            loop {
                match b.put(next, Duration::ZERO) {
                    Ok(()) => next += 1,
                    Err(SendError::Timeout) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            say(&(next - before).to_string());
        }
        hold();
    }
    of_kind!(&*args[0], run(args));
}

#[test]
fn nothing_is_taken_before_it_is_asked_for() {
    fn test<K: Streamed>() {
        let name = named("asked");
        let a = K::create(&name, &config()).unwrap();
        let mut peer = spawn("fill", &[K::NAME, &name]);
        let mut numbers = a.numbers();
        assert!(poll(&mut numbers).is_pending());
        peer.go();
        peer.wait_for("4");
        // One for each that was asked for.
        let mut expected = 0;
        for asked in [1, 0, 3, 4] {
            for _ in 0..asked {
                // A turn of others is no item.
                let item = futures_lite::future::block_on(numbers.next());
                assert_eq!(item.unwrap().unwrap(), expected);
                expected += 1;
            }
            peer.go();
            peer.wait_for(&asked.to_string());
        }
        peer.join();
    }
    each_kind!(test());
}

#[test]
fn a_stream_gives_its_half_back() {
    let name = named("back");
    let mut a = Transport::create(&name, &config()).unwrap();
    let (_, receiver) = Transport::open(&name, LONG).unwrap().split();
    for message in [b"one", b"two"] {
        a.send(message).unwrap();
    }
    let mut stream = receiver.into_stream();
    assert_eq!(futures_lite::future::block_on(stream.next()).unwrap().unwrap(), b"one");
    let mut receiver = stream.into_inner();
    assert_eq!(&*receiver.recv().unwrap(), b"two");
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn a_stream_that_always_has_something_lets_others_run() {
    executors(|| async {
        let name = named("turns");
        let mut a = Channel::<u16>::create(&name, &Config::new().slot_count(1024)).unwrap();
        let mut numbers = Channel::<u16>::open(&name, LONG).unwrap().numbers();
        (0..1024).for_each(|number| a.try_send(&number).unwrap());
        let others = Cell::new(0);
        let busy = async {
            for expected in 0..1024 {
                assert_eq!(numbers.next().await.unwrap().unwrap(), expected);
            }
            assert!(others.get() > 1);
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
