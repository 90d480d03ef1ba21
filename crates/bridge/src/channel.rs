//! A channel with a name: one bridge joins it as side B, the other makes it anew as side A.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{ChannelInfo, Life, OpenError, Transport};
use zenoh::query::Query;

use crate::ending::Ending;
use crate::error::{BridgeError, Refusal};
use crate::frame::{End, Frame, Kind};
use crate::greet::{answer as reply, say_hello};
use crate::hello::{Answer, Hello, Shape, Wish};
use crate::link::{Beat, Link, Part};
use crate::session::carry;
use crate::shared::{Event, Place, Shared, random};
use crate::work::Stop;

/// How often a bridge asks for the other one, and looks whether its own channel still waits.
const ASK: Duration = Duration::from_millis(250);
/// How long nobody has answered when that is said.
const ALONE: Duration = Duration::from_secs(1);
/// How long the other bridge is waited for once there is nothing to join.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Where side A is: asks the other bridge for a side B, waits until one is there, and joins. None: side A left meanwhile.
pub(crate) fn ask(
    shared: &Arc<Shared>,
    place: &Place,
    info: &ChannelInfo,
) -> Result<Option<Ending>, Refusal> {
    let options = &shared.options;
    let name = &info.name;
    let (Some(shape), Some(generation)) = (Shape::of(info).map_err(Refusal::Here)?, info.generation) else {
        return Ok(None);
    };
    let still_waits = || {
        ChannelInfo::of_with(name, &options.config).is_ok_and(|now| {
            now.generation == Some(generation) && now.a.life == Life::Alive && now.b.life == Life::Absent
        })
    };
    let session = random();
    let comes = shape.b_to_a;
    let link = Arc::new(Link::open(
        &shared.zenoh,
        &shared.key(name),
        session,
        Part::Asks,
        comes,
        shared.window(&comes),
    )?);
    place.show(&link);
    let wish = Wish::Channel { shape };
    let hello = Hello::new(name, wish, session, shared.window(&comes));
    let began = Instant::now();
    let mut alone = false;
    let window = loop {
        match say_hello(shared, &hello)? {
            Some(Answer::Accepted { window }) => break window,
            Some(Answer::Refused { reason, .. }) => return Err(Refusal::There(reason)),
            Some(Answer::Shape(_)) => {
                return Err(Refusal::Foreign("it takes the channel for a server".to_owned()));
            }
            None => {}
        }
        if !alone && began.elapsed() >= ALONE {
            alone = true;
            shared.report(name, &Event::Alone);
        }
        thread::sleep(ASK);
        if shared.leaves() || !still_waits() {
            return Ok(None);
        }
    };
    link.inbox.hear();
    shared.report(name, &Event::Waits);
    let mut beat = Beat::new(options.timeout);
    let mut looked = Instant::now();
    while !link.inbox.attached() {
        if let Some(ending) = link.keep_up(&mut beat)? {
            return Ok(Some(ending));
        }
        if link.inbox.stopped().is_some() {
            return Ok(Some(Ending::Closed));
        }
        let looks = looked.elapsed() >= ASK;
        if shared.leaves() || (looks && !still_waits()) {
            give_up(&link, End::Closed)?;
            return Ok(None);
        }
        if looks {
            looked = Instant::now();
        }
    }
    // Side A may have died since the last look, and another one come, which must not be joined for this one's side B: a
    // generation is joined once, and the next one has a hello of its own.
    if !still_waits() {
        give_up(&link, End::Died)?;
        return Ok(None);
    }
    let transport = match Transport::open_with(name, Duration::ZERO, &options.config) {
        Ok(transport) if transport.generation() == generation => transport,
        other => {
            // It came after that look even so: it learns that whoever joined it is gone.
            let joined = other.map(Transport::abandon);
            give_up(&link, End::Died)?;
            return match joined {
                Ok(()) | Err(OpenError::Timeout { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            };
        }
    };
    place.bridged(transport.stats_handle());
    Ok(Some(carry(transport, &link, window, options, &shared.leave)?))
}

/// Tells the other bridge that there is nothing to join.
fn give_up(link: &Link, end: End) -> Result<(), BridgeError> {
    link.outbox.send_end(Kind::SenderEnded, end)?;
    link.outbox.send_end(Kind::ReceiverEnded, end)?;
    // Until it has them: afterwards nothing is kept.
    let mut beat = Beat::new(Duration::from_millis(400));
    let until = Instant::now() + GIVE_UP;
    while !link.outbox.is_empty() && link.inbox.gone_for().is_none() && Instant::now() < until {
        let _ = link.keep_up(&mut beat)?;
    }
    Ok(())
}

/// Where side B is to be: makes the channel, and tells the other bridge when side B has come.
pub(crate) fn answer(
    shared: &Arc<Shared>,
    place: &Place,
    hello: &Hello,
    query: Query,
) -> Result<Option<Ending>, Refusal> {
    let options = &shared.options;
    let Wish::Channel { shape } = &hello.wish else { return Ok(None) };
    let made = shape.config(&options.config, options.memory).map_err(Refusal::Here);
    let made = made.and_then(|config| Ok(Transport::create(&hello.name, &config)?));
    let transport = match made {
        Ok(transport) => transport,
        Err(refusal) => {
            reply(&query, &Answer::Refused { reason: refusal.to_string(), for_good: false })?;
            return Err(refusal);
        }
    };
    let comes = shape.a_to_b;
    let window = shared.window(&comes);
    let key = shared.key(&hello.name);
    let link = Arc::new(Link::open(&shared.zenoh, &key, hello.session, Part::Answers, comes, window)?);
    place.show(&link);
    reply(&query, &Answer::Accepted { window })?;
    // Whoever asked waits for further answers until this is gone.
    drop(query);
    shared.report(&hello.name, &Event::Waits);
    let mut beat = Beat::new(options.timeout);
    while !transport.peer_attached() {
        let lost = link.keep_up(&mut beat)?;
        if lost.is_some() {
            transport.abandon();
            return Ok(lost);
        }
        if let Some(Stop::There(end) | Stop::Here(end)) = link.inbox.stopped() {
            if end == End::Died {
                transport.abandon();
            }
            // The other bridge waits until it knows that this is known.
            link.outbox.note(false)?;
            return Ok(Some(if end == End::Died { Ending::Died } else { Ending::Closed }));
        }
        if shared.leaves() {
            drop(transport);
            give_up(&link, End::Closed)?;
            return Ok(Some(Ending::Left));
        }
    }
    if let Err(error) = link.outbox.send(Kind::Attached, Frame::with_capacity(0)) {
        transport.abandon();
        return Err(error.into());
    }
    place.bridged(transport.stats_handle());
    Ok(Some(carry(transport, &link, hello.window, options, &shared.leave)?))
}
