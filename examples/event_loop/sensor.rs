//! Side B: values through the channel, lines through the socket. It is an ordinary thread.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::thread::sleep;
use std::time::Duration;

use capnproto_shm_transport::{Channel, SendError};

use crate::{Failure, PATIENCE};

/// Bursts of values, with a pause after each.
const BURST: u64 = 5;
const PAUSE: Duration = Duration::from_millis(40);

pub fn run(name: &str, address: &str) -> Result<(), Failure> {
    // An interrupt of the terminal reaches both processes. This one ends when the other does.
    ctrlc::set_handler(|| {})?;
    let mut socket = TcpStream::connect(address)?;
    let mut channel = Channel::<u64, u8>::open(name, PATIENCE)?;
    for value in 0.. {
        match channel.send(&value) {
            Ok(()) => {}
            Err(SendError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if value % BURST == BURST - 1 {
            sleep(PAUSE);
        }
        if value % (3 * BURST) == 0 {
            match socket.write_all(format!("{} values so far\n", value + 1).as_bytes()) {
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                written => written?,
            }
        }
    }
    Ok(())
}
