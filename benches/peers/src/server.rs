//! A server: how soon a client has its first message, what idle clients cost, and how evenly busy ones are served.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use capnproto_shm_transport::{AcceptError, Config, RecvError, Server, Transport, WaitSet};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use crate::clock::{monotonic, process_cpu};
use crate::pair::JOINED;
use crate::peers::PATIENCE;
use crate::process::{self, Control, Ended, Killed};
use crate::sample::median;

pub const IDLE: usize = 1000;
pub const BUSY: usize = 10;
/// Connections of each kind.
const CONNECTIONS: usize = 300;

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Served {
    /// From before `connect` until the first message is there, in microseconds; the same over a Unix socket.
    pub connect_us: f64,
    pub socket_us: f64,
    pub idle: Idle,
    /// Calls a second of the slowest and of the fastest of busy clients.
    pub slowest: f64,
    pub fastest: f64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Idle {
    /// Processor time of the server, over the time that passed.
    pub cpu: f64,
    /// Bytes of the server for each client besides its segments.
    pub besides: u64,
}

pub fn measure(watched: Duration) -> Result<Served> {
    let name = format!("peers-{}-server", std::process::id());
    let [connect_us, socket_us] = connections(&name)?;
    let idle = idle(&name, watched)?;
    let [slowest, fastest] = busy(&name, watched)?;
    Ok(Served { connect_us, socket_us, idle, slowest, fastest })
}

/// What this program does when it was started as a server or its clients.
pub fn play(part: &str, name: &str) -> Result<()> {
    let mut control = Control::inherited()?;
    match part {
        "greets" => greets(name, &mut control),
        "greets-socket" => greets_socket(name, &mut control),
        "serves" => serves(name, &mut control),
        "idles" => {
            descriptors()?;
            let clients = (0..IDLE).map(|_| Transport::connect(name, PATIENCE));
            let _clients = clients.collect::<Result<Vec<_>, _>>()?;
            control.say(JOINED)?;
            control.hear().map(drop)
        }
        _ => calls(name, &mut control),
    }
}

/// A server needs more descriptors than a shell gives.
fn descriptors() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn greets(name: &str, control: &mut Control) -> Result<()> {
    let mut server = Server::<Transport>::bind(name, &Config::new())?;
    control.say(JOINED)?;
    for _ in 0..CONNECTIONS {
        let mut channel = server.accept()?;
        channel.send(b"hello")?;
        // It is here until the client has gone.
        ensure!(matches!(channel.recv(), Err(RecvError::Closed)), "a client is gone");
    }
    Ok(())
}

fn greets_socket(path: &str, control: &mut Control) -> Result<()> {
    let listener = UnixListener::bind(path)?;
    control.say(JOINED)?;
    for _ in 0..CONNECTIONS {
        let (mut socket, _) = listener.accept()?;
        socket.write_all(b"hello")?;
        ensure!(socket.read(&mut [0])? == 0, "a client is gone");
    }
    Ok(())
}

/// Microseconds of ours and of the socket, in turns.
fn connections(name: &str) -> Result<[f64; 2]> {
    let path = std::env::temp_dir().join(format!("{name}.socket"));
    let path = path.to_str().context("a path")?;
    let (mut ours, child) = process::start(&["server", "greets", name])?;
    let _ours = Killed(child);
    ours.expect(JOINED)?;
    let (mut socket, child) = process::start(&["server", "greets-socket", path])?;
    let _socket = Killed(child);
    socket.expect(JOINED)?;
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..CONNECTIONS {
        let began = monotonic();
        let mut channel = Transport::connect(name, PATIENCE)?;
        ensure!(*channel.recv()? == *b"hello", "a greeting");
        times[0].push((monotonic() - began) as f64 / 1e3);
        drop(channel);
        let began = monotonic();
        let mut stream = UnixStream::connect(path)?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting)?;
        times[1].push((monotonic() - began) as f64 / 1e3);
    }
    std::fs::remove_file(path)?;
    Ok(times.map(|times| median(times.into_iter())))
}

/// Serves in one thread. Told "idle MILLIS", says what that cost; ends with its lines.
fn serves(name: &str, control: &mut Control) -> Result<()> {
    const SERVER: u64 = 0;
    descriptors()?;
    let mut server = Server::<Transport>::bind(name, &Config::new().slot_count(16))?;
    let mut set = WaitSet::new()?;
    set.insert_fd(SERVER, server.wait_fd())?;
    control.say(JOINED)?;
    let expected: usize = control.answer()?.parse()?;
    let watched: u64 = control.answer()?.parse()?;
    let (before, mut clients, mut next) = (private()?, HashMap::new(), SERVER + 1);
    let mut idle = None;
    loop {
        let limit = (idle.is_none() && clients.len() == expected).then_some(Duration::from_millis(watched));
        let began = (monotonic(), process_cpu());
        let keys = set.wait(limit)?.to_vec();
        if keys.is_empty() {
            let cpu = (process_cpu() - began.1) as f64 / (monotonic() - began.0) as f64;
            let besides = private()?.saturating_sub(before) / clients.len() as u64;
            idle = Some(());
            control.say(&serde_json::to_string(&Idle { cpu, besides })?)?;
        }
        for key in keys {
            if key == SERVER {
                match server.try_accept() {
                    Ok(mut channel) => {
                        set.insert(next, channel.halves().1)?;
                        clients.insert(next, channel);
                        next += 1;
                    }
                    Err(AcceptError::Empty) => {}
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            let Some(channel) = clients.get_mut(&key) else { continue };
            let (to, from) = channel.halves();
            let gone = match from.try_recv() {
                Ok(call) => to.send(&call).is_err(),
                Err(RecvError::Empty) => false,
                Err(_) => true,
            };
            if gone {
                set.remove(key);
                clients.remove(&key);
            }
        }
        if clients.is_empty() && next > expected as u64 {
            return Ok(());
        }
    }
}

/// Bytes of this process that are not shared memory.
fn private() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let of = |what: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(what)).context("a size")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    Ok(of("RssAnon:")? + of("VmPTE:")?)
}

fn idle(name: &str, watched: Duration) -> Result<Idle> {
    let (mut server, child) = process::start(&["server", "serves", name])?;
    let _server = Ended(child);
    server.expect(JOINED)?;
    server.say(&IDLE.to_string())?;
    server.say(&watched.as_millis().to_string())?;
    let (mut clients, child) = process::start(&["server", "idles", name])?;
    let _clients = Ended(child);
    clients.expect(JOINED)?;
    let idle = serde_json::from_str(&server.answer()?)?;
    drop(clients);
    Ok(idle)
}

fn busy(name: &str, watched: Duration) -> Result<[f64; 2]> {
    let (mut server, child) = process::start(&["server", "serves", name])?;
    let _server = Ended(child);
    server.expect(JOINED)?;
    server.say(&BUSY.to_string())?;
    // Nobody is idle so long.
    server.say("100000")?;
    let (mut clients, child) = process::start(&["server", "calls", name])?;
    let _clients = Ended(child);
    clients.say(&watched.as_millis().to_string())?;
    let calls: Vec<u64> = serde_json::from_str(&clients.answer()?)?;
    let a_second = calls.iter().map(|&calls| calls as f64 / watched.as_secs_f64());
    Ok([a_second.clone().fold(f64::INFINITY, f64::min), a_second.fold(0.0, f64::max)])
}

/// Calls without a pause, each client in a thread of its own. Says how often each.
fn calls(name: &str, control: &mut Control) -> Result<()> {
    let watched = Duration::from_millis(control.answer()?.parse()?);
    let (together, over) = (Barrier::new(BUSY + 1), AtomicBool::new(false));
    let calls = thread::scope(|scope| -> Result<Vec<u64>> {
        let client = || -> Result<u64> {
            let mut channel = Transport::connect(name, PATIENCE)?;
            together.wait();
            let mut calls = 0;
            while !over.load(Ordering::Relaxed) {
                channel.send(b"call")?;
                let _ = channel.recv()?;
                calls += 1;
            }
            Ok(calls)
        };
        let threads: Vec<_> = (0..BUSY).map(|_| scope.spawn(client)).collect();
        together.wait();
        thread::sleep(watched);
        over.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).collect()
    })?;
    control.say(&serde_json::to_string(&calls)?)
}
