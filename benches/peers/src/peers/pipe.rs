//! Two pipes.

use std::fs::File;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use rustix::pipe::{PipeFlags, pipe_with};

use super::stream::{Rx, Tx, ends};
use crate::contender::{Contender, Spec};

pub struct Pipe;

/// One end of both.
pub struct Files {
    pub to: File,
    pub from: File,
}

/// Both ends, with the word by which the other process finds the second: as long as that is held.
pub fn make() -> Result<([Files; 2], String)> {
    let [out, back] = [pipe_with(PipeFlags::CLOEXEC)?, pipe_with(PipeFlags::CLOEXEC)?];
    let ours = Files { to: out.1.into(), from: back.0.into() };
    let theirs = Files { to: back.1.into(), from: out.0.into() };
    let token = format!("{} {} {}", std::process::id(), theirs.from.as_raw_fd(), theirs.to.as_raw_fd());
    Ok(([ours, theirs], token))
}

/// The other process's end.
pub fn open(token: &str) -> Result<Files> {
    let mut words = token.split(' ');
    let mut word = || words.next().context("token");
    let folder = format!("/proc/{}/fd", word()?);
    let from = File::open(format!("{folder}/{}", word()?))?;
    let to = File::options().write(true).open(format!("{folder}/{}", word()?))?;
    Ok(Files { to, from })
}

impl Contender for Pipe {
    type Tx = Tx<File>;
    type Rx = Rx<File>;
    type Offer = (Tx<File>, Rx<File>, Files);

    fn offer(spec: &Spec) -> Result<(Self::Offer, String)> {
        let ([ours, theirs], token) = make()?;
        let (tx, rx) = ends(ours.to, ours.from, spec.size);
        Ok(((tx, rx, theirs), token))
    }

    fn join(spec: &Spec, token: &str) -> Result<(Self::Tx, Self::Rx)> {
        let files = open(token)?;
        Ok(ends(files.to, files.from, spec.size))
    }

    fn accept((tx, rx, _theirs): Self::Offer) -> Result<(Self::Tx, Self::Rx)> {
        Ok((tx, rx))
    }
}
