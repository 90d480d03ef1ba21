//! A server with one thread and many clients: it answers each call in capitals. One of its clients is killed, and another
//! comes in its place.
//!
//! `cargo run --release --example server` starts all processes.

use std::collections::HashMap;
use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use capnproto_shm_transport::{AcceptError, Config, RecvError, Server, Transport, WaitSet};

const CLIENTS: usize = 10;
const CALLS: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => server(&format!("server-{}", std::process::id())),
        ["client", name] => client(name),
        ["idle", name] => idle(name),
        _ => Err("usage: server (it starts its clients itself)".into()),
    }
}

fn client(name: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = Transport::connect(name, PATIENCE)?;
    for call in 0..CALLS {
        let question = format!("call {call} of {}", std::process::id());
        channel.send(question.as_bytes())?;
        if *channel.recv()? != *question.to_uppercase().as_bytes() {
            return Err(format!("a wrong answer to {question}").into());
        }
    }
    Ok(())
}

/// Calls once, and waits to be killed.
fn idle(name: &str) -> Result<(), Box<dyn Error>> {
    let mut channel = Transport::connect(name, PATIENCE)?;
    channel.send(b"hello")?;
    let _ = channel.recv()?;
    Err(format!("nobody killed this client: {:?}", channel.recv().err()).into())
}

/// The key of the server itself in the set; its clients have the keys above.
const SERVER: u64 = 0;

fn server(name: &str) -> Result<(), Box<dyn Error>> {
    let mut server = Server::<Transport>::bind(name, &Config::new().slot_count(16))?;
    let start = |role| Command::new(env::current_exe()?).args([role, name]).spawn();
    let mut victim = start("idle")?;
    let mut others = (1..CLIENTS).map(|_| start("client")).collect::<Result<Vec<_>, _>>()?;

    let mut set = WaitSet::new()?;
    set.insert_fd(SERVER, server.wait_fd())?;
    let (mut clients, mut next) = (HashMap::new(), SERVER + 1);
    let (mut calls, mut closed, mut died) = (0, 0, 0);
    while closed < CLIENTS {
        for key in set.wait(Some(PATIENCE))?.to_vec() {
            if key == SERVER {
                match server.try_accept() {
                    Ok(mut channel) => {
                        set.insert(next, channel.halves().1)?;
                        clients.insert(next, channel);
                        next += 1;
                    }
                    // It was about somebody who has not joined yet.
                    Err(AcceptError::Empty) => {}
                    Err(error) => eprintln!("{error}"),
                }
                continue;
            }
            let Some(channel) = clients.get_mut(&key) else { continue };
            let is_victim = channel.peer().is_some_and(|peer| peer.pid == victim.id());
            match answer(channel, &mut calls) {
                Ok(()) if is_victim => kill(&mut victim)?,
                Ok(()) => {}
                Err(end) => {
                    set.remove(key);
                    clients.remove(&key);
                    match end {
                        RecvError::Closed => closed += 1,
                        _ => died += 1,
                    }
                    if is_victim {
                        others.push(start("client")?);
                    }
                }
            }
        }
    }
    println!("{calls} calls answered; {closed} clients left in order, {died} died");
    for mut child in others {
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("a client failed: {status}").into());
        }
    }
    Ok(())
}

/// Answers what has been asked, and counts the calls.
fn answer(channel: &mut Transport, calls: &mut usize) -> Result<(), RecvError> {
    let (answers, questions) = channel.halves();
    loop {
        let question = match questions.try_recv() {
            Ok(question) => question,
            Err(RecvError::Empty) => return Ok(()),
            Err(end) => return Err(end),
        };
        // A client that calls and does not read its answers has no room for more. An honest client has.
        if answers.try_send(&question.to_ascii_uppercase()).is_err() {
            return Err(RecvError::Closed);
        }
        *calls += 1;
    }
}

fn kill(child: &mut Child) -> Result<(), Box<dyn Error>> {
    child.kill()?;
    child.wait()?;
    Ok(())
}
