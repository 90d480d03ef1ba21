//! A server: one bridge stands in for it and takes its clients, the other is a client of it for each of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use capnproto_shm_transport::{AcceptError, Channels, Life, Server, Side, Transport};
use zenoh::query::Query;

use crate::ending::Ending;
use crate::error::Refusal;
use crate::greet::{answer as reply, say_hello};
use crate::hello::{Answer, Hello, Shape, Wish};
use crate::link::{Link, Part};
use crate::session::carry;
use crate::shared::{Event, Place, Shared, random, spawn, tell};

/// How often the other bridge is asked for its server.
const ASK: Duration = Duration::from_millis(500);
/// How long it is left alone once something was wrong.
const REST: Duration = Duration::from_secs(5);
/// How long a server may take to take a client.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a wait for a client lasts before everything else has its turn.
const TICK: Duration = Duration::from_millis(100);

/// Where the clients are: takes the server's name here while the other bridge has a server.
pub(crate) fn stand_in(shared: &Arc<Shared>) {
    let crate::Names::One(name) = &shared.options.names else { return };
    let mut said = None;
    // Those who have a channel keep it while the server over there takes nobody else.
    let mut clients = Vec::new();
    while !shared.leaves() {
        let mut pause = ASK;
        if let Err(refusal) = serve(shared, name, &mut clients) {
            // Each hello costs the server a look.
            pause = REST;
            // Once for each reason.
            let text = refusal.to_string();
            if said.as_ref() != Some(&text) {
                shared.report(name, &Event::Refused(refusal));
                said = Some(text);
            }
        }
        let until = Instant::now() + pause;
        while !shared.leaves() && Instant::now() < until {
            thread::sleep(TICK);
        }
    }
    for client in clients {
        if let Err(panic) = client.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Serves until the other bridge does not take a client, or this one leaves.
fn serve(shared: &Arc<Shared>, name: &str, clients: &mut Vec<JoinHandle<()>>) -> Result<(), Refusal> {
    let config = &shared.options.config;
    let is_here = |info: &capnproto_shm_transport::ServerInfo| info.name == name && info.life == Life::Alive;
    if shared.options.side.is_none() && Channels::servers_with(config).unwrap_or_default().iter().any(is_here)
    {
        // The server itself is here.
        return Ok(());
    }
    let shape = match say_hello(shared, &Hello::new(name, Wish::Shape, 0, 0))? {
        Some(Answer::Shape(shape)) => shape,
        Some(Answer::Refused { reason, for_good: true }) => return Err(Refusal::There(reason)),
        Some(Answer::Accepted { .. }) => {
            return Err(Refusal::Foreign("it takes the server for a channel".to_owned()));
        }
        Some(Answer::Refused { .. }) | None => return Ok(()),
    };
    let config = shape.config(config, shared.options.memory).map_err(Refusal::Here)?;
    let mut server = Server::<Transport>::bind(name, &config)?;
    shared.report(name, &Event::Waits);
    let refused = Arc::new(AtomicBool::new(false));
    while !shared.leaves() && !refused.load(Ordering::Relaxed) {
        let client = match server.accept_timeout(TICK) {
            Ok(client) => client,
            Err(AcceptError::Timeout) => continue,
            Err(error) => {
                shared.report(name, &Event::Refused(error.into()));
                continue;
            }
        };
        clients.retain(|client| !client.is_finished());
        let (shared, shape, refused, name) =
            (Arc::clone(shared), shape.clone(), Arc::clone(&refused), name.to_owned());
        clients.push(spawn("bridge: client", move || {
            let Some(place) = shared.place(&name, Side::A) else { return };
            if !tell(&shared, &name, pass_client_on(&shared, &place, client, shape)) {
                // The server over there may be gone: then there is none here either.
                refused.store(true, Ordering::Relaxed);
            }
        })?);
    }
    Ok(())
}

/// Bridges one client here to the server over there.
fn pass_client_on(
    shared: &Arc<Shared>,
    place: &Place,
    client: Transport,
    shape: Shape,
) -> Result<Option<Ending>, Refusal> {
    let (session, comes) = (random(), shape.a_to_b);
    let window = shared.window(&comes);
    let link = Link::open(&shared.zenoh, &shared.key(&place.name), session, Part::Asks, comes, window);
    let accepted = link.map_err(Refusal::from).and_then(|link| {
        let link = Arc::new(link);
        place.show(&link);
        let hello = Hello::new(&place.name, Wish::Client { shape }, session, window);
        match say_hello(shared, &hello)? {
            Some(Answer::Accepted { window }) => Ok((link, window)),
            Some(Answer::Refused { reason, .. }) => Err(Refusal::There(reason)),
            Some(Answer::Shape(_)) => {
                Err(Refusal::Foreign("it tells of a shape that was not asked for".to_owned()))
            }
            None => Err(Refusal::There("the bridge of the server is gone".to_owned())),
        }
    });
    match accepted {
        Ok((link, window)) => {
            place.bridged(client.stats_handle());
            Ok(Some(carry(client, &link, window, &shared.options, &shared.leave)?))
        }
        Err(refusal) => {
            // To the client it is as if its server had died.
            client.abandon();
            Err(refusal)
        }
    }
}

/// Where the server is: tells what its channels are, or becomes one more client of it.
pub(crate) fn answer_client(
    shared: &Arc<Shared>,
    place: &Place,
    hello: &Hello,
    query: Query,
) -> Result<Option<Ending>, Refusal> {
    let refuse = |reason: String| reply(&query, &Answer::Refused { reason, for_good: false });
    let connected =
        Transport::connect_with(&hello.name, CONNECT.min(shared.options.timeout / 2), &shared.options.config);
    let mut transport = match connected {
        Ok(transport) => transport,
        Err(error) => {
            refuse(error.to_string())?;
            // A server that is not there yet is nothing to tell of.
            return if matches!(hello.wish, Wish::Shape) { Ok(None) } else { Err(error.into()) };
        }
    };
    let shape = Shape::of_side_b(&mut transport).map_err(Refusal::Here)?;
    let Wish::Client { shape: expected } = &hello.wish else {
        reply(&query, &Answer::Shape(shape))?;
        return Ok(None);
    };
    if shape != *expected {
        let reason = "the server's channels are not what they were; its bridge asks again".to_owned();
        refuse(reason.clone())?;
        return Err(Refusal::Here(reason));
    }
    let comes = shape.b_to_a;
    let window = shared.window(&comes);
    let key = shared.key(&hello.name);
    let link = Arc::new(Link::open(&shared.zenoh, &key, hello.session, Part::Answers, comes, window)?);
    place.show(&link);
    reply(&query, &Answer::Accepted { window })?;
    // Whoever asked waits for further answers until this is gone.
    drop(query);
    place.bridged(transport.stats_handle());
    Ok(Some(carry(transport, &link, hello.window, &shared.options, &shared.leave)?))
}
