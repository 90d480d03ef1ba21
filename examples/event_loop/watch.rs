//! Side A: the event loop.

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Channel, Config, Receiver, RecvError};
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::{Failure, PATIENCE};

const CHANNEL: Token = Token(0);
const SOCKET: Token = Token(1);
const CTRL_C: Token = Token(2);

pub fn run(time: Duration) -> Result<(), Failure> {
    let name = format!("event-loop-{}", std::process::id());
    let mut channel = Channel::<u8, u64>::create(&name, &Config::new())?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let mut child = Command::new(std::env::current_exe()?).args(["--sensor", &name, &address]).spawn()?;
    // The sensor goes to the socket first, so that nothing waits here.
    channel.wait_for_peer(PATIENCE)?;
    let (socket, _) = listener.accept()?;
    socket.set_nonblocking(true)?;
    let mut socket = TcpStream::from_std(socket);

    let mut poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), CTRL_C)?;
    ctrlc::set_handler(move || drop(waker.wake()))?;
    let (_, values) = channel.halves();
    poll.registry().register(&mut SourceFd(&values.wait_fd()?.as_raw_fd()), CHANNEL, Interest::READABLE)?;
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;

    let (mut events, end) = (Events::with_capacity(8), Instant::now() + time);
    let (mut received, mut read, mut wakes) = (0, 0, 0);
    loop {
        // The descriptor tells of a message only if this half said that it waits.
        while !values.arm()? {
            received += receive(values, received)?;
        }
        let left = end.saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(left)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        if left.is_zero() || events.iter().any(|event| event.token() == CTRL_C) {
            break;
        }
        wakes += 1;
        for event in &events {
            match event.token() {
                CHANNEL => received += receive(values, received)?,
                _ => read += read_lines(&mut socket)?,
            }
        }
    }
    println!("{received} values from the channel, {read} bytes from the socket, {wakes} wakes of one thread");

    // The sensor notices that this end is gone.
    drop((channel, socket));
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the sensor failed: {status}").into()) }
}

/// Receives what is there: values from `next` on.
fn receive(values: &mut Receiver<u64>, next: u64) -> Result<u64, Failure> {
    let mut count = 0;
    loop {
        match values.try_recv() {
            Ok(value) if *value == next + count => count += 1,
            Ok(value) => return Err(format!("{} instead of {}", *value, next + count).into()),
            Err(RecvError::Empty) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if count > 0 {
        println!("channel: {count} values, the last is {}", next + count - 1);
    }
    Ok(count)
}

/// Prints what is there.
fn read_lines(socket: &mut TcpStream) -> Result<usize, Failure> {
    let (mut buffer, mut read) = ([0; 256], 0);
    loop {
        match socket.read(&mut buffer) {
            Ok(0) => return Err("the sensor has gone".into()),
            Ok(bytes) => {
                read += bytes;
                print!("socket:  {}", String::from_utf8_lossy(&buffer[..bytes]));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(read),
            Err(error) => return Err(error.into()),
        }
    }
}
