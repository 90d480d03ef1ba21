//! A thread of this process that sleeps for halves that wait in event loops: on the lives of their peers, and on the
//! words of those that nobody notifies. It costs nothing while nothing happens.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::protocol::Kernel;
use crate::system::{Host, System};

/// Halves for each thread: the kernel sleeps on 128 words at once, two for each half, and one of the thread's own.
const MOST: usize = 63;
/// How long a thread sleeps that has nothing to look after.
const IDLE: Duration = Duration::from_secs(3600);

/// A half that waits in an event loop.
pub(super) trait Watched: fmt::Debug + Send + Sync {
    /// Does the work that is due for it now.
    fn look_after(&self) -> Watch;
}

/// When to look after a half again.
pub(super) struct Watch {
    /// When one of these words no longer holds its value.
    pub(super) words: [Option<(*const AtomicU32, u32)>; 2],
    /// In any case within this time.
    pub(super) within: Duration,
}

/// The halves that one thread looks after.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Changes whenever the thread is to look again.
    changes: AtomicU32,
    halves: Mutex<Vec<Weak<dyn Watched>>>,
}

/// The threads of this process. A forked child has none of its parent's.
static GROUPS: Mutex<(u32, Vec<Arc<Group>>)> = Mutex::new((0, Vec::new()));

/// Has a thread look after `half`, and returns that thread's group.
pub(super) fn watch(half: &Arc<dyn Watched>) -> io::Result<Arc<Group>> {
    let mut groups = GROUPS.lock().unwrap_or_else(PoisonError::into_inner);
    if groups.0 != std::process::id() {
        *groups = (std::process::id(), Vec::new());
    }
    if let Some(group) = groups.1.iter().find(|group| group.add(half)) {
        return Ok(Arc::clone(group));
    }
    let group = Arc::new(Group::default());
    group.add(half);
    let watched = Arc::clone(&group);
    Host::start_thread("shm-watch", move || watched.run())?;
    groups.1.push(Arc::clone(&group));
    Ok(group)
}

impl Group {
    /// Adds a half, if there is a place; the thread looks again.
    fn add(&self, half: &Arc<dyn Watched>) -> bool {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.retain(|half| half.strong_count() > 0);
        let free = halves.len() < MOST;
        if free {
            halves.push(Arc::downgrade(half));
            self.look_again();
        }
        free
    }

    /// Has the thread look at all its halves again.
    pub(super) fn look_again(&self) {
        self.changes.fetch_add(1, Ordering::Release);
        Host::wake(&self.changes);
    }

    fn run(&self) {
        let mut words = Vec::with_capacity(2 * MOST);
        loop {
            let changes = self.changes.load(Ordering::Acquire);
            words.clear();
            let mut within = IDLE;
            // Each is held only while it is looked after: its owner may drop it meanwhile.
            for half in self.living().iter().filter_map(Weak::upgrade) {
                let watch = half.look_after();
                words.extend(watch.words.into_iter().flatten());
                within = within.min(watch.within);
            }
            // The words may be gone before this is over, if their halves are: then it ends, and they are not looked
            // after any more.
            Host::sleep_while_all((&self.changes, changes), &words, within);
        }
    }

    fn living(&self) -> Vec<Weak<dyn Watched>> {
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        halves.retain(|half| half.strong_count() > 0);
        halves.clone()
    }
}
