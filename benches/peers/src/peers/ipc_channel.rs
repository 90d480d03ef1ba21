//! ipc-channel: its channels of bytes.

use anyhow::{Context, Result};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcOneShotServer, IpcSender};

use crate::contender::{Contender, Receiver, Sender, Spec};

pub struct IpcChannel;

pub struct Tx {
    to: IpcBytesSender,
    message: Vec<u8>,
}

pub struct Rx(IpcBytesReceiver);

type Ends = (IpcBytesSender, IpcBytesReceiver);

fn ends((to, from): Ends, size: usize) -> (Tx, Rx) {
    (Tx { to, message: vec![0; size] }, Rx(from))
}

impl Sender for Tx {
    #[inline(always)]
    fn send(&mut self, size: usize, fill: impl FnOnce(&mut [u8])) {
        fill(&mut self.message[..size]);
        self.to.send(&self.message[..size]).expect("send");
    }
}

impl Receiver for Rx {
    #[inline(always)]
    fn recv(&mut self, _: usize, read: impl FnOnce(&[u8])) {
        read(&self.0.recv().expect("receive"));
    }
}

impl Contender for IpcChannel {
    type Tx = Tx;
    type Rx = Rx;
    type Offer = (IpcOneShotServer<Ends>, usize);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let (server, name) = IpcOneShotServer::new()?;
        Ok(((server, spec.size), name))
    }

    fn join(spec: &Spec, token: &str) -> Result<(Tx, Rx)> {
        let (out, back) = (ipc::bytes_channel()?, ipc::bytes_channel()?);
        IpcSender::connect(token.to_owned())?.send((out.0, back.1)).context("send the ends")?;
        Ok(ends((back.0, out.1), spec.size))
    }

    fn accept((server, size): Self::Offer) -> Result<(Tx, Rx)> {
        Ok(ends(server.accept()?.1, size))
    }
}
