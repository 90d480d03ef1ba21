//! Clients that have connected to a server and not joined yet. Turn by turn, the server takes them, hears them, answers,
//! and drops those that are late.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::handshake::{Answer, Hello, JOINED, PACKET_BYTES, Verdict};
use super::limits::Limits;
use super::name::Held;
use super::supply::{Made, Supply};
use crate::crash::step;
use crate::error::AcceptError;
use crate::system::{Alarm, Credentials, Poller, Socket};
use crate::transport::{Kind, NewSide, Peer, fits};

/// The poller's key of the listening socket.
const LISTENER: u64 = 0;
/// The poller's key of the alarm.
const ALARM: u64 = 1;
/// How long a server that may take no further client, for want of descriptors for example, does not try again.
const REST: Duration = Duration::from_millis(50);
/// Clients that one turn takes, at most.
const ADMITTED: usize = 64;

/// Says whether a client may connect.
pub(super) type Filter = Box<dyn FnMut(&Peer) -> bool + Send>;

/// The outcome of a turn.
pub(super) enum Turn<C> {
    /// A client's channel.
    Joined(C),
    /// Something was done; there may be more to do.
    Something,
    /// There was nothing to do.
    Nothing,
}

/// How far a client has come that was heard.
enum Step<C> {
    /// It has more to say.
    On,
    Joined(C),
    /// It is gone, or not let in.
    Over,
}

/// A client whose handshake is not over.
struct Pending<C> {
    socket: Socket,
    peer: Peer,
    /// When it will have taken too long.
    until: Option<Instant>,
    /// Its channel, once it was welcomed. Should it join too late, it finds that closed.
    channel: Option<C>,
}

/// A server's clients that have not joined yet, and all that it takes to let them.
pub(super) struct Joining<C> {
    pub(super) held: Held,
    pub(super) supply: Supply,
    pub(super) limits: Limits,
    pub(super) filter: Option<Filter>,
    pub(super) poller: Poller,
    /// Set to when somebody will have taken too long, or the server has rested.
    alarm: Alarm,
    /// Whether the poller tells of those who connect.
    listens: bool,
    /// The time until which it does not, because the system refused a resource.
    rests: Option<Instant>,
    pending: HashMap<u64, Pending<C>>,
    next: u64,
    told: Vec<u64>,
}

impl<C: Kind> Joining<C> {
    pub(super) fn new(held: Held, mut supply: Supply) -> io::Result<Self> {
        let (poller, alarm, limits) = (Poller::new()?, Alarm::new()?, Limits::default());
        poller.add(&held.socket, LISTENER)?;
        poller.add(&alarm, ALARM)?;
        supply.prepare(&limits);
        Ok(Self {
            held,
            supply,
            limits,
            filter: None,
            poller,
            alarm,
            listens: true,
            rests: None,
            pending: HashMap::new(),
            next: ALARM + 1,
            told: Vec::new(),
        })
    }

    /// Waits for something to do, so long, and does it until a client has joined.
    pub(super) fn turn(&mut self, limit: Option<Duration>) -> Result<Turn<C>, AcceptError> {
        self.listen_if_free().map_err(refused("watch the socket"))?;
        let mut told = std::mem::take(&mut self.told);
        told.clear();
        match self.poller.wait(limit, &mut told) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(refused("wait")(error)),
            _ => {}
        }
        let mut done = Ok(if told.is_empty() { Turn::Nothing } else { Turn::Something });
        for &key in &told {
            done = match key {
                LISTENER => self.admit().map(|()| Turn::Something),
                ALARM => continue,
                key => self.go_on(key).map(|channel| channel.map_or(Turn::Something, Turn::Joined)),
            };
            // What is left is told again.
            if !matches!(done, Ok(Turn::Something)) {
                break;
            }
        }
        self.told = told;
        if !matches!(done, Ok(Turn::Joined(_))) {
            // Only now, when all that was said is heard.
            let now = Instant::now();
            self.pending.retain(|_, client| {
                let stays = client.until.is_none_or(|until| until > now);
                if !stays {
                    self.poller.remove(&client.socket);
                }
                stays
            });
        }
        // A wait for the descriptor works from here on. The next turn reports an error from now.
        let _ = self.listen_if_free();
        done
    }

    pub(super) fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        self.supply.renew(&self.limits);
        // The next accept tries again after an error now, and reports it.
        let _ = self.listen_if_free();
    }

    /// Listens unless there are too many who have not joined yet, and sets the alarm for the first who is late.
    fn listen_if_free(&mut self) -> io::Result<()> {
        let now = Instant::now();
        self.rests = self.rests.filter(|&rests| rests > now);
        let listens = self.rests.is_none() && (!self.is_full() || self.dispensable().is_some());
        if listens && !self.listens {
            self.poller.add(&self.held.socket, LISTENER)?;
        } else if !listens && self.listens {
            self.poller.remove(&self.held.socket);
        }
        self.listens = listens;
        let times = self.pending.values().filter_map(|client| client.until).chain(self.rests);
        self.alarm.set(times.min())
    }

    fn is_full(&self) -> bool {
        self.pending.len() >= self.limits.handshakes.max(1)
    }

    /// The oldest client of the process that has the most, if it has more than one.
    fn dispensable(&self) -> Option<u64> {
        let mut processes = HashMap::new();
        for (&key, client) in &self.pending {
            let (clients, oldest) = processes.entry(client.peer.pid).or_insert((0, key));
            (*clients, *oldest) = (*clients + 1, key.min(*oldest));
        }
        let (clients, oldest) = processes.into_values().max()?;
        (clients > 1).then_some(oldest)
    }

    /// Takes the clients that have connected.
    fn admit(&mut self) -> Result<(), AcceptError> {
        for _ in 0..ADMITTED {
            if self.is_full() && self.dispensable().is_none() {
                break;
            }
            let socket = match self.held.socket.accept() {
                Ok(Some(socket)) => socket,
                Ok(None) => break,
                Err(error) => {
                    // It would be told again at once.
                    self.rests = Some(Instant::now() + REST);
                    return Err(refused("accept")(error));
                }
            };
            step("accept: connected");
            let Ok(Credentials { pid, uid, gid }) = socket.peer() else { continue };
            let oldest = self.dispensable().filter(|_| self.is_full());
            if let Some(client) = oldest.and_then(|oldest| self.pending.remove(&oldest)) {
                self.poller.remove(&client.socket);
            }
            // A time that the clock cannot reach has no end.
            let until = Instant::now().checked_add(self.limits.handshake_time);
            let client = Pending { socket, peer: Peer { pid, uid, gid }, until, channel: None };
            let key = self.next;
            self.poller.add(&client.socket, key).map_err(refused("watch a client"))?;
            self.next += 1;
            self.pending.insert(key, client);
        }
        Ok(())
    }

    /// Goes on with a client that has said something, or is gone.
    fn go_on(&mut self, key: u64) -> Result<Option<C>, AcceptError> {
        let Some(mut client) = self.pending.remove(&key) else { return Ok(None) };
        let step = self.hear(&mut client);
        if matches!(step, Ok(Step::On)) {
            self.pending.insert(key, client);
            return Ok(None);
        }
        // To close it is not enough: a forked child that has it too would keep it watched.
        self.poller.remove(&client.socket);
        Ok(match step? {
            Step::Joined(channel) => Some(channel),
            Step::On | Step::Over => None,
        })
    }

    fn hear(&mut self, client: &mut Pending<C>) -> Result<Step<C>, AcceptError> {
        // More than a packet, so that a longer one is known.
        let mut packet = [0; PACKET_BYTES + 1];
        let packet = match client.socket.receive(&mut packet) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::On),
            Ok((1.., surprising)) if !surprising.is_empty() => return Ok(Step::Over),
            Ok((bytes @ 1.., _)) => &packet[..bytes],
            // It is gone.
            Ok(_) | Err(_) => return Ok(Step::Over),
        };
        match client.channel.take() {
            None => self.welcome(client, packet),
            Some(channel) if packet == JOINED && channel.peer_attached() => {
                step("accept: joined");
                Ok(Step::Joined(channel))
            }
            Some(_) => Ok(Step::Over),
        }
    }

    /// Answers a hello, with a channel if all is well.
    fn welcome(&mut self, client: &mut Pending<C>, packet: &[u8]) -> Result<Step<C>, AcceptError> {
        let offer = self.supply.offer();
        let refuse = |client: &Pending<C>, verdict| {
            // It may be gone.
            let _ = client.socket.send(&Answer::packet(&offer, verdict), &[]);
        };
        let verdict = match Hello::parse(packet) {
            Err(_) => Verdict::Version,
            Ok(hello) if hello.tag.is_some() && hello.tag != offer.tag => Verdict::Tag,
            Ok(hello) if !fits(hello.sends, offer.receives) || !fits(hello.receives, offer.sends) => {
                Verdict::Type
            }
            Ok(_) if self.filter.as_mut().is_some_and(|filter| !filter(&client.peer)) => Verdict::Refused,
            Ok(_) => Verdict::Welcome,
        };
        if verdict != Verdict::Welcome {
            refuse(client, verdict);
            return Ok(Step::Over);
        }
        let made = self.supply.take(&self.limits).inspect_err(|_| refuse(client, Verdict::Full))?;
        let Some(Made { guard, handed }) = made else {
            refuse(client, Verdict::Full);
            return Ok(Step::Over);
        };
        step("accept: made");
        let sent = client.socket.send(&Answer::packet(&offer, Verdict::Welcome), &handed.descriptors());
        step("accept: answered");
        let next = if sent.is_ok() {
            let (config, payloads) = (self.supply.config.clone(), self.supply.payloads);
            let side = NewSide { guard, config, payloads, peer: Some(client.peer) };
            client.channel = Some(C::from_side(side));
            Step::On
        } else {
            Step::Over
        };
        drop(handed);
        // The client joins meanwhile.
        self.supply.prepare(&self.limits);
        Ok(next)
    }
}

pub(super) fn refused(action: &'static str) -> impl FnOnce(io::Error) -> AcceptError {
    move |source| AcceptError::Io { action, source }
}
