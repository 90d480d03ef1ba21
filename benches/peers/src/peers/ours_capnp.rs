//! Cap'n Proto messages over capnproto-shm-transport, built and read in the slot.

use std::marker::PhantomData;

use anyhow::Result;
use capnp::traits::HasTypeId;
use capnproto_shm_transport::{CapnpChannel, CapnpReceiver, CapnpSender, Config};

use super::message::{self, Message, Reader};
use super::ours;
use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct OursCapnp<M>(PhantomData<M>);

pub struct Tx<M: Message>(CapnpSender<M::Root>, usize);
pub struct Rx<M: Message>(CapnpReceiver<M::Root>, usize);

impl<M: Message> Sender for Tx<M> {
    #[inline(always)]
    fn send(&mut self, _: usize, fill: impl FnOnce(&mut [u8])) {
        let mut builder = self.0.reserve().expect("reserve");
        M::write(builder.init_root(), message::word(fill), self.1);
        builder.commit().expect("commit");
    }
}

impl<M: Message> Receiver for Rx<M> {
    #[inline(always)]
    fn recv(&mut self, _: usize, read: impl FnOnce(&[u8])) {
        let reader = self.0.recv().expect("receive");
        let word = M::read(reader.get().expect("root"), self.1).expect("message");
        read(&word.to_ne_bytes());
    }
}

impl<M: Message> Contender for OursCapnp<M>
where
    Reader<'static, M>: HasTypeId,
{
    type Tx = Tx<M>;
    type Rx = Rx<M>;
    type Offer = (Tx<M>, Rx<M>);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let (tx, rx) = CapnpChannel::create(&spec.name, &ours::config(spec))?.split();
        Ok(((Tx(tx, spec.parts), Rx(rx, spec.parts)), String::new()))
    }

    fn join(spec: &Spec, _: &str) -> Result<(Tx<M>, Rx<M>)> {
        let own = Config::new().poll(ours::poll(spec));
        let (tx, rx) = CapnpChannel::open_with(&spec.name, ours::PATIENCE, &own)?.split();
        Ok((Tx(tx, spec.parts), Rx(rx, spec.parts)))
    }

    fn accept(offer: Self::Offer) -> Result<(Tx<M>, Rx<M>)> {
        Ok(offer)
    }
}
