//! The events that wake the halves that sleep on a descriptor.

use std::sync::{Arc, OnceLock};

use crate::crash::step;
use crate::protocol::Half;
use crate::system::{Event, Host, System};

pub(crate) type HostEvent = <Host as System>::Event;

/// The events of one channel, as one side has them.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// This side's own, each made when first asked for, or handed over with the channel.
    own: [OnceLock<Arc<HostEvent>>; 2],
    /// Those of them that this side gave a name. The ring's word on that is no proof: the peer may have written it.
    named: [OnceLock<()>; 2],
    /// The peer's, each opened when first needed, or handed over. `None` if it cannot be had.
    peer: [OnceLock<Option<HostEvent>>; 2],
}

impl Events {
    /// Those of a channel that both sides have from its beginning.
    #[cfg(target_os = "linux")]
    pub(crate) fn handed(own: [HostEvent; 2], peer: [HostEvent; 2]) -> Self {
        Self {
            own: own.map(|event| OnceLock::from(Arc::new(event))),
            peer: peer.map(|event| OnceLock::from(Some(event))),
            ..Self::default()
        }
    }

    /// Whether both sides have them from the channel's beginning.
    pub(crate) fn are_handed(&self) -> bool {
        self.peer.iter().all(|event| event.get().is_some_and(Option::is_some))
    }

    /// The event of one of this side's halves, if it has one.
    pub(crate) fn own(&self, half: Half) -> Option<&Arc<HostEvent>> {
        self.own[half.index()].get()
    }

    /// Keeps the event of one of this side's halves. The first one stays.
    pub(crate) fn keep(&self, half: Half, event: HostEvent) -> &Arc<HostEvent> {
        self.own[half.index()].get_or_init(|| Arc::new(event))
    }

    /// This side gave the event of one of its halves a name.
    pub(super) fn set_named(&self, half: Half) {
        self.named[half.index()].get_or_init(|| ());
    }

    /// Whether it did.
    pub(super) fn is_named(&self, half: Half) -> bool {
        self.named[half.index()].get().is_some()
    }

    /// Notifies one of this side's own halves.
    pub(crate) fn notify_own(&self, half: Half) {
        if let Some(event) = self.own(half) {
            event.notify();
        }
    }

    /// Notifies a half of the peer, whose event `take` opens. Returns whether there is one.
    pub(super) fn notify_peer(&self, half: Half, take: impl FnOnce() -> Option<HostEvent>) -> bool {
        step("notify: begin");
        let event = self.peer[half.index()].get_or_init(take);
        event.iter().for_each(HostEvent::notify);
        step("notify: done");
        event.is_some()
    }
}
