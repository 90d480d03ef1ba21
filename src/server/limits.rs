//! How much a server gives to all its clients together.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Limits on the resources of a server's clients. See [`Server::limits`](super::Server::limits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Clients at once; 1000 by default. Further ones wait, as long as they want. Each takes six descriptors of the server's
    /// process (`ulimit -n`). The next client's channel, which is made ahead, takes twelve, and its part of `memory`. None is
    /// made ahead if a channel takes its memory at once: with `prefault`, `lock_memory` or `huge_pages`, or if the system
    /// promises no more memory than it has.
    pub clients: usize,
    /// Bytes of shared memory of all clients together; 4 GiB by default. Further clients wait.
    pub memory: u64,
    /// Clients at once that have connected and have not joined yet; 64 by default, and at least one. If there are as many,
    /// the process that has the most of them loses its oldest to the next; if each has one, further ones wait in the
    /// socket.
    pub handshakes: usize,
    /// How long a client may take to say what it wants and to join; two seconds by default. Then it is dropped.
    pub handshake_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients: 1000, memory: 4 << 30, handshakes: 64, handshake_time: Duration::from_secs(2) }
    }
}

/// The resources that the clients of one server have now.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<(usize, u64)>);

/// One client's part. Dropping it gives that back.
#[derive(Debug)]
pub(super) struct Part {
    taken: Arc<Taken>,
    bytes: u64,
}

impl Taken {
    /// A part of so many bytes, if that is within the limits.
    pub(super) fn take(self: &Arc<Self>, bytes: u64, limits: &Limits) -> Option<Part> {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0 >= limits.clients || now.1.saturating_add(bytes) > limits.memory {
            return None;
        }
        *now = (now.0 + 1, now.1 + bytes);
        Some(Part { taken: Arc::clone(self), bytes })
    }

    pub(super) fn clients(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut now = self.taken.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = (now.0 - 1, now.1 - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_given_back() {
        let taken = Arc::new(Taken::default());
        let limits = Limits { clients: 2, memory: 100, ..Limits::default() };
        let first = taken.take(60, &limits).unwrap();
        assert!(taken.take(41, &limits).is_none(), "memory");
        let second = taken.take(40, &limits).unwrap();
        assert!(taken.take(0, &limits).is_none(), "clients");
        assert_eq!(taken.clients(), 2);
        drop(first);
        let third = taken.take(60, &limits).unwrap();
        drop((second, third));
        assert_eq!(*taken.0.lock().unwrap(), (0, 0));
    }
}
