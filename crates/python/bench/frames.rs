//! The Rust sides of the frames in `compare.py`: 6 MiB each, from a sender, to a receiver in Rust or in Python.
//!
//!     cargo run --release -p capnproto-shm-transport-python --example frames -- send NAME FRAMES
//!     cargo run --release -p capnproto-shm-transport-python --example frames -- recv NAME WARM FRAMES
//!
//! The sender writes every word of every frame. The receiver reads every word, and prints the frames of a second.

use std::error::Error;
use std::time::{Duration, Instant};

use transport::{Config, Transport};

const WORD: usize = size_of::<u64>();
const FRAME_BYTES: usize = 6 << 20;
const SLOTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<(), Box<dyn Error>>;

/// Frame `n` has `n` in each word.
fn send(name: &str, frames: u64) -> Outcome {
    let config = Config::new().a_to_b(FRAME_BYTES, SLOTS).b_to_a(64, 2);
    let mut channel = Transport::create(name, &config)?;
    channel.wait_for_peer(PATIENCE)?;
    let (frames_out, _) = channel.halves();
    for number in 0..frames {
        let mut slot = frames_out.reserve_timeout(PATIENCE)?;
        for word in slot.chunks_exact_mut(WORD) {
            word.copy_from_slice(&number.to_ne_bytes());
        }
        slot.commit(FRAME_BYTES);
    }
    Ok(frames_out.finish(PATIENCE)?)
}

/// The same as `numpy.ndarray.sum` of the frame as `uint64`.
fn sum(frame: &[u8]) -> u64 {
    let words = frame.chunks_exact(WORD).map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
    words.fold(0, u64::wrapping_add)
}

/// Receives some frames first, so that each slot has been touched.
fn recv(name: &str, warm: u64, frames: u64) -> Outcome {
    let mut channel = Transport::open(name, PATIENCE)?;
    let mut began = Instant::now();
    for number in 0..warm + frames {
        if number == warm {
            began = Instant::now();
        }
        let frame = channel.recv_timeout(PATIENCE)?;
        if sum(&frame) != number * (FRAME_BYTES / WORD) as u64 {
            return Err(format!("frame {number} is another one").into());
        }
    }
    println!("{}", frames as f64 / began.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send", name, frames] => send(name, frames.parse()?),
        ["recv", name, warm, frames] => recv(name, warm.parse()?, frames.parse()?),
        _ => Err("usage: frames send NAME FRAMES | recv NAME WARM FRAMES".into()),
    }
}
