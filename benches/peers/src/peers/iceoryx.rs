//! iceoryx2, publish and subscribe, polled. Lossless: a full buffer of our depth makes the publisher wait.
//! `BEST` is what its own benchmark of latency sets: one publisher, one subscriber, a buffer of one that
//! overflows; it loses messages unless each is answered.

use std::hint::spin_loop;

use anyhow::Result;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct Iceoryx<const BEST: bool>;

pub struct Tx {
    publisher: Publisher<ipc::Service, [u64], ()>,
    _node: Node<ipc::Service>,
}

pub struct Rx(Subscriber<ipc::Service, [u64], ()>);

impl Sender for Tx {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        let mut sample = self.publisher.loan_slice_uninit(size / 8).expect("loan");
        let bytes = sample.payload_mut().as_mut_ptr().cast::<u8>();
        // SAFETY: the sample's memory, ours until it is sent; `fill` writes all of it and reads nothing.
        let sample = unsafe {
            fill(std::slice::from_raw_parts_mut(bytes, size));
            sample.assume_init()
        };
        sample.send().expect("send");
    }
}

impl Receiver for Rx {
    #[inline(always)]
    fn recv(&mut self, size: usize, read: impl FnOnce(&[u8])) {
        loop {
            if let Some(sample) = self.0.receive().expect("receive") {
                let words: &[u64] = sample.payload();
                assert_eq!(words.len() * 8, size);
                // SAFETY: the same memory, as bytes.
                return read(unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size) });
            }
            spin_loop();
        }
    }
}

/// One side: it publishes in one direction and subscribes to the other.
fn side<const BEST: bool>(spec: &Spec, out: &str, back: &str) -> Result<(Tx, Rx)> {
    set_log_level(LogLevel::Error);
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let service = |direction: &str| {
        let name = format!("{}-{direction}", spec.name);
        let service = node.service_builder(&name.as_str().try_into()?).publish_subscribe::<[u64]>();
        let buffer = if BEST { 1 } else { spec.slots };
        anyhow::Ok(
            service
                .max_publishers(1)
                .max_subscribers(1)
                .history_size(0)
                .subscriber_max_borrowed_samples(1)
                .subscriber_max_buffer_size(buffer)
                .enable_safe_overflow(BEST)
                .open_or_create()?,
        )
    };
    let publisher = service(out)?
        .publisher_builder()
        .initial_max_slice_len(spec.size / 8)
        .max_loaned_samples(1)
        .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
        .create()?;
    let subscriber = service(back)?.subscriber_builder().create()?;
    Ok((Tx { publisher, _node: node }, Rx(subscriber)))
}

impl<const BEST: bool> Contender for Iceoryx<BEST> {
    type Tx = Tx;
    type Rx = Rx;
    type Offer = (Tx, Rx);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        Ok((side::<BEST>(spec, "out", "back")?, String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx, Rx)> {
        side::<BEST>(spec, "back", "out")
    }

    fn accept(offer: Self::Offer) -> Result<(Tx, Rx)> {
        Ok(offer)
    }
}
