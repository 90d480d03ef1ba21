//! Side A: takes a frame whenever one is due, in the slot that carries it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, RecvError, SendError, Transport};

use crate::frame::{Control, Header, TAG};
use crate::mapping::Addresses;
use crate::{Args, Failure, PATIENCE, picture};

/// Three that the viewer looks at, and some that it has not got to.
const SLOTS: usize = 8;

pub fn run(args: &Args, name: &str) -> Result<(), Failure> {
    let size = [args.width, args.height];
    let frame_bytes = Header::BYTES + args.width as usize * args.height as usize;
    let config =
        Config::new().a_to_b(frame_bytes, SLOTS).b_to_a(size_of::<Control>(), SLOTS).message_tag(TAG);
    let mut channel = Transport::create(name, &config)?;
    channel.wait_for_peer(PATIENCE)?;

    let mut control = Control::FIRST;
    let (mut number, mut dropped) = (0, 0);
    let mut addresses = Addresses::new(name)?;
    let mut due = Instant::now();
    loop {
        match channel.try_recv_latest() {
            Ok(command) => {
                control = bytemuck::try_pod_read_unaligned(&command).map_err(|_| "not a command")?
            }
            Err(RecvError::Empty) => {}
            Err(error) => return Err(error.into()),
        }
        if control.stop != 0 {
            // Dropping the channel closes it: the viewer sees every frame, then the end.
            return Ok(());
        }
        match channel.try_reserve() {
            Ok(mut slot) => {
                addresses.note(&slot)?;
                let (header, pixels) = slot.split_at_mut(Header::BYTES);
                let light = control.exposure_us as f32 / 10_000.0 * control.gain;
                picture::draw(pixels, args.width as usize, number, light);
                *bytemuck::from_bytes_mut(header) = Header::new(number, dropped, size, &control);
                slot.commit(frame_bytes);
                number += 1;
            }
            // A camera does not wait for a slow viewer.
            Err(SendError::Full) => dropped += 1,
            Err(error) => return Err(error.into()),
        }
        due += Duration::from_secs(1) / args.fps;
        sleep(due.saturating_duration_since(Instant::now()));
    }
}
