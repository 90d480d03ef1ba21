//! Requests shared out to clients: an idle worker gets the next. A worker that is killed loses nothing, because
//! its unanswered requests go to another.
//!
//! `cargo run --release --example workers` starts all processes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::env;
use std::error::Error;
use std::process::Command;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use capnproto_shm_transport::{AcceptError, Channel, Config, RecvError, Server, WaitSet};

/// Is this number a prime?
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Request {
    number: u64,
}

#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Answer {
    number: u64,
    is_prime: u64,
}

const WORKERS: usize = 4;
const NUMBERS: u64 = 20_000;
/// Requests that a worker has at once: enough that it never waits for the next.
const AHEAD: usize = 8;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => share_out(&format!("workers-{}", std::process::id())),
        ["worker", name] => worker(name),
        _ => Err("usage: workers (it starts its workers itself)".into()),
    }
}

/// Answers until there are no more requests.
fn worker(name: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = Channel::<Answer, Request>::connect(name, PATIENCE)?;
    let (answers, requests) = channel.halves();
    loop {
        let number = match requests.recv() {
            Ok(request) => request.number,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_prime = number > 1 && (2..).take_while(|d| d * d <= number).all(|d| number % d != 0);
        answers.send(&Answer { number, is_prime: is_prime.into() })?;
    }
}

/// The key of the server itself in the set; its workers have the keys above.
const SERVER: u64 = 0;

/// A worker, and what it has not answered yet.
struct Worker {
    channel: Channel<Request, Answer>,
    open: VecDeque<u64>,
}

impl Worker {
    /// Gives it what it may have more.
    fn feed(&mut self, requests: &mut VecDeque<u64>) {
        while self.open.len() < AHEAD {
            let Some(number) = requests.pop_front() else { return };
            if self.channel.try_send(&Request { number }).is_err() {
                // It is gone: its requests go to another once that is known.
                return requests.push_front(number);
            }
            self.open.push_back(number);
        }
    }
}

fn share_out(name: &str) -> Result<(), Box<dyn Error>> {
    let mut server = Server::<Channel<Request, Answer>>::bind(name, &Config::new().slot_count(AHEAD))?;
    let start = |_| Command::new(env::current_exe()?).args(["worker", name]).spawn();
    let mut children = (0..WORKERS).map(start).collect::<Result<Vec<_>, _>>()?;

    let mut set = WaitSet::new()?;
    set.insert_fd(SERVER, server.wait_fd())?;
    let (mut workers, mut next) = (HashMap::new(), SERVER + 1);
    let mut requests: VecDeque<u64> = (0..NUMBERS).collect();
    let (mut primes, mut died) = (BTreeMap::new(), 0);
    while primes.len() < NUMBERS as usize || died == 0 {
        for key in set.wait(Some(PATIENCE))?.to_vec() {
            if key == SERVER {
                match server.try_accept() {
                    Ok(mut channel) => {
                        set.insert(next, channel.halves().1)?;
                        workers.insert(next, Worker { channel, open: VecDeque::new() });
                        next += 1;
                    }
                    Err(AcceptError::Empty) => {}
                    Err(error) => eprintln!("{error}"),
                }
                continue;
            }
            let Some(worker) = workers.get_mut(&key) else { continue };
            let end = loop {
                match worker.channel.try_recv_copied() {
                    Ok(answer) => {
                        worker.open.retain(|number| *number != answer.number);
                        primes.insert(answer.number, answer.is_prime != 0);
                    }
                    Err(RecvError::Empty) => break false,
                    Err(_) => break true,
                }
            };
            if end {
                set.remove(key);
                let gone = workers.remove(&key);
                requests.extend(gone.into_iter().flat_map(|worker| worker.open));
                died += 1;
            }
        }
        // Half way one dies.
        if died == 0 && primes.len() > NUMBERS as usize / 2 {
            children[0].kill()?;
        }
        // Not before all have come, so that none finds the server gone.
        if next > WORKERS as u64 {
            workers.values_mut().for_each(|worker| worker.feed(&mut requests));
        }
    }
    println!("{} primes below {NUMBERS}; {died} workers died", primes.values().filter(|p| **p).count());
    drop((set, workers, server));
    for (at, mut child) in children.into_iter().enumerate() {
        let status = child.wait()?;
        if at > 0 && !status.success() {
            return Err(format!("a worker failed: {status}").into());
        }
    }
    Ok(())
}
