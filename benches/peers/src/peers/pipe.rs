//! Two pipes.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};

use super::stream::{Rx, Tx, ends};
use crate::contender::{Contender, Spec};

pub struct Pipe;

pub struct Offer {
    ours: (Tx<File>, Rx<File>),
    /// Held until the follower has opened them.
    _theirs: (File, File),
}

impl Contender for Pipe {
    type Tx = Tx<File>;
    type Rx = Rx<File>;
    type Offer = Offer;

    fn offer(spec: &Spec) -> Result<(Offer, String)> {
        let [out, back] = [pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?];
        let (read, write) = (File::from(out.0), File::from(back.1));
        let token = format!("{} {} {}", std::process::id(), read.as_raw_fd(), write.as_raw_fd());
        let ours = ends(File::from(out.1), File::from(back.0), spec.size);
        Ok((Offer { ours, _theirs: (read, write) }, token))
    }

    fn join(spec: &Spec, token: &str) -> Result<(Self::Tx, Self::Rx)> {
        let mut words = token.split(' ');
        let mut word = || words.next().context("token");
        let folder = format!("/proc/{}/fd", word()?);
        let read = File::open(format!("{folder}/{}", word()?))?;
        let write = File::options().write(true).open(format!("{folder}/{}", word()?))?;
        Ok(ends(write, read, spec.size))
    }

    fn accept(offer: Offer) -> Result<(Self::Tx, Self::Rx)> {
        Ok(offer.ours)
    }
}
