//! The side that dies: its work before, and each operation it dies in.

use std::any::Any;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, PollMode, Side, Transport, crash};

use crate::common::{LONG, eventually, pattern, start, this_program};

pub const SLOTS: usize = 32;
pub const SLOT: usize = 32;
/// Messages that the survivor has received before the operation, and that it has not.
pub const RECEIVED: usize = 22;
pub const WAITING: usize = 6;
/// A span that, after those, fits the ring together with the rest of the lap, and one that does not.
pub const SPAN: usize = 8 * SLOT;
const LONG_SPAN: usize = 30 * SLOT;

/// The situation that the child finds.
#[derive(Clone, Copy)]
pub enum Scene {
    /// Nothing of that name.
    Nothing,
    /// The files of a dead side A; its side B, the survivor, has not noticed yet.
    Leftover,
    /// A side A that has sent and waits for a side B.
    SideA,
    /// It was side B of a channel that its side A has closed and created anew.
    NextGeneration,
    /// A connected peer.
    Talk(Talk),
}

/// How a connected survivor behaves.
#[derive(Clone, Copy)]
pub struct Talk {
    pub poll: PollMode,
    /// Where it waits.
    pub waits: Waits,
    pub feed: Feed,
    /// Lengths of the messages that the operation publishes, at once, at its last step of that name.
    pub publishes: &'static [usize],
    /// How many of the survivor's messages the child receives before the operation.
    receives: usize,
    /// Whether the child fills its ring before the operation, while the survivor looks away.
    pub fills: bool,
}

/// Where the survivor waits for messages and for room.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Waits {
    /// In calls that block.
    Call,
    /// In an event loop, for its descriptors.
    EventLoop,
    /// In tasks of these.
    Smol,
    Tokio,
}

/// The survivor's messages.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Feed {
    Nothing,
    /// Single slots to nearly the end of the lap, a span beyond it, then until the ring is full.
    All,
    /// One message, when the child waits for it.
    Late,
}

/// An operation, and who can do it.
pub struct Operation {
    pub name: &'static str,
    pub sides: &'static [Side],
    pub scene: Scene,
    run: fn(&str, Option<Transport>) -> Kept,
}

/// The object that stays alive after the operation.
type Kept = Box<dyn Any>;

const BOTH: &[Side] = &[Side::A, Side::B];
const QUIET: Talk = Talk {
    poll: PollMode::Spin,
    waits: Waits::Call,
    feed: Feed::Nothing,
    publishes: &[],
    receives: 0,
    fills: false,
};
const PARKED: Talk = Talk { poll: PollMode::Park, ..QUIET };
const LOOPING: Talk = Talk { waits: Waits::EventLoop, ..PARKED };
const SMOL: Talk = Talk { waits: Waits::Smol, ..PARKED };
const TOKIO: Talk = Talk { waits: Waits::Tokio, ..PARKED };
const FED: Talk = Talk { feed: Feed::All, receives: RECEIVED + WAITING, ..QUIET };

const fn connected(name: &'static str, talk: Talk, run: fn(&str, Option<Transport>) -> Kept) -> Operation {
    Operation { name, sides: BOTH, scene: Scene::Talk(talk), run }
}

/// Gives the operation its connected transport.
macro_rules! with {
    (|$transport:ident| $body:expr) => {
        |_, transport| {
            #[allow(unused_mut, reason = "only some operations change it")]
            let mut $transport = transport.unwrap();
            let _ = $body;
            Box::new($transport)
        }
    };
}

pub const OPERATIONS: &[Operation] = &[
    Operation {
        name: "create",
        sides: &[Side::A],
        scene: Scene::Nothing,
        run: |name, _| Box::new(create(name)),
    },
    Operation {
        name: "reclaim",
        sides: &[Side::A],
        scene: Scene::Leftover,
        run: |name, _| Box::new(create(name)),
    },
    Operation {
        name: "remove",
        sides: &[Side::A],
        scene: Scene::Leftover,
        run: |name, _| {
            Transport::remove(name).unwrap();
            Box::new(())
        },
    },
    Operation {
        name: "open",
        sides: &[Side::B],
        scene: Scene::SideA,
        run: |name, _| Box::new(Transport::open(name, LONG).unwrap()),
    },
    Operation {
        name: "reopen",
        sides: &[Side::B],
        scene: Scene::NextGeneration,
        run: with!(|b| b.reopen(LONG).unwrap()),
    },
    connected("commit", Talk { publishes: &[30], ..QUIET }, with!(|t| fill_and_commit(&mut t, 30))),
    connected("send", Talk { publishes: &[7], ..QUIET }, with!(|t| t.send(&next(7)).unwrap())),
    connected("abort", QUIET, with!(|t| t.reserve().unwrap().fill(0xEE))),
    connected("span", Talk { publishes: &[100], ..QUIET }, with!(|t| span(&mut t, 100))),
    connected("span: skip with it", Talk { publishes: &[SPAN], ..QUIET }, with!(|t| span(&mut t, SPAN))),
    connected(
        "span: skip before it",
        Talk { publishes: &[LONG_SPAN], ..QUIET },
        with!(|t| span(&mut t, LONG_SPAN)),
    ),
    connected("span: abort", QUIET, with!(|t| t.reserve_span(LONG_SPAN).unwrap().fill(0xEE))),
    connected("batch", Talk { publishes: &[1, 32, 9], ..QUIET }, with!(|t| batch(&mut t))),
    connected("receive", Talk { receives: RECEIVED, ..FED }, with!(|t| t.recv().unwrap().len())),
    connected("receive a skip", FED, with!(|t| assert_eq!(t.recv().unwrap().len(), SPAN))),
    connected("receive a copy", FED, with!(|t| t.recv_copied(&mut Vec::new()).unwrap())),
    connected("drain", Talk { receives: 0, ..FED }, with!(|t| assert_eq!(t.drain(3, |_| ()).unwrap(), 3))),
    connected(
        "park for a message",
        PARKED,
        with!(|t| t.recv_timeout(Duration::from_millis(100)).unwrap_err()),
    ),
    connected(
        "be woken by a message",
        Talk { feed: Feed::Late, ..PARKED },
        with!(|t| t.recv().unwrap().len()),
    ),
    connected("park for room", Talk { fills: true, ..PARKED }, with!(|t| t.reserve().unwrap().len())),
    connected("wake a receiver", Talk { publishes: &[5], ..PARKED }, with!(|t| t.send(&next(5)).unwrap())),
    connected(
        "wake a sender",
        Talk { poll: PollMode::Park, receives: RECEIVED, ..FED },
        with!(|t| t.recv().unwrap().len()),
    ),
    connected("close the sending half", PARKED, |_, t| Box::new(t.unwrap().split().1)),
    connected("close the receiving half", Talk { poll: PollMode::Park, ..FED }, |_, t| {
        Box::new(t.unwrap().split().0)
    }),
    connected("arm for a message", PARKED, with!(|t| assert!(t.halves().1.arm().unwrap()))),
    connected("arm for room", Talk { fills: true, ..PARKED }, with!(|t| t.halves().0.arm().unwrap())),
    connected("arm and receive", Talk { feed: Feed::Late, ..PARKED }, |_, t| {
        let mut t = t.unwrap();
        assert_eq!(smol::block_on(t.recv_async()).unwrap().len(), 4);
        Box::new(t)
    }),
    connected("arm, and forget it", LOOPING, |_, t| {
        let (tx, mut rx) = t.unwrap().split();
        assert!(rx.arm().unwrap());
        drop(rx);
        Box::new(tx)
    }),
    connected("close while armed", PARKED, |_, t| {
        let mut t = t.unwrap();
        assert!(t.halves().1.arm().unwrap());
        close(Some(t))
    }),
    connected(
        "notify an event loop",
        Talk { publishes: &[5], ..LOOPING },
        with!(|t| t.send(&next(5)).unwrap()),
    ),
    connected("notify a task", Talk { publishes: &[5], ..SMOL }, with!(|t| t.send(&next(5)).unwrap())),
    connected(
        "notify a task of tokio",
        Talk { publishes: &[5], ..TOKIO },
        with!(|t| t.send(&next(5)).unwrap()),
    ),
    connected(
        "notify an event loop of room",
        Talk { receives: RECEIVED, feed: Feed::All, ..LOOPING },
        with!(|t| t.recv().unwrap().len()),
    ),
    connected(
        "notify a task of room",
        Talk { receives: RECEIVED, feed: Feed::All, ..TOKIO },
        with!(|t| t.recv().unwrap().len()),
    ),
    connected("close to an event loop", LOOPING, |_, t| close(t)),
    connected("close to a task", Talk { receives: RECEIVED, feed: Feed::All, ..SMOL }, |_, t| close(t)),
    connected("close to a task of tokio", TOKIO, |_, t| close(t)),
    connected("close", QUIET, |_, t| close(t)),
    connected("close while fed", Talk { receives: RECEIVED, ..FED }, |_, t| close(t)),
];

pub fn config(poll: PollMode) -> Config {
    Config::new().slot_size(SLOT).slot_count(SLOTS).poll(poll)
}

fn close(transport: Option<Transport>) -> Kept {
    drop(transport);
    Box::new(())
}

fn create(name: &str) -> Transport {
    Transport::create(name, &config(PollMode::Spin)).unwrap()
}

/// Messages this child has sent.
static SENT: AtomicU64 = AtomicU64::new(0);

fn next(len: usize) -> Vec<u8> {
    pattern(SENT.fetch_add(1, Ordering::Relaxed) as usize, len)
}

/// Length of ordinary message number `index`.
pub fn ordinary_length(index: usize) -> usize {
    1 + index % SLOT
}

fn send_ordinary(transport: &mut Transport, messages: usize) {
    for _ in 0..messages {
        let len = ordinary_length(SENT.load(Ordering::Relaxed) as usize);
        transport.send(&next(len)).unwrap();
    }
}

fn fill_and_commit(transport: &mut Transport, len: usize) {
    let mut slot = transport.reserve().unwrap();
    slot[..len].copy_from_slice(&next(len));
    slot.commit(len);
}

fn span(transport: &mut Transport, len: usize) {
    let mut slot = transport.reserve_span(len).unwrap();
    slot.copy_from_slice(&next(len));
    slot.commit(len);
}

fn batch(transport: &mut Transport) {
    let mut batch = transport.batch();
    for len in [1, 32, 9] {
        batch.try_send(&next(len)).unwrap();
    }
    assert_eq!(batch.publish(), 3);
}

/// The dying side's way to the operation.
fn prepare(scene: Scene, side: Side, name: &str) -> Option<Transport> {
    let talk = match scene {
        Scene::Nothing | Scene::Leftover | Scene::SideA => return None,
        Scene::NextGeneration => return Some(Transport::open(name, LONG).unwrap()),
        Scene::Talk(talk) => talk,
    };
    let mut transport = match side {
        Side::A => Transport::create(name, &config(talk.poll)).unwrap(),
        Side::B => Transport::open_with(name, LONG, &config(talk.poll)).unwrap(),
    };
    send_ordinary(&mut transport, RECEIVED);
    eventually("the survivor receives", || transport.stats().tx.used_slots == 0);
    for _ in 0..talk.receives {
        let _ = transport.recv().unwrap();
    }
    send_ordinary(&mut transport, if talk.fills { SLOTS } else { WAITING });
    if talk.feed == Feed::All {
        let done = if talk.receives == RECEIVED + WAITING { 1 } else { WAITING as u64 };
        eventually("the survivor sends", || transport.stats().rx.messages >= talk.receives as u64 + done);
    }
    // The survivor has not slept yet: so the operation is the first to wake it.
    transport.poll_control().set_remote(talk.poll);
    Some(transport)
}

/// The time, by a clock that both processes see.
#[cfg(unix)]
pub fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The time, by a clock that both processes see.
#[cfg(not(unix))]
pub fn now() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
}

pub fn say(word: &str) {
    println!("\n@{word}");
    std::io::stdout().flush().unwrap();
}

pub const ROLE: &str = "SHM_CRASH";

/// In the test `deaths::child`: dies in an operation.
pub fn play() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<_> = role.split('\x1f').collect();
    let (name, step) = (words[2], words[3].parse().unwrap());
    let side = if words[1] == "A" { Side::A } else { Side::B };
    let operation = OPERATIONS.iter().find(|operation| operation.name == words[0]).unwrap();
    let transport = prepare(operation.scene, side, name);
    say(&SENT.load(Ordering::Relaxed).to_string());
    std::io::stdin().read_line(&mut String::new()).unwrap();
    if matches!(operation.scene, Scene::Talk(Talk { poll: PollMode::Park, .. })) {
        // Lets the survivor fall asleep. If it has not, there are fewer steps, and the parent tries again.
        thread::sleep(Duration::from_millis(5));
    }
    say(&now().as_nanos().to_string());
    crash::seen();
    crash::last_words(|steps| say(&format!("died {}", steps.join(","))));
    crash::arm(step);
    let kept = (operation.run)(name, transport);
    crash::arm(0);
    say(&format!("lived {}", crash::seen().join(",")));
    let _kept = kept;
    crash::kill();
}

/// The dying process, as its parent sees it.
pub struct Doomed {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Doomed {
    pub fn start(operation: &Operation, side: Side, name: &str, step: usize) -> Self {
        Self::begin("deaths::child", format!("{}\x1f{side:?}\x1f{name}\x1f{step}", operation.name))
    }

    /// Starts this program again, for one of its tests.
    pub fn begin(test: &str, role: String) -> Self {
        let words = this_program();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ROLE, role);
        let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The child's next line; nothing once it is dead.
    pub fn line(&mut self) -> Option<String> {
        let mut lines = self.output.by_ref().lines().map(|line| line.unwrap());
        lines.find_map(|line| line.strip_prefix('@').map(str::to_owned))
    }

    pub fn go(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Waits for the end; whether it was a kill.
    pub fn was_killed(&mut self) -> bool {
        let status = self.child.wait().unwrap();
        #[cfg(unix)]
        return std::os::unix::process::ExitStatusExt::signal(&status) == Some(9);
        #[cfg(not(unix))]
        return status.code() == Some(9);
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
