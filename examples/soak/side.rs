//! One side's process: session after session, until it is asked to end or is killed.

use std::io::{self, Read, Write};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use capnproto_shm_transport::{Config, OpenError, PollMode, Side, Transport};

use crate::GLANCE;
use crate::dice::Dice;
use crate::report::COUNTS;
use crate::session;

/// Set when the process that started this side asks it to end.
static FINISH: AtomicBool = AtomicBool::new(false);
static TALLY: [AtomicU64; COUNTS.len()] = [const { AtomicU64::new(0) }; COUNTS.len()];

pub fn finishing() -> bool {
    FINISH.load(Ordering::Relaxed)
}

/// Counts what will be told within a moment.
pub fn count(name: &str, more: u64) {
    if let Some(at) = COUNTS.iter().position(|count| *count == name) {
        TALLY[at].fetch_add(more, Ordering::Relaxed);
    }
}

fn tell_counts() {
    let mut lines = String::new();
    for (name, count) in COUNTS.iter().zip(&TALLY) {
        match count.swap(0, Ordering::Relaxed) {
            0 => {}
            more => lines += &format!("{name} {more}\n"),
        }
    }
    tell(&lines);
}

fn tell(lines: &str) {
    // The listener may be gone; then this side ends by its input.
    let _ = io::stdout().write_all(lines.as_bytes()).and_then(|()| io::stdout().flush());
}

/// Says what is wrong, and ends.
pub fn fail(side: Side, what: &str) -> ! {
    tell_counts();
    tell(&format!("error side {side:?}: {what}\n"));
    process::exit(1)
}

pub fn any_mode(dice: &mut Dice) -> PollMode {
    let pause = Duration::from_micros(1 + dice.below(200));
    dice.pick(&[PollMode::Spin, PollMode::Park, PollMode::Interval(pause)])
}

pub fn run(side: Side, name: &str, seed: u64) {
    thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        FINISH.store(true, Ordering::Relaxed);
    });
    thread::spawn(|| {
        loop {
            thread::sleep(GLANCE);
            tell_counts();
        }
    });
    let mut dice = Dice::new(seed);
    let mut before = None;
    while !finishing() {
        let met = match side {
            Side::A => create(name, &mut dice),
            Side::B => join(name, &mut dice, before.take()),
        };
        let Some(transport) = met else { break };
        let after = session::run(transport, &mut dice).unwrap_or_else(|what| fail(side, &what));
        // Side A creates anew, once the channel it had is gone.
        before = after.filter(|_| side == Side::B);
    }
    drop(before);
    tell_counts();
}

/// Side A: makes the channel, and waits for the other side.
fn create(name: &str, dice: &mut Dice) -> Option<Transport> {
    let config = Config::new()
        .slot_size(dice.pick(&[32, 40, 64, 200, 1024]))
        .slot_count(dice.pick(&[4, 16, 64, 1024]))
        .poll(any_mode(dice));
    let transport =
        Transport::create(name, &config).unwrap_or_else(|e| fail(Side::A, &format!("create: {e}")));
    while !transport.peer_attached() {
        if finishing() {
            return None;
        }
        thread::sleep(Duration::from_micros(200));
    }
    Some(transport)
}

/// Side B: joins the channel, or again with the transport it had.
fn join(name: &str, dice: &mut Dice, mut before: Option<Transport>) -> Option<Transport> {
    let wait = Duration::from_millis(50);
    while !finishing() {
        let result = match &mut before {
            Some(transport) => transport.reopen(wait),
            None => {
                let config = Config::new().poll(any_mode(dice));
                Transport::open_with(name, wait, &config).map(|transport| before = Some(transport))
            }
        };
        match result {
            Ok(()) => return before,
            Err(OpenError::Timeout { .. }) => {}
            Err(e) => fail(Side::B, &format!("open: {e}")),
        }
    }
    None
}
