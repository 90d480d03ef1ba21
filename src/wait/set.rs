//! One thread that waits for many channels.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::poll::{Readiness, WaitStats};
use crate::protocol::Kernel;
use crate::sync::spin_loop;
use crate::system::{Host, Poller};
use crate::transport::ReceiveHalf;

/// Looks between two readings of the clock.
const LOOKS: u32 = 128;

/// Waits for messages on many channels at once, in one thread.
///
/// Each receiving half is put in under a key of the user's. A wait returns the keys of those that have something to
/// receive or whose peer is gone, and costs the same however many others are in the set.
///
/// ```
/// use capnproto_shm_transport::{Config, Transport, WaitSet};
///
/// # let name = format!("doc-wait-set-{}", std::process::id());
/// # let wait = std::time::Duration::from_secs(1);
/// let mut a = Transport::create(&name, &Config::new())?;
/// let mut b = Transport::open(&name, wait)?;
/// let (_, from_a) = b.halves();
///
/// let mut set = WaitSet::new()?;
/// set.insert(7, from_a)?;
/// assert!(set.wait(Some(std::time::Duration::ZERO))?.is_empty());
/// a.send(b"hello")?;
/// assert_eq!(set.wait(None)?, [7]);
/// assert_eq!(&*from_a.try_recv()?, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A key is returned again as long as its half has messages that it has not released, and after its peer's end until it
/// is removed. A half that is dropped is forgotten. One that belongs to a channel that was reopened must be inserted
/// again. A half belongs in one set at a time, and is not to be waited for otherwise meanwhile: calls that do not wait may
/// come at any time. A key may be returned though there is nothing but the filling that a long message has left at the end
/// of the ring. An [`Interrupter`](crate::Interrupter) does not end a set's wait, and neither does a signal: another thread
/// ends it by a descriptor that the set has, of a pipe for example.
#[derive(Debug)]
pub struct WaitSet {
    poller: Poller,
    members: HashMap<u64, Member>,
    /// Descriptors of others.
    others: HashMap<u64, OwnedFd>,
    /// Members that do not sleep on their events, each once: those of the last wait, and those inserted since.
    awake: Vec<u64>,
    /// Others of these: those that have something to say.
    ready: Vec<u64>,
    told: Vec<u64>,
    stats: WaitStats,
}

/// A half in a set.
#[derive(Debug)]
struct Member {
    readiness: Arc<Readiness>,
    /// Whether it sleeps on its event. Otherwise the set has its key among those that are awake, or ready.
    asleep: bool,
}

impl WaitSet {
    /// An empty set.
    ///
    /// # Errors
    ///
    /// If the system gives no descriptor.
    pub fn new() -> io::Result<Self> {
        let (members, others, stats) = (HashMap::new(), HashMap::new(), WaitStats::default());
        let (awake, ready, told) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { poller: Poller::new()?, members, others, awake, ready, told, stats })
    }

    /// Puts a receiving half in: a [`Consumer`](crate::Consumer), a [`Receiver`](crate::Receiver) or a `CapnpReceiver`.
    /// The half stays the caller's.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the key is taken. Otherwise if the system gives no descriptor,
    /// or no thread to watch the peer's life.
    pub fn insert(&mut self, key: u64, receiver: &mut impl ReceiveHalf) -> io::Result<()> {
        self.check_free(key)?;
        let readiness = receiver.consumer_mut().readiness()?;
        self.poller.add(readiness.event(), key)?;
        self.members.insert(key, Member { readiness, asleep: false });
        self.awake.push(key);
        Ok(())
    }

    /// Puts a descriptor of something else in, of which the set keeps a duplicate: a `Server`'s (its `wait_fd`), a
    /// socket, a timer. Its key is returned as long as it is readable, or hung up.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use capnproto_shm_transport::{Config, Server, Transport, WaitSet};
    ///
    /// # let name = format!("doc-insert-fd-{}", std::process::id());
    /// # let patience = std::time::Duration::from_secs(5);
    /// let mut server = Server::<Transport>::bind(&name, &Config::new())?;
    /// let mut set = WaitSet::new()?;
    /// set.insert_fd(0, server.wait_fd())?;
    /// # let client = std::thread::spawn(move || Transport::connect(&name, patience));
    /// let channel = loop {
    ///     assert_eq!(set.wait(None)?, [0]);
    ///     if let Ok(channel) = server.try_accept() {
    ///         break channel;
    ///     }
    /// };
    /// # drop((channel, client.join().unwrap()?));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the key is taken. Otherwise the system's, for a regular file for
    /// example, which is always readable.
    pub fn insert_fd(&mut self, key: u64, descriptor: impl AsFd) -> io::Result<()> {
        self.check_free(key)?;
        let descriptor = descriptor.as_fd().try_clone_to_owned()?;
        self.poller.add(&descriptor, key)?;
        self.others.insert(key, descriptor);
        Ok(())
    }

    fn check_free(&self, key: u64) -> io::Result<()> {
        if !self.members.contains_key(&key) && !self.others.contains_key(&key) {
            return Ok(());
        }
        let message = format!("the key {key} is in the set already; remove it or take another");
        Err(io::Error::new(io::ErrorKind::AlreadyExists, message))
    }

    /// Takes a half or a descriptor out. Nothing happens if there is none under this key.
    pub fn remove(&mut self, key: u64) {
        if let Some(descriptor) = self.others.remove(&key) {
            self.poller.remove(descriptor);
            self.ready.retain(|other| *other != key);
        }
        if let Some(Member { readiness, asleep }) = self.members.remove(&key) {
            self.poller.remove(readiness.event());
            readiness.rise();
            if !asleep {
                self.awake.retain(|other| *other != key);
                self.ready.retain(|other| *other != key);
            }
        }
    }

    /// How many halves and descriptors are in the set.
    pub fn len(&self) -> usize {
        self.members.len() + self.others.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there is something to receive, at most so long, or as long as it takes. Returns the keys of those that
    /// have something to receive, or whose peer is gone, and of descriptors that are readable; none if the time is over.
    /// Before it sleeps, it looks for about as long as a sleep and a wake cost at the halves that had something last.
    ///
    /// # Errors
    ///
    /// The system's, if it refuses to wait.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<&[u64]> {
        // A time that the clock cannot reach has no end.
        let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
        let left = || deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.awake.append(&mut self.ready);
        self.look();
        if self.ready.is_empty() && left() != Some(Duration::ZERO) {
            self.spin(left());
        }
        loop {
            if self.ready.is_empty() {
                self.arm();
            }
            if !self.ready.is_empty() {
                // Those that sleep are not to wait for ever for those that have much to say.
                self.sleep(Some(Duration::ZERO))?;
                return Ok(&self.ready);
            }
            let left = left();
            self.sleep(left)?;
            if !self.ready.is_empty() || left == Some(Duration::ZERO) {
                return Ok(&self.ready);
            }
        }
    }

    /// Moves those that have something to say from `awake` to `ready`.
    fn look(&mut self) {
        let Self { poller, members, awake, ready, .. } = self;
        awake.retain(|key| {
            let Some(Member { readiness, .. }) = members.get(key) else { return false };
            if readiness.has_left() {
                forget(poller, members, *key);
                return false;
            }
            let found = is_ready(readiness);
            if found {
                ready.push(*key);
            }
            !found
        });
    }

    /// Looks for a while at those that are awake.
    fn spin(&mut self, limit: Option<Duration>) {
        let began = Instant::now();
        let time = limit.map_or(self.stats.spin(), |limit| limit.min(self.stats.spin()));
        while !self.awake.is_empty() && self.ready.is_empty() && began.elapsed() < time {
            let found = |key| self.members.get(key).is_some_and(|member| is_ready(&member.readiness));
            for _ in 0..LOOKS {
                if self.awake.iter().any(found) {
                    break;
                }
                spin_loop();
            }
            self.look();
        }
    }

    /// Has all that are awake sleep on their events, but for those that have something to say.
    fn arm(&mut self) {
        let halves = || self.awake.iter().filter_map(|key| Some(&self.members.get(key)?.readiness));
        halves().for_each(|half| half.announce());
        // One barrier serves them all.
        if halves().any(|half| half.needs_barrier()) {
            Host::barrier();
        }
        let Self { poller, members, ready, .. } = self;
        for key in self.awake.drain(..) {
            let Some(Member { readiness, asleep }) = members.get_mut(&key) else { continue };
            if readiness.has_left() {
                forget(poller, members, key);
            } else if is_ready(readiness) {
                readiness.rise();
                ready.push(key);
            } else {
                readiness.stay();
                *asleep = true;
            }
        }
    }

    /// Waits for an event, and wakes the halves whose events are set.
    fn sleep(&mut self, limit: Option<Duration>) -> io::Result<()> {
        if self.awake.len() + self.ready.len() == self.len() && limit == Some(Duration::ZERO) {
            // Nobody sleeps.
            return Ok(());
        }
        let began = Instant::now();
        match self.poller.wait(limit, &mut self.told) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            waited => waited?,
        }
        let slept = limit != Some(Duration::ZERO);
        for key in self.told.drain(..) {
            let Some(Member { readiness, asleep }) = self.members.get_mut(&key) else {
                if self.others.contains_key(&key) && !self.ready.contains(&key) {
                    self.ready.push(key);
                }
                continue;
            };
            readiness.clear();
            if readiness.rise() && slept {
                self.stats.woken_after(began.elapsed(), readiness.woken_ago());
            }
            // A notification may come late, to one that is awake.
            if std::mem::take(asleep) {
                self.awake.push(key);
            }
        }
        self.look();
        if slept && !self.ready.is_empty() {
            self.stats.waited(began, Instant::now(), true);
        }
        Ok(())
    }
}

/// Takes out a half that is no more. Others may keep its event open.
fn forget(poller: &Poller, members: &mut HashMap<u64, Member>, key: u64) {
    if let Some(Member { readiness, .. }) = members.remove(&key) {
        poller.remove(readiness.event());
    }
}

/// Whether there is something to receive, or the peer is gone.
fn is_ready(readiness: &Arc<Readiness>) -> bool {
    let words = readiness.pair().rx.words();
    // Acquire: a receive after this sees all that was published before. It is looked at again there in any case.
    words.producer.tail.load(Ordering::Acquire) != words.consumer.head.load(Ordering::Relaxed)
        || !words.producer_status.is_open()
}

impl Drop for WaitSet {
    fn drop(&mut self) {
        self.members.values().for_each(|member| {
            member.readiness.rise();
        });
    }
}
