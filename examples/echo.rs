//! The shortest two-way loop: side B sends back whatever comes, straight from the slot in which it came.
//!
//! `cargo run --release --example echo` starts both processes.

use std::env;
use std::error::Error;
use std::process::Command;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, RecvError, Transport};

const CALLS: u32 = 100_000;
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => caller(&format!("echo-{}", std::process::id())),
        ["echo", name] => echo(name),
        _ => Err("usage: echo (it starts its second process itself)".into()),
    }
}

/// Side B, until side A closes.
fn echo(name: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = Transport::open(name, PATIENCE)?;
    // A message that is borrowed occupies the receiving half. The other half answers it.
    let (answers, questions) = channel.halves();
    loop {
        match questions.recv() {
            Ok(question) => answers.send(&question)?,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Side A.
fn caller(name: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = Transport::create(name, &Config::new())?;
    let mut child = Command::new(env::current_exe()?).args(["echo", name]).spawn()?;
    channel.wait_for_peer(PATIENCE)?;

    let began = Instant::now();
    for call in 0..CALLS {
        channel.send(&call.to_ne_bytes())?;
        if *channel.recv()? != call.to_ne_bytes() {
            return Err(format!("call {call} came back changed").into());
        }
    }
    println!("{CALLS} messages there and back, {} ns each", began.elapsed().as_nanos() / u128::from(CALLS));

    drop(channel);
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the other process failed: {status}").into()) }
}
