//! Calls and answers: several requests under way at once, answered in any order, matched by their id.
//!
//! `cargo run --example request_reply` starts both processes.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{Channel, Config, RecvError};

/// "What is the smallest factor of `number`?"
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Request {
    id: u64,
    number: u64,
}

#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Reply {
    id: u64,
    factor: u64,
}

const CALLS: u64 = 10_000;
/// Requests under way at once. At most the ring's slots, so that client and server never both wait for room.
const WINDOW: usize = 16;
const PATIENCE: Duration = Duration::from_secs(5);

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => client(&format!("request-reply-{}", std::process::id())),
        ["server", name] => server(name),
        _ => Err("usage: request_reply (it starts its second process itself)".into()),
    }
}

/// Side A sends requests and receives replies.
fn client(name: &str) -> Result {
    let mut channel = Channel::<Request, Reply>::create(name, &Config::new().slot_count(64))?;
    let child = Command::new(env::current_exe()?).args(["server", name]).spawn()?;

    let mut pending = HashMap::with_capacity(WINDOW);
    let (mut next, mut overtook) = (0, 0);
    while next < CALLS || !pending.is_empty() {
        // Fill the window. The batch makes its requests visible together, with at most one wake-up.
        let mut batch = channel.batch();
        while next < CALLS && pending.len() < WINDOW {
            let request = Request { id: next, number: 1_000_003 + next };
            batch.try_send(&request)?;
            pending.insert(request.id, request.number);
            next += 1;
        }
        batch.publish();

        let reply = channel.recv_timeout(PATIENCE)?;
        let number = pending.remove(&reply.id).ok_or("an answer to no question")?;
        if reply.factor < 2 || number % reply.factor != 0 {
            return Err(format!("{} is no factor of {number}", reply.factor).into());
        }
        // An older question still waits: this answer came before its own.
        overtook += u64::from(pending.keys().any(|&id| id < reply.id));
    }
    println!("{CALLS} calls answered, up to {WINDOW} at once; {overtook} answers overtook an older one");

    drop(channel);
    success(child)
}

/// Side B's types are the other way round. It answers until the client closes the channel.
fn server(name: &str) -> Result {
    let mut channel = Channel::<Reply, Request>::open(name, PATIENCE)?;
    let (replies, requests) = channel.halves();
    let mut waiting: Vec<Request> = Vec::with_capacity(WINDOW);
    loop {
        match requests.recv_timeout(PATIENCE) {
            Ok(request) => waiting.push(*request),
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        // All other requests that are there already. Even numbers have a factor at once, so they go first.
        requests.drain(WINDOW, |request| waiting.push(*request))?;
        waiting.sort_by_key(|request| request.number % 2);
        for request in waiting.drain(..) {
            // The answer is worked out in the slot that carries it.
            let mut reply = replies.reserve_timeout(PATIENCE)?;
            reply.id = request.id;
            reply.factor = smallest_factor(request.number);
            reply.commit();
        }
    }
}

fn smallest_factor(number: u64) -> u64 {
    (2..).take_while(|f| f * f <= number).find(|f| number % f == 0).unwrap_or(number)
}

fn success(mut child: Child) -> Result {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the other process failed: {status}").into()) }
}
