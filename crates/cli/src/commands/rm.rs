//! `rm`: removes what dead channels and dead servers left. A live one is refused.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};

use anyhow::bail;
use capnproto_shm_transport::{Life, RemoveError, Server, Transport};

use crate::args::{Place, Rm};
use crate::channel::{channels_there, servers_there};
use crate::{Exit, exit_of, said, text};

/// The two kinds of things that can stand under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Channel,
    Server,
}

/// One of them, by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    name: String,
    what: What,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = text::printable(&self.name);
        match self.what {
            What::Channel => f.write_str(&name),
            What::Server => write!(f, "server {name}"),
        }
    }
}

/// How it is.
enum State {
    Dead,
    Alive,
    /// Another user's, another version's, or none of ours.
    Refused(String),
}

type Found = BTreeMap<Entry, State>;

pub fn run(place: &Place, options: &Rm) -> anyhow::Result<Exit> {
    let found = find(place)?;
    let mut worst = Exit::Success;
    let mut out = io::stdout().lock();
    let entries: Vec<Entry> = if options.dead {
        let dead = found.iter().filter(|(_, state)| matches!(state, State::Dead));
        dead.map(|(entry, _)| entry.clone()).collect()
    } else {
        options.names.iter().flat_map(|name| named(&found, name)).collect()
    };
    if entries.is_empty() {
        writeln!(out, "nothing is left by dead channels and servers")?;
    }
    for entry in entries {
        let done = if options.dry_run {
            would_remove(&entry, found.get(&entry)).map(|()| "would remove")
        } else {
            remove(place, &entry).map(|()| "removed").map_err(anyhow::Error::from)
        };
        match done {
            Ok(done) => writeln!(out, "{done} {entry}")?,
            // Another process was faster.
            Err(error) if options.dead && exit_of(&error) == Exit::NotFound => {}
            Err(error) => {
                writeln!(io::stderr(), "capnp-shm: {}", said(&error))?;
                worst = worst.max(exit_of(&error));
            }
        }
    }
    out.flush()?;
    Ok(worst)
}

fn remove(place: &Place, entry: &Entry) -> Result<(), RemoveError> {
    match entry.what {
        What::Channel => Transport::remove_with(&entry.name, &place.config()),
        What::Server => Server::remove_with(&entry.name, &place.config()),
    }
}

fn would_remove(entry: &Entry, state: Option<&State>) -> anyhow::Result<()> {
    let name = entry.name.clone();
    match state {
        Some(State::Dead) => Ok(()),
        Some(State::Alive) => Err(RemoveError::InUse { name }.into()),
        Some(State::Refused(why)) => bail!("{why}"),
        None => Err(RemoveError::NotFound { name }.into()),
    }
}

/// A channel and a server may have the same name. A name that is neither is asked for as a channel.
fn named(found: &Found, name: &str) -> Vec<Entry> {
    let entry = |what| Entry { name: name.to_owned(), what };
    let both = [What::Channel, What::Server].map(entry);
    let there: Vec<_> = both.into_iter().filter(|entry| found.contains_key(entry)).collect();
    if there.is_empty() { vec![entry(What::Channel)] } else { there }
}

fn find(place: &Place) -> anyhow::Result<Found> {
    let channels = channels_there(place)?.into_iter().map(|info| {
        let state = match &info.problem {
            _ if info.is_leftover() => State::Dead,
            Some(problem) if info.a.life != Life::Alive => State::Refused(problem.to_string()),
            _ => State::Alive,
        };
        (Entry { name: info.name, what: What::Channel }, state)
    });
    let servers = servers_there(place)?.into_iter().map(|info| {
        let state = match (info.life, &info.problem) {
            (_, Some(problem)) => State::Refused(problem.to_string()),
            (Life::Dead, None) => State::Dead,
            _ => State::Alive,
        };
        (Entry { name: info.name, what: What::Server }, state)
    });
    Ok(channels.chain(servers).collect())
}
