//! One message through the ring, sent and received in one thread, so that instructions can be counted:
//! `ci/instructions` runs this under callgrind and prints how many a message costs.

use std::hint::black_box;
use std::time::Duration;

use capnproto_shm_transport::{Config, Transport};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let (Some(work), Some(count)) = (args.next(), args.next().and_then(|n| n.parse::<u64>().ok())) else {
        println!("usage: instructions (none|slot|send|batch|drain) MESSAGES; see ci/instructions");
        return Ok(());
    };
    let name = format!("instructions-{}", std::process::id());
    let config = Config::new().slot_size(64);
    let mut a = Transport::create(&name, &config)?;
    let mut b = Transport::open(&name, Duration::from_secs(1))?;
    let message = black_box([7u8; 64]);
    let mut sum = 0u64;
    let mut read = |bytes: &[u8]| sum = sum.wrapping_add(u64::from(bytes[0]));
    match work.as_str() {
        "slot" => {
            for _ in 0..count {
                let mut slot = a.try_reserve()?;
                slot[..8].copy_from_slice(&message[..8]);
                slot.commit(64);
                read(&b.try_recv()?);
            }
        }
        "send" => {
            for _ in 0..count {
                a.try_send(&message)?;
                read(&b.try_recv()?);
            }
        }
        "batch" => {
            for _ in 0..count / 64 {
                let mut batch = a.batch();
                for _ in 0..64 {
                    let mut slot = batch.try_reserve()?;
                    slot[..8].copy_from_slice(&message[..8]);
                    slot.commit(64);
                }
                batch.publish();
                for _ in 0..64 {
                    read(&b.try_recv()?);
                }
            }
        }
        "drain" => {
            for _ in 0..count / 64 {
                for _ in 0..64 {
                    let mut slot = a.try_reserve()?;
                    slot[..8].copy_from_slice(&message[..8]);
                    slot.commit(64);
                }
                b.drain(64, &mut read)?;
            }
        }
        _ => {}
    }
    black_box(sum);
    Ok(())
}
