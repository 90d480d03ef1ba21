//! Waiting, for either half: look, learn of the peer's end, wait, look again.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::endpoint::Endpoint;
use super::stop::Stop;
use super::wait_limit::Deadline;
use crate::error::Corruption;
use crate::poll::{WaitEnd, wait};
use crate::protocol::{Words, add};

/// The condition that a half waits for, and its steps meanwhile.
pub(super) trait Waits {
    /// A receiver first receives everything that was sent, then learns of its peer's end. A sender learns of it at
    /// once.
    const RECEIVES: bool;

    fn endpoint(&mut self) -> &mut Endpoint;

    /// Looks at the peer's index; whether `need` slots are there now.
    fn look(&mut self, need: u64) -> Result<bool, Corruption>;

    /// The same, without remembering anything, from the next sequence on.
    fn ready(words: &Words, next: u64, slots: u64, need: u64) -> bool;

    /// The next sequence.
    fn next(&self) -> u64;

    /// Gives the peer what this half still holds: it could wait for that.
    fn let_go(&mut self);

    /// From now on there is nothing.
    fn give_up(&mut self);
}

/// One look, and what is known of the peer's end.
pub(super) fn check<H: Waits>(half: &mut H, need: u64) -> Result<bool, Stop> {
    if let Some(corruption) = half.endpoint().corruption {
        return Err(Stop::Corrupt(corruption));
    }
    if half.endpoint().finished {
        return Err(Stop::Closed);
    }
    match honest_check(half, need) {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(end)) => Err(end),
        Err(corruption) => Err(poison(half, corruption)),
    }
}

fn honest_check<H: Waits>(half: &mut H, need: u64) -> Result<Result<bool, Stop>, Corruption> {
    let found = half.look(need)?;
    if found && H::RECEIVES {
        return Ok(Ok(true));
    }
    match half.endpoint().peer_end()? {
        None => Ok(Ok(found)),
        // Everything that was published before the end is visible now that the end is.
        Some(_) if H::RECEIVES && half.look(need)? => Ok(Ok(true)),
        Some(end) => Ok(Err(end)),
    }
}

/// Makes the half unusable.
#[cold]
pub(super) fn poison<H: Waits>(half: &mut H, corruption: Corruption) -> Stop {
    half.endpoint().corruption = Some(corruption);
    half.give_up();
    Stop::Corrupt(corruption)
}

/// Waits until `need` slots are there, until the deadline at the latest.
#[cold]
#[inline(never)]
pub(super) fn wait_for<H: Waits>(half: &mut H, need: u64, deadline: Deadline) -> Result<(), Stop> {
    half.endpoint().choose_fence();
    half.endpoint().deadline = deadline.instant();
    loop {
        if check(half, need)? {
            half.endpoint().waits.reset();
            return Ok(());
        }
        match deadline {
            Deadline::Past => return dead_or(half, need, Stop::NotNow),
            // Also when the peer keeps promising what is not there.
            Deadline::At(instant) if Instant::now() >= instant => {
                let lonely = !H::RECEIVES && half.endpoint().view.nobody_came();
                return dead_or(half, need, if lonely { Stop::NoPeer } else { Stop::Timeout });
            }
            _ => {}
        }
        if half.endpoint().interruption.take() {
            return Err(Stop::Interrupted);
        }
        half.let_go();
        // Only now: a call that does not wait leaves a half asleep that sleeps in an event loop.
        half.endpoint().rise();
        wait_once(half, need);
    }
}

/// Nothing came: because the peer is dead, if it is time to ask, or for the reason given.
fn dead_or<H: Waits>(half: &mut H, need: u64, reason: Stop) -> Result<(), Stop> {
    let Endpoint { view, waits, .. } = half.endpoint();
    if waits.probe_due() && view.pair().peer_is_gone() {
        view.pair().record_peer_death();
        if check(half, need)? {
            return Ok(());
        }
    }
    Err(reason)
}

/// Has the half sleep on its event until `need` slots are there, or something else is to be done. Returns whether it
/// sleeps.
pub(super) fn arm<H: Waits>(half: &mut H, need: u64) -> Result<bool, Stop> {
    half.endpoint().choose_fence();
    if check(half, need)? {
        half.endpoint().waits.reset();
        return Ok(false);
    }
    if half.endpoint().interruption.take() {
        return Err(Stop::Interrupted);
    }
    half.let_go();
    let next = half.next();
    let endpoint = half.endpoint();
    let readiness = endpoint.readiness()?;
    let (words, slots, peer) =
        (endpoint.view.words(), endpoint.view.slot_count(), endpoint.view.peer_status());
    let ready = || H::ready(words, next, slots, need) || !peer.is_open() || endpoint.interruption.is_asked();
    let sleeps = readiness.arm(ready);
    if sleeps {
        add(endpoint.view.park_site().parks, 1);
    }
    Ok(sleeps)
}

/// Waits until something has happened, perhaps.
fn wait_once<H: Waits>(half: &mut H, need: u64) {
    let next = half.next();
    let Endpoint { view, waits, interval, deadline, interruption, .. } = half.endpoint();
    let (words, slots, site) = (view.words(), view.slot_count(), view.park_site());
    let mut looks = 0u32;
    let ready = || {
        looks = looks.saturating_add(1);
        H::ready(words, next, slots, need) || !site.peer.is_open() || interruption.is_asked()
    };
    let end = wait(&site, waits, *deadline, ready, || view.pair().peer_is_gone());
    if end == WaitEnd::PeerGone {
        view.pair().record_peer_death();
    }
    view.pair().takes_turns.store(waits.spinning_is_vain(), Ordering::Relaxed);
    interval.waited(looks);
}
