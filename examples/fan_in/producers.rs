//! A process of producers: threads with a channel each, side B.

use std::thread::{scope, sleep};
use std::time::Duration;

use capnproto_shm_transport::{Channel, RecvError, SendError};

use crate::{Failure, PATIENCE};

pub fn run(names: &[String]) -> Result<(), Failure> {
    scope(|scope| {
        let producers: Vec<_> = names.iter().map(|name| scope.spawn(|| produce(name))).collect();
        producers.into_iter().try_for_each(|producer| producer.join().map_err(|_| "a producer panicked")?)
    })
}

/// Sends 0, 1, 2 … with pauses of so many microseconds as the receiver said last, until it has closed.
fn produce(name: &str) -> Result<(), Failure> {
    let mut channel = Channel::<u64>::open(name, PATIENCE)?;
    let mut pause = channel.recv_copied_timeout(PATIENCE)?;
    for number in 0.. {
        match channel.try_recv_copied() {
            Ok(other) => pause = other,
            Err(RecvError::Empty | RecvError::Closed) => {}
            Err(error) => return Err(error.into()),
        }
        match channel.send(&number) {
            Ok(()) => sleep(Duration::from_micros(pause)),
            Err(SendError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
