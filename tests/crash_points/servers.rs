//! Death at each step of a server's and a client's handshake: the other goes on, the name is free, nothing is left.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{
    AcceptError, Config, CreateError, Missing, OpenError, RecvError, Server, Transport, WaitSet, crash,
};

use crate::child::{Doomed, ROLE, say};
use crate::common::{LONG, Name, eventually, named};
use crate::deaths::{SERVERS, steps_in};

const OPERATIONS: [&str; 6] = ["bind", "bind over a leftover", "unbind", "accept", "connect", "notify"];
/// A server that is awake when it should sleep gives an operation fewer steps; so often it is tried again.
const TRIES: usize = 50;

fn config() -> Config {
    Config::new().slot_size(64).slot_count(4)
}

fn bind(name: &str) -> Server<Transport> {
    Server::bind(name, &config()).unwrap()
}

/// Dies in an operation.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let [operation, name, step] = role.split('\x1f').collect::<Vec<_>>()[..] else { panic!("{role}") };
    let mut server = matches!(operation, "unbind" | "accept").then(|| bind(name));
    let mut client = (operation == "notify").then(|| Transport::connect(name, LONG).unwrap());
    say("ready");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    if client.is_some() {
        // Lets the server fall asleep.
        thread::sleep(Duration::from_millis(5));
    }
    crash::seen();
    crash::arm(step.parse().unwrap());
    let kept: Box<dyn Any> = match operation {
        "unbind" => {
            drop(server.take());
            Box::new(())
        }
        "accept" => Box::new(server.as_mut().unwrap().accept().unwrap()),
        "notify" => {
            client.as_mut().unwrap().send(b"notified").unwrap();
            Box::new(())
        }
        "connect" => Box::new(Transport::connect(name, LONG).unwrap()),
        _ => Box::new(bind(name)),
    };
    crash::arm(0);
    say(&crash::seen().join(","));
    let _kept = (kept, server, client);
    crash::kill();
}

/// A child's end in an operation, and the steps that it came through if it was not armed.
fn die(operation: &str, step: usize) -> Option<Vec<String>> {
    let name = named(&format!("{}-{step}", operation.replace(' ', "-")));
    if operation == "bind over a leftover" {
        // All that a server may leave: one that never got its name, too.
        let mut first = Doomed::begin("servers::child", format!("bind\x1f{}\x1f0", &*name));
        first.line().unwrap();
        first.go();
        assert!(first.was_killed());
        let aside = crate::common::directory().join(format!("{}.fs.socket.0123456789abcdef", &*name));
        std::fs::write(aside, "").unwrap();
        assert_eq!(name.left().len(), 3, "{:?}", name.left());
    }
    if operation == "notify" {
        return notified(&name, step);
    }
    let mut doomed = Doomed::begin("servers::child", format!("{operation}\x1f{}\x1f{step}", &*name));
    assert_eq!(doomed.line().unwrap(), "ready");
    match operation {
        "accept" => accepted(&name, doomed),
        "connect" => connected(&name, doomed),
        _ => {
            let lived = end_of(&mut doomed);
            let missing = Transport::connect(&name, Duration::ZERO).unwrap_err();
            assert!(matches!(missing, OpenError::Timeout { missing: Missing::Server, .. }), "{missing}");
            usable(&name, bind(&name));
            lived
        }
    }
}

/// Lets the child go, and waits for its end.
fn end_of(doomed: &mut Doomed) -> Option<Vec<String>> {
    doomed.go();
    let lived = doomed.line().map(|steps| steps.split(',').map(str::to_owned).collect());
    assert!(doomed.was_killed(), "killed, not failed");
    lived
}

/// The child is the server: its client joins the next, at once or after it has learned of the death.
fn accepted(name: &Name, mut doomed: Doomed) -> Option<Vec<String>> {
    let client = thread::spawn({
        let name = name.to_string();
        move || loop {
            let mut client = Transport::connect(&name, LONG).unwrap();
            match client.recv() {
                Ok(message) => return message.to_vec(),
                Err(RecvError::PeerDead) => {}
                Err(other) => panic!("{other}"),
            }
        }
    });
    let lived = end_of(&mut doomed);
    let mut next = match Server::<Transport>::bind(name, &config()) {
        Ok(next) => next,
        Err(CreateError::InUse { .. }) => panic!("a dead server holds the name"),
        Err(other) => panic!("{other}"),
    };
    let mut channel = next.accept().unwrap();
    channel.send(b"from the next").unwrap();
    assert_eq!(client.join().unwrap(), b"from the next");
    drop(channel);
    assert_eq!(next.clients(), 0);
    usable(name, next);
    lived
}

/// The child is the client: the server has its channel, and learns of the death, or has nothing of it.
fn connected(name: &Name, mut doomed: Doomed) -> Option<Vec<String>> {
    let mut server = bind(name);
    let watcher = thread::spawn(move || end_of(&mut doomed));
    let mut channel = None;
    while !watcher.is_finished() {
        match server.accept_timeout(Duration::from_millis(1)) {
            Ok(accepted) => channel = Some(accepted),
            Err(AcceptError::Timeout) => {}
            Err(other) => panic!("{other}"),
        }
    }
    let lived = watcher.join().unwrap();
    // Its last words.
    eventually("all that it said is heard", || {
        channel = channel.take().or(server.try_accept().ok());
        server.clients() == usize::from(channel.is_some())
    });
    if let Some(mut channel) = channel {
        let end = channel.recv().map(|_| ()).unwrap_err();
        assert!(matches!(end, RecvError::PeerDead), "{end}");
    } else {
        assert!(lived.is_none(), "it came through, so it has a channel");
    }
    assert_eq!(server.clients(), 0);
    usable(name, server);
    lived
}

/// The child is a client that wakes its server, which sleeps on a descriptor: the server has the message or not, and knows
/// of the death.
fn notified(name: &Name, step: usize) -> Option<Vec<String>> {
    let mut server = bind(name);
    let mut doomed = Doomed::begin("servers::child", format!("notify\x1f{}\x1f{step}", &**name));
    let mut channel = server.accept().unwrap();
    assert_eq!(doomed.line().unwrap(), "ready");
    let (_, from_client) = channel.halves();
    let mut set = WaitSet::new().unwrap();
    set.insert(0, from_client).unwrap();
    let watcher = thread::spawn(move || end_of(&mut doomed));
    assert_eq!(set.wait(Some(LONG)).unwrap(), [0]);
    let received = from_client.recv().map(|message| message.to_vec());
    let lived = watcher.join().unwrap();
    match received {
        Ok(message) => {
            assert_eq!(message, b"notified");
            assert!(matches!(from_client.recv(), Err(RecvError::PeerDead)));
        }
        Err(end) => assert!(lived.is_none() && matches!(end, RecvError::PeerDead), "{end}"),
    }
    drop((set, channel));
    usable(name, server);
    lived
}

/// The server serves, and leaves nothing.
fn usable(name: &Name, mut server: Server<Transport>) {
    let client = thread::spawn({
        let name = name.to_string();
        move || Transport::connect(&name, LONG).unwrap().recv().unwrap().to_vec()
    });
    let mut channel = server.accept().unwrap();
    channel.send(b"there").unwrap();
    assert_eq!(client.join().unwrap(), b"there");
    drop((channel, server));
    assert!(name.left().is_empty(), "{:?}", name.left());
}

#[test]
fn a_server_or_a_client_that_dies_at_any_step_harms_nobody() {
    let mut killed_at = BTreeSet::new();
    let mut killed = 0;
    for operation in OPERATIONS {
        let steps = die(operation, 0).expect("nothing kills a child that is not armed");
        for step in 1..=steps.len() {
            let died = (0..TRIES).any(|_| die(operation, step).is_none());
            assert!(died, "{operation} never came to step {step}");
        }
        println!("{operation:<22} {:>2} steps", steps.len());
        killed += steps.len();
        killed_at.extend(steps);
    }
    killed_at.retain(|step| SERVERS.iter().any(|operation| step.starts_with(operation)));
    let mut steps = steps_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    steps.retain(|step| SERVERS.iter().any(|operation| step.starts_with(operation)));
    assert_eq!(killed_at, steps, "each step of the source");
    println!("guarantee: steps of servers killed: {killed}");
}
