//! The side that lives on, and what it must see.

use std::future::Future;
use std::ops::Range;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{
    Consumer, Missing, OpenError, PollMode, Producer, RecvError, RemoveError, SendError, Side, Transport,
};

use crate::child::{
    Doomed, Feed, OPERATIONS, Operation, RECEIVED, SPAN, Scene, Talk, WAITING, Waits, config, now,
    ordinary_length,
};
use crate::common::{LONG, Name, eventually, named, pattern};

/// Longer than the child takes to fall asleep in the operation. If it is not, the child dies all the same.
const LATER: Duration = Duration::from_millis(10);

/// One child's end.
pub struct Death<'a> {
    operation: &'a Operation,
    side: Side,
    name: Name,
    /// Counted from 1; 0 lives through the operation.
    step: usize,
    /// All steps of the operation.
    steps: &'a [String],
}

/// The observations of the survivor.
pub struct Seen {
    /// Whether the child came through the operation alive.
    pub lived: bool,
    /// The steps begun, the last of which may have been its last.
    pub begun: Vec<String>,
    /// How long the survivor took to find out, if there was something to find out.
    pub noticed: Duration,
}

/// How far the child came.
struct Ended {
    lived: bool,
    begun: Vec<String>,
    /// When the operation began.
    at: Duration,
}

impl Ended {
    fn of(doomed: &mut Doomed) -> Self {
        let at = Duration::from_nanos(doomed.line().expect("it begins").parse().unwrap());
        let last_words = doomed.line().expect("it says how far it came");
        assert!(doomed.was_killed(), "killed, not failed");
        let (end, steps) = last_words.split_once(' ').unwrap();
        Self { lived: end == "lived", begun: steps.split(',').map(str::to_owned).collect(), at }
    }

    fn seen(self, noticed: Duration) -> Seen {
        Seen { lived: self.lived, begun: self.begun, noticed }
    }

    fn came_to(&self, step: &str) -> bool {
        self.begun.iter().any(|begun| begun == step)
    }
}

impl<'a> Death<'a> {
    pub fn new(operation: &'a Operation, side: Side, step: usize, steps: &'a [String]) -> Self {
        let label = format!("{}-{side:?}-{step}", operation.name.replace([' ', ':'], "-"));
        Self { operation, side, name: named(&label), step, steps }
    }

    pub fn run(&self) -> Seen {
        match self.operation.scene {
            Scene::Nothing => self.alone(),
            Scene::Leftover => self.over_a_leftover(),
            Scene::SideA => self.joining(),
            Scene::NextGeneration => self.joining_again(),
            Scene::Talk(talk) => self.talking(talk),
        }
    }

    fn doom(&self) -> Doomed {
        Doomed::start(self.operation, self.side, &self.name, self.step)
    }

    /// Lets the child, once it is ready, into its operation and waits for its end.
    fn watch(&self, doomed: &mut Doomed) -> Ended {
        doomed.line().expect("it is ready");
        doomed.go();
        Ended::of(doomed)
    }

    fn alone(&self) -> Seen {
        let ended = self.watch(&mut self.doom());
        let error = Transport::open(&self.name, Duration::ZERO).unwrap_err();
        let dead = matches!(error, OpenError::Timeout { missing: Missing::Channel | Missing::SideA, .. });
        assert!(dead, "a dead side A is never joined: {error}");
        if self.step % 2 == 0 {
            // The files are removed if possible; otherwise `create` takes them away.
            let removed = Transport::remove(&self.name);
            assert!(matches!(removed, Ok(()) | Err(RemoveError::NotFound { .. })), "{removed:?}");
            assert_eq!(self.name.left().len(), 0);
        }
        self.usable(|wait| Transport::open(&self.name, wait));
        ended.seen(Duration::ZERO)
    }

    /// The survivor is side B of the dead side A whose leftover the child finds.
    fn over_a_leftover(&self) -> Seen {
        let send = OPERATIONS.iter().find(|operation| operation.name == "send").unwrap();
        let mut first = Doomed::start(send, Side::A, &self.name, 0);
        let mut survivor = Transport::open_with(&self.name, LONG, &config(PollMode::Spin)).unwrap();
        receive(&mut survivor, 0, &ordinary(0..RECEIVED));
        first.line().expect("it is ready");
        first.go();
        Ended::of(&mut first);

        let ended = self.watch(&mut self.doom());
        receive(&mut survivor, RECEIVED, &[&ordinary(RECEIVED..RECEIVED + WAITING)[..], &[7]].concat());
        let end = survivor.recv().map(|_| ()).unwrap_err();
        let noticed = now() - ended.at;
        // `remove` begins no new generation, so it supersedes nothing.
        match self.operation.name == "reclaim" && ended.came_to("reclaim: superseded") {
            true => assert!(matches!(end, RecvError::Superseded), "{end}"),
            false => assert!(matches!(end, RecvError::PeerDead), "{end}"),
        }
        self.usable(|wait| survivor.reopen(wait).map(|()| survivor));
        ended.seen(noticed)
    }

    /// The survivor is a side A that has sent before anybody came.
    fn joining(&self) -> Seen {
        self.joined(&mut self.doom())
    }

    /// The same, while the child still holds the generation before.
    fn joining_again(&self) -> Seen {
        let before = Transport::create(&self.name, &config(PollMode::Spin)).unwrap();
        let mut doomed = self.doom();
        eventually("side B is there", || before.peer_attached());
        drop(before);
        self.joined(&mut doomed)
    }

    fn joined(&self, doomed: &mut Doomed) -> Seen {
        let mut survivor = Transport::create(&self.name, &config(PollMode::Spin)).unwrap();
        let lengths = ordinary(0..WAITING);
        for (index, len) in lengths.iter().enumerate() {
            survivor.send(&pattern(index, *len)).unwrap();
        }
        let ended = self.watch(doomed);
        let attached = ended.came_to("start: attached");
        assert_eq!(survivor.peer_attached(), attached);
        let mut noticed = Duration::ZERO;
        if attached {
            let end = survivor.recv().map(|_| ()).unwrap_err();
            noticed = now() - ended.at;
            assert!(matches!(end, RecvError::PeerDead), "{end}");
            assert!(matches!(survivor.try_send(b"x"), Err(SendError::PeerDead)));
        } else {
            // It was never there: the next one finds the channel as it was.
            let mut next = Transport::open(&self.name, LONG).unwrap();
            receive(&mut next, 0, &lengths);
            next.send(b"back").unwrap();
            assert_eq!(&*survivor.recv().unwrap(), b"back");
        }
        drop(survivor);
        self.usable(|wait| Transport::open(&self.name, wait));
        ended.seen(noticed)
    }

    fn talking(&self, talk: Talk) -> Seen {
        let (mut survivor, mut doomed);
        if self.side == Side::A {
            doomed = self.doom();
            survivor = Transport::open_with(&self.name, LONG, &config(PollMode::Spin)).unwrap();
        } else {
            survivor = Transport::create(&self.name, &config(PollMode::Spin)).unwrap();
            doomed = self.doom();
        }
        receive(&mut survivor, 0, &ordinary(0..RECEIVED));

        let (tx, rx) = survivor.halves();
        let (tell, told) = channel();
        let (sent, received, end, refused, noticed, ended) = thread::scope(|scope| {
            let feeder = scope.spawn(move || feed(tx, talk, &told));
            let sent: usize = doomed.line().expect("it is ready").parse().unwrap();
            doomed.go();
            let _ = tell.send(()); // a feeder at its end listens no more
            if talk.fills {
                thread::sleep(LATER);
            }
            let (received, end) = receive_all(rx, talk.waits);
            let noticed = now();
            // Only now: a feeder that filled the ring and fell asleep in the operation would be woken by it.
            let ended = Ended::of(&mut doomed);
            let _ = tell.send(());
            (sent, received, end, feeder.join().unwrap(), noticed, ended)
        });

        let publications = |steps: &[String]| steps.iter().filter(|step| *step == "publish: after").count();
        let published = ended.lived || (1..=publications(&ended.begun)).contains(&publications(self.steps));
        let lengths = [&ordinary(RECEIVED..sent)[..], if published { talk.publishes } else { &[] }].concat();
        let expected: Vec<_> = (RECEIVED..).zip(lengths).map(|(index, len)| pattern(index, len)).collect();
        let place = format!("{} after {:?}", self.operation.name, ended.begun);
        assert!(received == expected, "{} messages, not {}: {place}", received.len(), expected.len());
        match ended.came_to("close: sending end said") {
            true => assert!(matches!(end, RecvError::Closed), "{end}: {place}"),
            false => assert!(matches!(end, RecvError::PeerDead), "{end}: {place}"),
        }
        match ended.came_to("close: receiving end said") {
            true => assert!(matches!(refused, SendError::Closed), "{refused}: {place}"),
            false => assert!(matches!(refused, SendError::PeerDead), "{refused}: {place}"),
        }
        if self.side == Side::A {
            self.usable(|wait| survivor.reopen(wait).map(|()| survivor));
        } else {
            drop(survivor);
            self.usable(|wait| Transport::open(&self.name, wait));
        }
        let noticed = noticed - ended.at;
        ended.seen(noticed)
    }

    /// The name is free at once for the next two, and nothing is left after them.
    fn usable(&self, join: impl FnOnce(Duration) -> Result<Transport, OpenError>) {
        let mut a = Transport::create(&self.name, &config(PollMode::Spin)).unwrap();
        let mut b = join(LONG).unwrap();
        a.send(b"there").unwrap();
        assert_eq!(&*b.recv().unwrap(), b"there");
        b.send(b"back").unwrap();
        assert_eq!(&*a.recv().unwrap(), b"back");
        drop((a, b));
        assert_eq!(self.name.left().len(), 0, "{:?}", self.name.left());
    }
}

fn ordinary(messages: Range<usize>) -> Vec<usize> {
    messages.map(ordinary_length).collect()
}

/// Receives messages of these lengths, of which the first has this number.
fn receive(survivor: &mut Transport, first: usize, lengths: &[usize]) {
    for (index, len) in (first..).zip(lengths) {
        assert_eq!(&*survivor.recv().unwrap(), pattern(index, *len));
    }
}

/// Receives until the end.
fn receive_all(rx: &mut Consumer, waits: Waits) -> (Vec<Vec<u8>>, RecvError) {
    let mut received = Vec::new();
    let end = match waits {
        Waits::Call => loop {
            match rx.recv() {
                Ok(message) => received.push(message.to_vec()),
                Err(end) => break end,
            }
        },
        #[cfg(unix)]
        Waits::EventLoop => loop {
            match rx.arm() {
                Ok(true) => sleep_on(rx.wait_fd().unwrap()),
                Ok(false) => match rx.try_recv() {
                    Ok(message) => received.push(message.to_vec()),
                    Err(RecvError::Empty) => {}
                    Err(end) => break end,
                },
                Err(end) => break end,
            }
        },
        _ => run(waits, async {
            loop {
                match rx.recv_async().await {
                    Ok(message) => received.push(message.to_vec()),
                    Err(end) => break end,
                }
            }
        }),
    };
    (received, end)
}

#[cfg(unix)]
fn sleep_on(descriptor: std::os::fd::BorrowedFd<'_>) {
    use rustix::event::{PollFd, PollFlags, poll};
    poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).unwrap();
}

fn run<T>(waits: Waits, future: impl Future<Output = T>) -> T {
    match waits {
        Waits::Tokio => {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
        }
        _ => smol::block_on(future),
    }
}

/// Sends what the child needs, and goes on until it is refused. Told once when the child begins its
/// operation, and once when the receiving half is at its end.
fn feed(tx: &mut Producer, talk: Talk, told: &Receiver<()>) -> SendError {
    match talk.feed {
        Feed::All => send_all(tx).unwrap_or_default(),
        Feed::Late => {
            told.recv().unwrap();
            thread::sleep(LATER);
            let _ = tx.try_send(b"late");
            told.recv().unwrap();
        }
        Feed::Nothing => (0..2).for_each(|_| told.recv().unwrap()),
    }
    send_until_refused(tx, talk.waits)
}

fn send_until_refused(tx: &mut Producer, waits: Waits) -> SendError {
    match waits {
        Waits::Call => loop {
            if let Err(refused) = tx.send(b"more") {
                return refused;
            }
        },
        #[cfg(unix)]
        Waits::EventLoop => loop {
            match tx.arm() {
                Ok(true) => sleep_on(tx.wait_fd().unwrap()),
                Ok(false) => match tx.try_send(b"more") {
                    Ok(()) | Err(SendError::Full) => {}
                    Err(refused) => return refused,
                },
                Err(refused) => return refused,
            }
        },
        _ => run(waits, async {
            loop {
                if let Err(refused) = tx.send_async(b"more").await {
                    return refused;
                }
            }
        }),
    }
}

fn send_all(tx: &mut Producer) -> Option<()> {
    for _ in 0..RECEIVED + WAITING {
        tx.send(b"single").ok()?;
    }
    tx.reserve_span(SPAN).ok()?.commit(SPAN);
    Some(())
}
