//! Files generated from the command line's own description: completions and man pages.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;

use crate::Exit;
use crate::args::Args;

pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "capnp-shm", &mut script);
    io::Write::write_all(&mut io::stdout(), &script)?;
    Ok(Exit::Success)
}

pub fn man(directory: &Path) -> anyhow::Result<Exit> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    clap_mangen::generate_to(Args::command(), directory)
        .with_context(|| format!("cannot write man pages to {}", directory.display()))?;
    io::Write::write_all(
        &mut io::stdout(),
        format!("man pages are in {}\n", directory.display()).as_bytes(),
    )?;
    Ok(Exit::Success)
}
