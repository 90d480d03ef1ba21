//! Measures what a bridge costs: the same messages over two bridges and over bare Zenoh, in turns, on the same link.
//!
//! `beyond far DIR ENDPOINT` at one machine, then `beyond near DIR ENDPOINT` at the other; a bridge beside each for the
//! channels in DIR. `ci/bridge measure` does all that in two network namespaces. `beyond order near|far DIR COUNT` sends
//! and checks numbered messages; `beyond idle near|far DIR COUNT` holds so many channels open and sends nothing.

use std::env;
use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use capnp_shm_bridge::zenoh::{self, Wait, qos::CongestionControl};
use capnproto_shm_transport::{Config, RecvError, SendError, Transport};

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The last message of a run begins with this; the other side answers it.
const LAST: u64 = u64::MAX;
const PATIENCE: Duration = Duration::from_secs(60);
const SMALL: usize = 64;
const LARGE: usize = 64 * 1024;
const ROUNDS: usize = 5;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["far", directory, endpoint] => far(Path::new(directory), endpoint),
        ["near", directory, endpoint] => near(Path::new(directory), endpoint),
        ["order", "near", directory, count] => send_in_order(Path::new(directory), count.parse()?),
        ["order", "far", directory, count] => check_order(Path::new(directory), count.parse()?),
        ["idle", side, directory, count] => idle(side == "near", Path::new(directory), count.parse()?),
        _ => Err("usage: beyond far|near DIR ENDPOINT, beyond order|idle near|far DIR COUNT".into()),
    }
}

fn config(directory: &Path, size: usize) -> Config {
    let slots = if size == SMALL { 16 * 1024 } else { 64 };
    Config::new().directory(directory).a_to_b(size, slots).b_to_a(size, slots)
}

fn name(size: usize) -> String {
    format!("beyond-{size}")
}

fn first(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// Answers whatever is asked for: echoes what is small and numbered, and says when the last of a run has come.
fn far(directory: &Path, endpoint: &str) -> Result {
    let zenoh = bare("listen", endpoint)?;
    let publisher = || {
        let builder = zenoh.declare_publisher("bare/back").congestion_control(CongestionControl::Block);
        builder.wait().map_err(text)
    };
    let (back, echo) = (publisher()?, publisher()?);
    let _pings = zenoh
        .declare_subscriber("bare/ping")
        .callback(move |sample| drop(echo.put(sample.payload().clone()).wait()))
        .wait()
        .map_err(text)?;
    let _flood = zenoh
        .declare_subscriber("bare/flood")
        .callback(move |sample| {
            let payload = sample.payload().to_bytes();
            if first(&payload) == LAST {
                drop(back.put(payload[..8].to_vec()).wait());
            }
        })
        .wait()
        .map_err(text)?;
    println!("ready");
    thread::scope(|scope| {
        let serve = |size| {
            let mut b = Transport::open_with(&name(size), PATIENCE, &config(directory, size))?;
            let (to_a, from_a) = b.halves();
            loop {
                let answer = match from_a.recv() {
                    Ok(message) if first(&message) == LAST => message[..8].to_vec(),
                    // Odd: a ping. Even: one of a flood.
                    Ok(message) if first(&message) % 2 == 1 => message.to_vec(),
                    Ok(_) => continue,
                    Err(RecvError::Closed) => return Result::Ok(()),
                    Err(error) => return Err(error.into()),
                };
                to_a.send(&answer)?;
            }
        };
        let small = scope.spawn(move || serve(SMALL));
        serve(LARGE)?;
        small.join().map_err(|_| "the other thread panicked")?
    })
}

fn text(error: zenoh::Error) -> Box<dyn Error + Send + Sync> {
    error.to_string().into()
}

/// One way of getting messages over.
trait Way {
    fn ping(&mut self, number: u64) -> Result;
    fn flood(&mut self, count: u64) -> Result;
}

struct Bare {
    ping: zenoh::pubsub::Publisher<'static>,
    flood: zenoh::pubsub::Publisher<'static>,
    back: Receiver<u64>,
    size: usize,
}

impl Way for Bare {
    fn ping(&mut self, number: u64) -> Result {
        let mut message = vec![0; SMALL];
        message[..8].copy_from_slice(&number.to_le_bytes());
        self.ping.put(message).wait().map_err(text)?;
        assert_eq!(self.back.recv_timeout(PATIENCE)?, number);
        Ok(())
    }

    fn flood(&mut self, count: u64) -> Result {
        for number in 1..=count {
            let mut message = vec![0; self.size];
            let number = if number == count { LAST } else { number * 2 };
            message[..8].copy_from_slice(&number.to_le_bytes());
            self.flood.put(message).wait().map_err(text)?;
        }
        assert_eq!(self.back.recv_timeout(PATIENCE)?, LAST);
        Ok(())
    }
}

struct Bridged {
    a: Transport,
    size: usize,
}

impl Bridged {
    fn send(&mut self, number: u64) -> Result {
        let mut slot = self.a.reserve_timeout(PATIENCE)?;
        slot[..8].copy_from_slice(&number.to_le_bytes());
        slot.commit(self.size);
        Ok(())
    }
}

impl Way for Bridged {
    fn ping(&mut self, number: u64) -> Result {
        self.send(number)?;
        assert_eq!(first(&self.a.recv_timeout(PATIENCE)?), number);
        Ok(())
    }

    fn flood(&mut self, count: u64) -> Result {
        for number in 1..count {
            self.send(number * 2)?;
        }
        self.send(LAST)?;
        assert_eq!(first(&self.a.recv_timeout(PATIENCE)?), LAST);
        Ok(())
    }
}

/// Nanoseconds of each, several times in turns; the median of each is reported.
fn compare(
    what: &str,
    unit: &str,
    mut ours: impl FnMut() -> Result<f64>,
    mut bare: impl FnMut() -> Result<f64>,
) -> Result {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        a.push(ours()?);
        b.push(bare()?);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[ROUNDS / 2]
    };
    let (ours, bare) = (median(&mut a), median(&mut b));
    println!(
        "{what:<28} two bridges {ours:>12.1} {unit:<6} bare Zenoh {bare:>12.1} {unit:<6} ratio {:.2}",
        ours / bare
    );
    Ok(())
}

/// Zenoh as it is by itself.
fn bare(how: &str, endpoint: &str) -> Result<zenoh::Session> {
    let mut config = zenoh::Config::default();
    let mut set = |key: &str, value: &str| config.insert_json5(key, value).map_err(text);
    set("listen/endpoints", "[\"tcp/127.0.0.1:0\"]")?;
    set(&format!("{how}/endpoints"), &format!("[{endpoint:?}]"))?;
    set("scouting/multicast/enabled", "false")?;
    zenoh::open(config).wait().map_err(text)
}

fn near(directory: &Path, endpoint: &str) -> Result {
    let zenoh = bare("connect", endpoint)?;
    let publisher = |key: &'static str| {
        zenoh.declare_publisher(key).congestion_control(CongestionControl::Block).wait().map_err(text)
    };
    let make = |size| -> Result<(Bridged, Bare)> {
        let (sender, back) = channel();
        zenoh
            .declare_subscriber("bare/back")
            .callback(move |sample| {
                // Whoever does not listen any more has ended.
                let _ = sender.send(first(&sample.payload().to_bytes()));
            })
            .background()
            .wait()
            .map_err(text)?;
        let bare = Bare { ping: publisher("bare/ping")?, flood: publisher("bare/flood")?, back, size };
        let mut a = Transport::create(&name(size), &config(directory, size))?;
        a.wait_for_peer(PATIENCE)?;
        Ok((Bridged { a, size }, bare))
    };
    let time = |run: &mut dyn FnMut() -> Result| -> Result<Duration> {
        let began = Instant::now();
        run()?;
        Ok(began.elapsed())
    };
    // Both channels first: the bridges' other program waits for both.
    let mut large = {
        let (sender, back) = channel();
        drop(sender);
        let bare = Bare { ping: publisher("bare/ping")?, flood: publisher("bare/flood")?, back, size: LARGE };
        let a = Transport::create(&name(LARGE), &config(directory, LARGE))?;
        (Bridged { a, size: LARGE }, bare)
    };
    let (mut ours, mut bare) = make(SMALL)?;
    large.0.a.wait_for_peer(PATIENCE)?;
    thread::sleep(Duration::from_millis(500));

    // How long one takes on this link says how many fit a second.
    let once = time(&mut || (0..10).try_for_each(|n| bare.ping(n * 2 + 1)))? / 10;
    let pings = (Duration::from_millis(700).as_nanos() / once.as_nanos().max(1)).clamp(20, 10_000) as u64;
    let each = |way: &mut dyn Way| -> Result<f64> {
        let took = time(&mut || (0..pings).try_for_each(|n| way.ping(n * 2 + 1)))?;
        Ok(took.as_nanos() as f64 / pings as f64 / 1000.0)
    };
    compare("round trip, 64 B", "us", || each(&mut ours), || each(&mut bare))?;

    let rate = |way: &mut dyn Way, count: u64, size: usize| -> Result<f64> {
        let took = time(&mut || way.flood(count))?;
        Ok((count * size as u64) as f64 / took.as_secs_f64() / f64::from(1 << 20))
    };
    let fast = once < Duration::from_millis(5);
    let (many, few) = if fast { (400_000, 4_000) } else { (200_000, 1_000) };
    compare("one way, 64 B", "MiB/s", || rate(&mut ours, many, SMALL), || rate(&mut bare, many, SMALL))?;
    // The answers to these come to the same subscriber.
    large.1.back = bare.back;
    compare(
        "one way, 64 KiB",
        "MiB/s",
        || rate(&mut large.0, few, LARGE),
        || rate(&mut large.1, few, LARGE),
    )?;
    Ok(())
}

/// Channels over which nothing is sent for twenty seconds.
fn idle(near: bool, directory: &Path, count: usize) -> Result {
    let mut channels = Vec::new();
    for number in 0..count {
        let (name, config) = (format!("idle-{number}"), config(directory, LARGE));
        channels.push(if near {
            Transport::create(&name, &config)?
        } else {
            Transport::open_with(&name, PATIENCE, &config)?
        });
    }
    channels.iter_mut().try_for_each(|channel| channel.wait_for_peer(PATIENCE))?;
    println!("idle");
    thread::sleep(Duration::from_secs(20));
    Ok(())
}

fn send_in_order(directory: &Path, count: u64) -> Result {
    let mut a = Transport::create("order", &config(directory, SMALL))?;
    a.wait_for_peer(PATIENCE)?;
    for number in 0..count {
        a.send(&number.to_le_bytes())?;
    }
    match a.finish(PATIENCE) {
        Ok(()) | Err(SendError::Closed) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Reads all, now and then slowly.
fn check_order(directory: &Path, count: u64) -> Result {
    let mut b = Transport::open_with("order", PATIENCE, &config(directory, SMALL))?;
    for number in 0..count {
        let found = first(&b.recv_timeout(PATIENCE)?);
        if found != number {
            return Err(format!("message {number} is {found}").into());
        }
        if number % 500_000 == 0 {
            thread::sleep(Duration::from_millis(50));
        }
    }
    match b.recv_timeout(PATIENCE) {
        Err(RecvError::Closed) => {
            println!("{count} messages, none lost, doubled or out of order");
            Ok(())
        }
        other => Err(format!("after the last: {other:?}").into()),
    }
}
