//! Channels in tasks: every executor, every kind, every end, and futures that are dropped.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, RecvError, SendError, Transport};
use common::*;

#[test]
fn child() {
    play(&[
        ("echo", echo),
        ("count", count),
        ("fill", fill),
        ("leave", leave),
        ("send_again_and_again", send_again_and_again),
    ]);
}

const MODES: [PollMode; 3] = [PollMode::Spin, PollMode::Interval(Duration::from_micros(100)), PollMode::Park];

/// Runs a future to its end.
type Executor = (&'static str, fn(&mut dyn FnMut() -> LocalFuture));
type LocalFuture = std::pin::Pin<Box<dyn Future<Output = ()>>>;

const EXECUTORS: [Executor; 4] = [
    ("tokio, one thread", |make| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(make());
    }),
    ("tokio, several threads", |make| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(make());
    }),
    ("smol", |make| smol::block_on(make())),
    ("futures", |make| futures::executor::LocalPool::new().run_until(make())),
];

fn config(mode: PollMode) -> Config {
    Config::new().slot_size(64).slot_count(4).poll(mode)
}

fn run<F: Future<Output = ()> + 'static>(executor: &Executor, future: impl FnOnce() -> F) {
    let mut future = Some(future);
    executor.1(&mut || Box::pin(future.take().unwrap()()));
}

/// Side B in a task of the executor whose number is given.
fn echo(args: &[String]) {
    let executor = &EXECUTORS[args[1].parse::<usize>().unwrap()];
    let name = args[0].clone();
    run(executor, || async move {
        let mut b = Transport::open(&name, LONG).unwrap();
        let (to_a, from_a) = b.halves();
        loop {
            match from_a.recv_async().await {
                Ok(message) => to_a.send_async(&message).await.unwrap(),
                Err(RecvError::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn two_tasks_in_two_processes_exchange_messages() {
    for (number, executor) in EXECUTORS.iter().enumerate() {
        for mode in MODES {
            let name = named("echo");
            let mut a = Transport::create(&name, &config(mode)).unwrap();
            let peer = spawn("echo", &[&name, &number.to_string()]);
            run(executor, || async move {
                for round in 0..300 {
                    let message = pattern(round, round % 65);
                    a.send_async(&message).await.unwrap();
                    // Sometimes both sleep, sometimes neither.
                    if round % 100 == 0 {
                        std::thread::sleep(Duration::from_millis(3));
                    }
                    assert_eq!(*a.recv_async().await.unwrap(), message[..], "{} {mode:?}", executor.0);
                }
            });
            peer.join();
            assert!(name.is_free(), "{} left {:?}", executor.0, name.left());
        }
    }
}

/// Sends so many numbers, in messages and spans, then closes.
fn count(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    for index in 0..args[1].parse().unwrap() {
        let message = pattern(index, index % 200);
        if index % 3 == 0 {
            std::thread::sleep(Duration::from_micros(200));
        }
        let mut slot = b.reserve_span(message.len()).unwrap();
        slot[..message.len()].copy_from_slice(&message);
        slot.commit(message.len());
    }
    b.finish(LONG).unwrap();
}

/// A future that is dropped at its first, second, third … wait has taken nothing.
#[test]
fn a_dropped_future_takes_nothing() {
    for executor in &EXECUTORS {
        let name = named("dropped");
        let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
        let peer = spawn("count", &[&name, "300"]);
        run(executor, || async move {
            let mut polls = 0;
            for index in 0..300 {
                let expected = pattern(index, index % 200);
                loop {
                    polls += 1;
                    let wanted = polls % 7;
                    match polled(a.recv_async(), wanted).await {
                        Some(message) => {
                            assert_eq!(*message.unwrap(), expected[..]);
                            break;
                        }
                        None => continue,
                    }
                }
            }
            assert!(matches!(a.recv_async().await, Err(RecvError::Closed)));
        });
        peer.join();
    }
}

/// Polls a future a number of times at most, and drops it then.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let (mut future, mut seen) = (pin!(future), 0);
    std::future::poll_fn(|cx| {
        if seen == times {
            return Poll::Ready(None);
        }
        seen += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Message number `index` in one slot, or in a span that sometimes skips one.
fn short_or_long(index: usize) -> Vec<u8> {
    pattern(index, if index % 3 == 0 { 100 + index % 60 } else { index % 60 })
}

/// Sends so many by futures of every form, each dropped at its first, second, third … poll and begun again, then closes.
fn send_again_and_again(args: &[String]) {
    let (name, messages) = (args[0].clone(), args[1].parse().unwrap());
    run(&EXECUTORS[args[2].parse::<usize>().unwrap()], || async move {
        let mut b = Transport::open(&name, LONG).unwrap();
        let mut tries = 0;
        for index in 0..messages {
            let message = short_or_long(index);
            let len = message.len();
            let mut sent = false;
            while !sent {
                tries += 1;
                sent = if len > 64 {
                    let span = polled(b.reserve_span_async(len), tries % 7).await;
                    span.map(|span| span.unwrap()).is_some_and(|mut span| {
                        span[..len].copy_from_slice(&message);
                        span.commit(len);
                        true
                    })
                } else if index % 2 == 0 {
                    polled(b.send_async(&message), tries % 7).await.map(Result::unwrap).is_some()
                } else {
                    let slot = polled(b.reserve_async(), tries % 7).await;
                    slot.map(|slot| slot.unwrap()).is_some_and(|mut slot| {
                        slot[..len].copy_from_slice(&message);
                        slot.commit(len);
                        true
                    })
                };
            }
        }
        b.finish(LONG).unwrap();
    });
}

/// A wait, on either side, may be given up at any poll and begun again.
#[test]
fn a_future_of_any_form_that_is_dropped_takes_nothing_and_sends_nothing() {
    const MESSAGES: usize = 300;
    for (number, executor) in EXECUTORS.iter().enumerate() {
        let name = named("given-up");
        let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
        let peer = spawn("send_again_and_again", &[&name, &MESSAGES.to_string(), &number.to_string()]);
        run(executor, || async move {
            let (mut index, mut tries, mut copy) = (0, 0, Vec::new());
            loop {
                tries += 1;
                let polls = tries % 7;
                let received = match tries % 3 {
                    0 => polled(a.recv_async(), polls).await.map(|got| got.map(|message| message.to_vec())),
                    1 => {
                        let copied = polled(a.recv_copied_async(&mut copy), polls).await;
                        copied.map(|got| got.map(|len| copy[..len].to_vec()))
                    }
                    _ => {
                        let mut window = a.window();
                        let waited = polled(window.wait_for_async(1), polls).await;
                        waited.map(|got| {
                            got.map(|()| {
                                let message = window[0].to_vec();
                                window.release(1);
                                message
                            })
                        })
                    }
                };
                match received {
                    None => {}
                    Some(Ok(message)) => {
                        assert_eq!(message, short_or_long(index), "{}: message {index}", executor.0);
                        index += 1;
                    }
                    Some(end) => {
                        assert!(matches!(end, Err(RecvError::Closed)), "{end:?}");
                        break;
                    }
                }
            }
            assert_eq!(index, MESSAGES);
        });
        peer.join();
    }
}

/// Receives so many messages, slowly.
fn fill(args: &[String]) {
    let mut b = Transport::open(&args[0], LONG).unwrap();
    for index in 0..args[1].parse().unwrap() {
        if index % 8 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(*b.recv().unwrap(), pattern(index, index % 200)[..]);
    }
}

#[test]
fn a_full_ring_holds_up_a_task_that_sends() {
    for executor in &EXECUTORS {
        let name = named("fill");
        let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
        let peer = spawn("fill", &[&name, "500"]);
        run(executor, || async move {
            for index in 0..500 {
                let message = pattern(index, index % 200);
                let mut span = a.reserve_span_async(message.len()).await.unwrap();
                span[..message.len()].copy_from_slice(&message);
                span.commit(message.len());
            }
            a.finish(LONG).unwrap();
            assert!(matches!(a.send_async(b"more").await, Err(SendError::Closed)));
        });
        peer.join();
    }
}

/// Joins, and leaves as it is told.
fn leave(args: &[String]) {
    let b = Transport::open(&args[0], LONG).unwrap();
    say("here");
    hold();
    if args[1] == "close" {
        drop(b);
        say("closed");
        hold();
    }
}

#[test]
fn every_end_reaches_a_pending_future() {
    for executor in &EXECUTORS {
        for mode in MODES {
            for end in ["close", "kill", "supersede"] {
                let name = named("ends");
                let mut a = Transport::create(&name, &config(mode)).unwrap();
                let mut peer = spawn("leave", &[&name, end]);
                peer.wait_for("here");
                run(executor, || async move {
                    let mut future = pin!(a.recv_async());
                    // Pending for a while first.
                    for _ in 0..3 {
                        let polled =
                            std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending()));
                        assert!(polled.await);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    match end {
                        "close" => peer.go(),
                        _ => peer.kill(),
                    }
                    let found = future.await.unwrap_err();
                    let expected = if end == "close" {
                        matches!(found, RecvError::Closed)
                    } else {
                        matches!(found, RecvError::PeerDead)
                    };
                    assert!(expected, "{} {mode:?} {end}: {found}", executor.0);
                });
            }
        }
    }
}

#[test]
fn an_interruption_ends_a_pending_future_once() {
    for executor in &EXECUTORS {
        for mode in MODES {
            let name = named("interrupted");
            let mut a = Transport::create(&name, &config(mode)).unwrap();
            let interrupter = a.interrupter();
            let thread = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                interrupter.interrupt();
            });
            run(executor, || async move {
                assert!(matches!(a.recv_async().await, Err(RecvError::Interrupted)));
                let mut again = pin!(a.recv_async());
                assert!(again.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            });
            thread.join().unwrap();
        }
    }
}

#[test]
fn a_writer_that_is_polled_for_no_reason_is_woken_all_the_same() {
    use futures_lite::io::AsyncWrite;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    struct Wakes(AtomicU32);
    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    let name = named("for-no-reason");
    let mut a = Transport::create(&name, &config(PollMode::Park)).unwrap();
    let b = Transport::open(&name, LONG).unwrap();
    let mut writer = pin!(b.into_io());
    let wakes = Arc::new(Wakes(AtomicU32::new(0)));
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    while writer.as_mut().poll_write(&mut cx, &[1; 256]).is_ready() {}
    // Until it sleeps: before that it wakes itself.
    loop {
        let before = wakes.0.load(Ordering::SeqCst);
        assert!(writer.as_mut().poll_write(&mut cx, &[1; 256]).is_pending());
        if wakes.0.load(Ordering::SeqCst) == before {
            break;
        }
    }
    wakes.0.store(0, Ordering::SeqCst);
    assert!(writer.as_mut().poll_write(&mut cx, &[1; 256]).is_pending());
    // In any state it must learn of the room.
    drop(a.recv().unwrap());
    eventually("the writer writes", || {
        wakes.0.swap(0, Ordering::SeqCst) > 0 && writer.as_mut().poll_write(&mut cx, &[1; 256]).is_ready()
    });
}
