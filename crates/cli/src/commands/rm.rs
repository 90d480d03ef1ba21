//! `rm`: removes what dead channels left. A live one is refused.

use std::io::{self, Write};

use anyhow::Context;
use capnproto_shm_transport::{Channels, RemoveError, Transport};

use crate::args::{Place, Rm};
use crate::{Exit, exit_of, text};

pub fn run(place: &Place, options: &Rm) -> anyhow::Result<Exit> {
    let names = if options.dead { dead(place)? } else { options.names.clone() };
    let mut worst = Exit::Success;
    let mut out = io::stdout().lock();
    if options.dead && names.is_empty() {
        writeln!(out, "nothing is left by dead channels")?;
    }
    for name in names {
        let shown = text::printable(&name);
        if options.dry_run {
            writeln!(out, "would remove {shown}")?;
            continue;
        }
        match Transport::remove_with(&name, &place.config()) {
            Ok(()) => writeln!(out, "removed {shown}")?,
            // Another process was faster.
            Err(RemoveError::NotFound { .. }) if options.dead => {}
            Err(error) => {
                let error = anyhow::Error::from(error);
                writeln!(io::stderr(), "capnp-shm: {error:#}")?;
                worst = exit_of(&error);
            }
        }
    }
    out.flush()?;
    Ok(worst)
}

/// Every name whose side A is gone.
fn dead(place: &Place) -> anyhow::Result<Vec<String>> {
    let channels =
        Channels::list_with(&place.config()).context("cannot read the directory of the channels")?;
    Ok(channels.into_iter().filter(|info| info.is_leftover()).map(|info| info.name).collect())
}
