//! Receiving in the background: a thread that hands every message to a callback.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crate::error::RecvError;
use crate::poll::Fence;
use crate::ring::Consumer;
use crate::segment::Link;

/// Messages handed to the callback between two looks at the stop flag, released at once.
const BURST: usize = 64;

/// A thread that receives; made by [`Consumer::listen`] and [`Transport::listen`](crate::Transport::listen).
///
/// The thread hands over messages in bursts of up to 64 and waits as this side's poll mode says. It ends
/// when it is stopped, or when the channel does. Dropping the handle stops and joins it. A panic in the
/// callback ends the thread and goes on in whoever joins it: [`join`](Self::join), [`stop`](Self::stop), or
/// the drop (unless that is unwinding already).
#[derive(Debug)]
#[must_use = "dropping a listener stops it"]
pub struct Listener {
    thread: Option<JoinHandle<(Consumer, Result<(), RecvError>)>>,
    stop: Arc<AtomicBool>,
    link: Arc<Link>,
}

impl Consumer {
    /// Receives in a thread of its own, until the handle is dropped or the channel ends.
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
    pub fn listen(mut self, mut callback: impl FnMut(&[u8]) + Send + 'static) -> Listener {
        let stop = Arc::new(AtomicBool::new(false));
        let link = Arc::clone(&self.lease().link);
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let end = listen_until(&mut self, &flag, &mut callback);
            (self, end)
        });
        Listener { thread: Some(thread), stop, link }
    }
}

/// Hands over messages until stopped (`Ok`) or at the channel's end.
fn listen_until(
    consumer: &mut Consumer,
    stop: &AtomicBool,
    callback: &mut (impl FnMut(&[u8]) + ?Sized),
) -> Result<(), RecvError> {
    while consumer.wait_unless(stop)? {
        consumer.drain(BURST, &mut *callback)?;
    }
    Ok(())
}

impl Listener {
    /// Whether the thread has ended, because the channel has or the callback panicked.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until the channel ends and says how: [`RecvError::Closed`], [`RecvError::PeerDead`],
    /// [`RecvError::Superseded`] or [`RecvError::Corrupt`].
    ///
    /// # Panics
    ///
    /// With the callback's own panic, if it had one.
    pub fn join(mut self) -> RecvError {
        match self.finish() {
            Some((_, Err(end))) => end,
            // Nobody stopped it, so it ended for a reason.
            _ => RecvError::Closed,
        }
    }

    /// Stops the thread after the burst it is in, and gives the receiving half back.
    ///
    /// # Panics
    ///
    /// With the callback's own panic, if it had one.
    #[allow(
        clippy::expect_used,
        reason = "the thread is there until it is joined, which consumes the handle"
    )]
    pub fn stop(mut self) -> Consumer {
        self.ask_to_stop();
        self.finish().expect("joined once").0
    }

    fn ask_to_stop(&self) {
        // Release pairs with the Acquire in `wait_unless`; the wake's fence orders it before the look at
        // the word, as `poll::park` asks of any act.
        self.stop.store(true, Ordering::Release);
        self.link.rx.words().consumer_notice.wake(Fence::Full);
    }

    fn finish(&mut self) -> Option<(Consumer, Result<(), RecvError>)> {
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.ask_to_stop();
        let Some(thread) = self.thread.take() else { return };
        if let Err(panic) = thread.join()
            && !thread::panicking()
        {
            resume_unwind(panic);
        }
    }
}
