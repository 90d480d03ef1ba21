//! Receiving in the background: a thread that hands every message to a callback.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::duplex::ReceiveHalf;
use crate::error::RecvError;
use crate::ring::{Consumer, Interrupter};

/// Messages handed to the callback between two waits, released at once.
const BURST: usize = 64;

/// A thread that receives; made by [`Consumer::listen`] and its like on every kind of receiver and channel.
///
/// The thread hands over messages in bursts of up to 64 and waits as this side's poll mode says. It ends when it is
/// stopped, when somebody interrupts the receiver, or when the channel ends. Dropping the handle stops and joins it;
/// from within the callback it only stops it. A panic in the callback ends the thread and goes on in the thread that joins it:
/// [`join`](Self::join), [`stop`](Self::stop), or the drop (unless that is unwinding already).
#[derive(Debug)]
#[must_use = "dropping a listener stops it"]
pub struct Listener<R = Consumer> {
    /// `None` if the system gave no thread, or the thread is joined.
    thread: Option<JoinHandle<(R, RecvError)>>,
    /// The receiver, if no thread has it.
    idle: Arc<Mutex<Option<R>>>,
    interrupter: Interrupter,
}

impl<R: ReceiveHalf + Send + 'static> Listener<R> {
    /// Waits and calls `burst` with the receiver and a number of messages, again and again; at last `ended`.
    pub(crate) fn start(
        receiver: R,
        mut burst: impl FnMut(&mut R, usize) -> Result<usize, RecvError> + Send + 'static,
        ended: impl FnOnce(&RecvError) + Send + 'static,
    ) -> Self {
        let interrupter = receiver.consumer().interrupter();
        let idle = Arc::new(Mutex::new(Some(receiver)));
        let given = Arc::clone(&idle);
        let thread = thread::Builder::new().name("shm-listener".to_owned()).spawn(move || {
            let mut receiver = take(&given);
            let end = loop {
                let turn = receiver.consumer_mut().wait().and_then(|()| burst(&mut receiver, BURST));
                if let Err(end) = turn {
                    break end;
                }
                if receiver.consumer_mut().take_interruption() {
                    break RecvError::Interrupted;
                }
            };
            ended(&end);
            (receiver, end)
        });
        Self { thread: thread.ok(), idle, interrupter }
    }
}

#[allow(
    clippy::expect_used,
    reason = "taken by the one thread that was started, or by the handle if none was"
)]
fn take<R>(idle: &Mutex<Option<R>>) -> R {
    idle.lock().unwrap_or_else(PoisonError::into_inner).take().expect("taken once")
}

impl Consumer {
    /// Receives in a thread of its own, until the handle is dropped or the channel ends.
    /// [`Listener::join`] says why it ended; [`listen_with`](Self::listen_with) tells a callback.
    ///
    /// If the system gives no thread, the handle is [finished](Listener::is_finished) at once, and `join` says
    /// [`RecvError::NoThread`].
    ///
    /// ```
    /// # use capnproto_shm_transport::{Config, Transport};
    /// # use std::time::Duration;
    /// # let name = format!("doc-listen-{}", std::process::id());
    /// # let mut a = Transport::create(&name, &Config::new())?;
    /// # let b = Transport::open(&name, Duration::from_secs(1))?;
    /// let (sender, messages) = std::sync::mpsc::channel();
    /// let (_producer, consumer) = b.split();
    /// let listener = consumer.listen(move |message| sender.send(message.to_vec()).unwrap());
    /// a.send(b"hello")?;
    /// assert_eq!(messages.recv()?, b"hello");
    /// drop(listener); // stops and joins
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn listen(self, callback: impl FnMut(&[u8]) + Send + 'static) -> Listener {
        self.listen_with(callback, |_| ())
    }

    /// Like [`listen`](Self::listen), and calls `ended` in that thread with the reason when it ends:
    /// [`Closed`](RecvError::Closed), [`PeerDead`](RecvError::PeerDead), [`Superseded`](RecvError::Superseded),
    /// [`Corrupt`](RecvError::Corrupt), or [`Interrupted`](RecvError::Interrupted) if it was stopped.
    pub fn listen_with(
        self,
        mut callback: impl FnMut(&[u8]) + Send + 'static,
        ended: impl FnOnce(&RecvError) + Send + 'static,
    ) -> Listener {
        Listener::start(self, move |consumer, most| consumer.drain(most, &mut callback), ended)
    }
}

impl<R> Listener<R> {
    /// Whether the thread has ended, because the channel has or the callback panicked, or was never had.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the channel ends and says how: [`RecvError::Closed`], [`RecvError::PeerDead`],
    /// [`RecvError::Superseded`] or [`RecvError::Corrupt`]; [`RecvError::Interrupted`] if somebody interrupted the
    /// receiver; [`RecvError::NoThread`] if the system gave no thread.
    ///
    /// # Panics
    ///
    /// With the callback's own panic, if it had one.
    pub fn join(mut self) -> RecvError {
        self.finish().map_or(RecvError::NoThread, |(_, end)| end)
    }

    fn finish(&mut self) -> Option<(R, RecvError)> {
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

impl<R: ReceiveHalf> Listener<R> {
    /// Stops the thread after the burst it is in, and gives the receiver back that was given.
    ///
    /// # Panics
    ///
    /// With the callback's own panic, if it had one.
    pub fn stop(mut self) -> R {
        self.interrupter.interrupt();
        let mut receiver = self.finish().map_or_else(|| take(&self.idle), |(receiver, _)| receiver);
        // The thread may have ended for another reason.
        receiver.consumer_mut().take_interruption();
        receiver
    }
}

impl<R> Drop for Listener<R> {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        self.interrupter.interrupt();
        // A thread cannot wait for itself.
        if thread.thread().id() == thread::current().id() {
            return;
        }
        match thread.join() {
            Err(panic) if !thread::panicking() => resume_unwind(panic),
            _ => {}
        }
    }
}
