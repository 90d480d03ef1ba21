//! Kills at random moments: servers and clients, during the handshake, in calls and in the middle of a transfer. The
//! others go on, and nothing is left: no descriptor, no mapping, no thread, no file, no memory.
//!
//! `KILLS=n` asks for another number of kills than 100, `SEED=n` for another run.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{
    AcceptError, Config, OpenError, RecvError, SendError, Server, Transport, WaitSet,
};
use common::*;

#[test]
fn child() {
    play(&[("calls", calls), ("serves", serves)]);
}

/// Small rings, so that a transfer waits for room.
fn config() -> Config {
    Config::new().slot_size(256).slot_count(8)
}

/// A generator of numbers that look random (SplitMix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// Bytes of one transfer: some are a slot's, some a span's.
fn transfer(number: u64) -> Vec<u8> {
    pattern(number as usize, 1 + (number as usize * 37) % 1500)
}

fn send(channel: &mut Transport, message: &[u8]) -> Result<(), SendError> {
    let mut span = channel.reserve_span(message.len())?;
    span[..message.len()].copy_from_slice(message);
    span.commit(message.len());
    Ok(())
}

/// Connects, makes some calls, leaves, and begins again, until it is killed. Says so once it has come through once.
fn calls(args: &[String]) {
    for round in 0_u64.. {
        let mut channel = match Transport::connect(&args[0], LONG) {
            Ok(channel) => channel,
            Err(OpenError::Timeout { .. }) => panic!("no server for a minute"),
            Err(error) => panic!("{error}"),
        };
        for number in 0..1 + round % 5 {
            let call = transfer(number);
            let answer = send(&mut channel, &call).map_err(|error| error.to_string());
            let answer = answer.and_then(|()| {
                channel.recv().map(|answer| answer.to_vec()).map_err(|error| error.to_string())
            });
            match answer {
                Ok(answer) => assert!(answer == call, "an answer that is not the call's"),
                Err(_) => break,
            }
        }
        if round == 0 {
            say("once");
        }
    }
}

/// Mappings of one side of a channel: header, body and life word of each segment.
const CHANNEL_MAPPINGS: usize = 6;

/// The numbers of a process's descriptors, mappings and threads.
fn held(pid: u32) -> (usize, usize, usize) {
    let count = |what| fs::read_dir(format!("/proc/{pid}/{what}")).unwrap().count();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    (count("fd"), maps.lines().filter(|line| line.contains("memfd:")).count(), count("task"))
}

/// Bytes of shared memory in this whole system, which others use too.
fn shared_memory() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap();
    let line = info.lines().find(|line| line.starts_with("Shmem:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

/// Serves all who come, in one thread, until `done`.
fn serve(server: &mut Server<Transport>, mut done: impl FnMut(usize) -> bool) {
    const SERVER: u64 = 0;
    let mut set = WaitSet::new().unwrap();
    set.insert_fd(SERVER, server.wait_fd()).unwrap();
    let mut clients = std::collections::HashMap::new();
    let mut next = SERVER + 1;
    while !done(clients.len()) {
        for key in set.wait(Some(Duration::from_millis(1))).unwrap().to_vec() {
            if key == SERVER {
                match server.try_accept() {
                    Ok(mut client) => {
                        set.insert(next, client.halves().1).unwrap();
                        clients.insert(next, client);
                        next += 1;
                    }
                    Err(AcceptError::Empty) => {}
                    Err(error) => panic!("{error}"),
                }
                continue;
            }
            let Some(client) = clients.get_mut(&key) else { continue };
            let call = client.try_recv().map(|call| call.to_vec());
            let answered = match call {
                Ok(call) => send(client, &call).is_ok(),
                Err(RecvError::Empty) => true,
                Err(RecvError::Closed | RecvError::PeerDead) => false,
                Err(error) => panic!("{error}"),
            };
            if !answered {
                set.remove(key);
                clients.remove(&key);
            }
        }
    }
}

/// Binds as soon as the name is free, and serves until it is killed.
fn serves(args: &[String]) {
    let mut server = Server::<Transport>::bind(&args[0], &config()).unwrap();
    say("bound");
    serve(&mut server, |_| false);
}

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn whoever_is_killed_whenever_the_others_go_on_and_nothing_is_left() {
    let (kills, seed) = (number("KILLS", 100), number("SEED", u64::from(std::process::id())));
    println!("{kills} kills, SEED={seed}");
    let mut dice = Dice(seed);
    clients_die(kills / 2, &mut dice);
    servers_die(kills - kills / 2, &mut dice);
    println!("guarantee: kills of servers and clients: {kills}");
}

/// One server, and clients that are killed and replaced.
fn clients_die(kills: u64, dice: &mut Dice) {
    let name = named("clients-die");
    let mut server = Server::<Transport>::bind(&name, &config()).unwrap();
    let pid = std::process::id();
    let mut before = None;
    let mut clients: Vec<Peer> = Vec::new();
    let memory = shared_memory();
    for kill in 0..kills {
        while clients.len() < 3 {
            clients.push(spawn("calls", &[&name]));
        }
        let until = Instant::now() + Duration::from_micros(dice.below(20_000));
        serve(&mut server, |_| Instant::now() >= until);
        clients.swap_remove(dice.below(3) as usize).kill();
        if kill % 25 == 24 || kill + 1 == kills {
            clients.iter_mut().for_each(Peer::kill);
            clients.clear();
            // Without any client, the server holds what it held before.
            eventually("all clients are known to be gone", || {
                matches!(server.try_accept(), Err(AcceptError::Empty)) && server.clients() == 0
            });
            // A thread of this process may be at work on the last of it.
            eventually("only the next client's memory is mapped", || held(pid).1 == CHANNEL_MAPPINGS);
            let before = *before.get_or_insert_with(|| held(pid));
            eventually("descriptors, mappings and threads are as they were", || held(pid) == before);
        }
    }
    drop(server);
    assert!(name.left().is_empty(), "{:?}", name.left());
    eventually("the memory is given back", || shared_memory() < memory + (64 << 20));
}

/// Clients that live on, and servers that are killed and replaced.
fn servers_die(kills: u64, dice: &mut Dice) {
    let name = named("servers-die");
    let mut server = spawn("serves", &[&name]);
    server.wait_for("bound");
    let mut clients = [spawn("calls", &[&name]), spawn("calls", &[&name])];
    clients.iter_mut().for_each(|client| client.wait_for("once"));
    let mut first = None;
    for kill in 0..kills {
        thread::sleep(Duration::from_micros(dice.below(20_000)));
        server.kill();
        server = spawn("serves", &[&name]);
        server.wait_for("bound");
        if kill % 25 == 24 {
            // A client holds one channel, or is on its way to the next, with what it is handed twice:
            // never more, however many servers have died.
            for client in &clients {
                let now = held(client.id());
                let first = first.get_or_insert(now);
                assert!(
                    now.0 <= first.0 + 16 && now.1 <= CHANNEL_MAPPINGS && now.2 <= first.2 + 1,
                    "{now:?}, not {first:?}"
                );
            }
        }
    }
    clients.iter_mut().for_each(Peer::kill);
    server.kill();
    drop(Server::<Transport>::bind(&name, &config()).unwrap());
    assert!(name.left().is_empty(), "{:?}", name.left());
}
