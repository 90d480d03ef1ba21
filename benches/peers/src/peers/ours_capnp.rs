//! Cap'n Proto messages over capnproto-shm-transport, built and read in the slot.

use anyhow::Result;
use capnproto_shm_transport::{CapnpChannel, CapnpReceiver, CapnpSender, Config};

use super::{message, ours};
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct OursCapnp;

pub struct Tx(CapnpSender<message::Owned>);
pub struct Rx(CapnpReceiver<message::Owned>);

impl Sender for Tx {
    #[inline(always)]
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) {
        let mut builder = self.0.reserve().expect("reserve");
        message::write(builder.init_root(), message::word(fill));
        builder.commit().expect("commit");
    }
}

impl Receiver for Rx {
    #[inline(always)]
    fn recv(&mut self, _: usize, read: impl FnOnce(&[u8])) {
        let reader = self.0.recv().expect("receive");
        let word = message::read(reader.get().expect("root")).expect("message");
        read(&word.to_ne_bytes());
    }
}

impl Contender for OursCapnp {
    type Tx = Tx;
    type Rx = Rx;
    type Offer = (Tx, Rx);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let (tx, rx) = CapnpChannel::create(&spec.name, &ours::config(spec))?.split();
        Ok(((Tx(tx), Rx(rx)), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx, Rx)> {
        let own = Config::new().poll(ours::poll(spec));
        let (tx, rx) = CapnpChannel::open_with(&spec.name, ours::PATIENCE, &own)?.split();
        Ok((Tx(tx), Rx(rx)))
    }

    fn accept(offer: Self::Offer) -> Result<(Tx, Rx)> {
        Ok(offer)
    }
}
