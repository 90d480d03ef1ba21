//! The traffic in tasks: of smol, of tokio, and in an event loop now and then. Futures are dropped at every stage.

use std::pin::pin;

use capnproto_shm_transport::{Consumer, Producer, RecvError, SendError};
use futures_lite::future::{or, yield_now};
use rustix::event::{PollFd, PollFlags, poll};

use super::{Load, Progress, check, write};

/// Runs a task in one of several executors.
fn run<T>(executor: u64, task: impl Future<Output = T>) -> T {
    let one = tokio::runtime::Builder::new_current_thread;
    let many = tokio::runtime::Builder::new_multi_thread;
    match executor % 4 {
        0 => one().enable_all().build().unwrap().block_on(task),
        1 => many().worker_threads(1).enable_all().build().unwrap().block_on(task),
        2 => smol::block_on(task),
        _ => futures::executor::block_on(task),
    }
}

/// The result of a task, unless it is dropped before, after so many polls.
async fn dropped<T>(polls: u64, task: impl Future<Output = T>) -> Option<T> {
    let limit = async {
        for _ in 0..polls {
            yield_now().await;
        }
        None
    };
    or(async { Some(pin!(task).await) }, limit).await
}

impl Load {
    /// Like [`send`](Self::send).
    pub fn send_in_task(mut self, tx: &mut Producer, progress: Option<&Progress>) -> SendError {
        run(self.dice.next(), async {
            let mut sequence = 0;
            loop {
                let operation = self.dice.below(8);
                let messages =
                    if operation == 0 { 1 + self.dice.below(tx.slot_count() as u64 / 2) } else { 1 };
                if let Some(progress) = progress {
                    progress.write(sequence, sequence + messages);
                }
                let sent = match operation {
                    0 => match tx.reserve_span_async(Self::room(tx, messages)).await.map(drop) {
                        Ok(()) => self.gather(tx, sequence, messages),
                        Err(end) => Err(end),
                    },
                    1 | 2 => self.one_in_task(tx, sequence, tx.max_message_size()).await,
                    _ => self.one_in_task(tx, sequence, tx.slot_size()).await,
                };
                if let Err(end) = sent {
                    return end;
                }
                sequence += messages;
                if let Some(progress) = progress {
                    progress.write(sequence, sequence);
                }
            }
        })
    }

    async fn one_in_task(&mut self, tx: &mut Producer, sequence: u64, most: usize) -> Result<(), SendError> {
        let len = self.length(most);
        while self.dice.below(4) == 0 {
            // Perhaps reserved, and given back.
            let polls = self.dice.below(6);
            if let Some(Err(end)) = dropped(polls, async { tx.reserve_async().await.map(drop) }).await {
                return Err(end);
            }
        }
        let mut slot = if most > tx.slot_size() {
            tx.reserve_span_async(len).await?
        } else {
            tx.reserve_async().await?
        };
        write(&mut slot[..len], sequence);
        slot.commit(len);
        Ok(())
    }

    /// Like [`receive`](Self::receive).
    pub fn receive_in_task(mut self, rx: &mut Consumer) -> (u64, RecvError) {
        run(self.dice.next(), async {
            let (mut sequence, mut copy) = (0, Vec::new());
            loop {
                let received = match self.dice.below(6) {
                    0 => rx.recv_async().await.map(|message| check(&message, sequence)).map(|()| 1),
                    1 => rx.recv_copied_async(&mut copy).await.map(|_| check(&copy, sequence)).map(|()| 1),
                    2 => rx.try_recv().map(|message| check(&message, sequence)).map(|()| 1),
                    3 => {
                        let mut next = sequence;
                        rx.drain(1 + self.dice.below(9) as usize, |message| {
                            check(message, next);
                            next += 1;
                        })
                    }
                    4 => {
                        let receive =
                            async { rx.recv_async().await.map(|message| check(&message, sequence)) };
                        let received = dropped(self.dice.below(6), receive).await;
                        received.unwrap_or(Err(RecvError::Empty)).map(|()| 1)
                    }
                    _ => match rx.arm() {
                        Ok(true) => {
                            let descriptor = rx.wait_fd().unwrap();
                            poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], None).unwrap();
                            Ok(0)
                        }
                        armed => armed.map(|_| 0),
                    },
                };
                match received {
                    Ok(messages) => sequence += messages as u64,
                    Err(RecvError::Empty) => yield_now().await,
                    Err(end) => return (sequence, end),
                }
                if sequence > 0 {
                    if let Some(came) = self.came.take() {
                        let _ = came.send(());
                    }
                }
            }
        })
    }
}
