//! `stat`: one channel in full.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use capnproto_shm_transport::{ChannelInfo, OpenError};

use crate::args::{Place, Stat};
use crate::channel::{Channel, FORMAT, Ring, Server, Side, Single, SingleServer, look, servers, sleep_until};
use crate::process::Processes;
use crate::rates::Look;
use crate::schema::Schemas;
use crate::{Exit, interrupt, text};

pub fn run(place: &Place, options: &Stat) -> anyhow::Result<Exit> {
    let schemas = Schemas::maybe(options.ls.schema.as_deref())?;
    if options.ls.watch {
        interrupt::watch()?;
    }
    let mut before = match only(place, &options.name) {
        Ok(look) => look,
        Err(error) => match servers(place)?.into_iter().find(|server| server.name == options.name) {
            Some(server) => return of_server(server, options.ls.json),
            None => return Err(error),
        },
    };
    loop {
        sleep_until(before.at + options.ls.interval());
        let now = only(place, &options.name)?;
        let info = now.channels.first().context("the channel has gone")?;
        let channel = Channel::of(info, before.rates(info, now.at), &schemas, &mut Processes::default());
        let out = io::stdout();
        let clear = options.ls.watch && !options.ls.json && out.is_terminal();
        let mut out = out.lock();
        let whole = channel.problem.is_none();
        if options.ls.json {
            serde_json::to_writer(&mut out, &Single { format: FORMAT, channel })?;
            writeln!(out)?;
        } else {
            if clear {
                write!(out, "\x1b[H\x1b[J")?;
            }
            print(&mut out, &channel)?;
        }
        out.flush()?;
        if !options.ls.watch || interrupt::asked() {
            return Ok(if whole { Exit::Success } else { Exit::Failure });
        }
        before = now;
    }
}

/// A server has no figures: one print says all.
fn of_server(server: Server, json: bool) -> anyhow::Result<Exit> {
    let exit = if server.problem.is_none() { Exit::Success } else { Exit::Failure };
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer(&mut out, &SingleServer { format: FORMAT, server })?;
        writeln!(out)?;
    } else {
        field(&mut out, "server", &server.name)?;
        field(&mut out, "directory", &server.directory)?;
        field(&mut out, "process", &server.short())?;
        field(&mut out, "age", &server.age())?;
        problem(&mut out, server.problem.as_deref())?;
    }
    out.flush()?;
    Ok(exit)
}

fn field(out: &mut impl Write, name: &str, value: &str) -> io::Result<()> {
    writeln!(out, "{:<12}{}", name, text::printable(value))
}

fn problem(out: &mut impl Write, problem: Option<&str>) -> io::Result<()> {
    for (at, line) in text::wrapped(&text::printable(problem.unwrap_or("")), 66).iter().enumerate() {
        field(out, if at == 0 { "problem" } else { "" }, line)?;
    }
    Ok(())
}

/// A look at one channel, also one with something wrong.
fn only(place: &Place, name: &str) -> anyhow::Result<Look> {
    match ChannelInfo::of_with(name, &place.config()) {
        Ok(info) => Ok(Look::new(vec![info])),
        Err(error @ OpenError::Config(_)) => Err(error.into()),
        Err(error) => {
            let mut look = look(place)?;
            look.channels.retain(|info| info.name == name);
            if look.channels.is_empty() { Err(error.into()) } else { Ok(look) }
        }
    }
}

fn print(out: &mut impl Write, channel: &Channel) -> io::Result<()> {
    field(out, "channel", &channel.name)?;
    field(out, "directory", &channel.directory)?;
    field(out, "state", channel.state.word())?;
    if let Some(generation) = &channel.generation {
        field(out, "generation", &format!("{generation}, {} old", channel.age()))?;
    }
    if let Some(tag) = channel.tag.as_ref().filter(|tag| !tag.is_empty()) {
        field(out, "tag", tag)?;
    }
    for (name, side) in [("side A", &channel.a), ("side B", &channel.b)] {
        field(out, name, &describe_side(side))?;
    }
    problem(out, channel.problem.as_deref())?;
    let rings: Vec<_> = channel.rings().into_iter().filter_map(|(way, ring)| Some((way, ring?))).collect();
    if rings.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head: Vec<_> = std::iter::once("").chain(rings.iter().map(|(way, _)| *way)).collect();
    let mut table = text::table(&head, &[1, 2]);
    let mut row = |name: &str, value: &dyn Fn(&Ring) -> String| {
        table.add_row(std::iter::once(name.to_owned()).chain(rings.iter().map(|(_, ring)| value(ring))));
    };
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), text::count);
    row("messages are", &|ring| ring.carries.short());
    row("slots", &|ring| format!("{} x {} B", ring.slot_count, ring.slot_size));
    row("file", &|ring| text::bytes(ring.file_bytes));
    row("used", &|ring| format!("{} ({:.0}%)", ring.used_slots, ring.fill() * 100.0));
    row("messages", &|ring| ring.messages.to_string());
    row("  a second", &|ring| rate(ring.messages_per_s));
    row("bytes", &|ring| ring.bytes.to_string());
    row("  a second", &|ring| rate(ring.bytes_per_s));
    row("found full", &|ring| ring.full_waits.to_string());
    row("parks", &|ring| ring.parks.to_string());
    row("wakes", &|ring| ring.wakes.to_string());
    row("closed", &|ring| if ring.closed { "yes" } else { "no" }.to_owned());
    text::print_table(out, &table)
}

fn describe_side(side: &Side) -> String {
    let mut text = side.short();
    if let Some(poll) = &side.poll {
        text += &format!(", polls by {poll}");
    }
    if side.awaits_room {
        text += ", sleeps until there is room";
    }
    if side.awaits_message {
        text += ", sleeps until there is a message";
    }
    text
}
