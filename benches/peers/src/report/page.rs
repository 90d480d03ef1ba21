//! The page.

use std::fmt::Write;

use super::bounds::Bound;
use super::plot::{columns, series_of, value};
use super::{Results, ratio};
use crate::distance::{BOTH, Distance, FAR, NEAR};
use crate::idle::CHANNELS;
use crate::plan::{Section, Unit};
use crate::runner::{Pace, Row};
use crate::sample::Figures;
use crate::sections::{apart, series::OURS};

/// The reasons of unmet bounds, where they are known.
const WHY: &str = "\
    Bounds that are missed in some run, and the reasons. *Zero-copy of 64 KiB over up to 16 slots*: the copier stays within \
    its own core's cache, while every line of a message that is sent crosses from one core's cache to the \
    other's, twice: written by the one and read by the other, then taken back to be written again. The table \
    below has what writing and reading take alone; the minimal rings take as long as ours. Over as many \
    slots as leave that cache, ours is ahead of memcpy, and over more than the shared cache holds, both wait \
    for memory. *One way, 8 bytes*: eight messages share a line, so that the instructions of a call count \
    and not the lines, and every check is some; `batch` with `drain` makes fewer of them. *Round trips of 64 \
    bytes*: the better minimal ring has its commit word in the slot, so the word and the first bytes come as \
    one line. Ours, as the minimal ring with an index, reads the index and then the slot: one line more each \
    way. In turn an index says of many messages at once that they are there: one way, the ring with words \
    reaches half of ours at 8 and 64 bytes, and is ahead where a message and its word share a line. *Wake of \
    a parked receiver, 30 ms*: it is a wake from a deep rest of the processor, and scatters as much for all. \
    *Cap'n Proto against one process*: one processor finds every line of a message in its own cache; two \
    processors pay for passing the lines on, as two threads do in plain memory, in the next row. \
    *RPC*: most of a call is capnp-rpc's own work, which both ends in one thread take too; a call each 1 ms \
    is two wakes, and capnp-rpc's tasks between them. *Where a line takes 500 ns there and back* instead of \
    100, as this virtual machine has it for minutes at a time, rates are a fifth, and in a run that had it \
    so a Cap'n Proto request and reply cost 1.4 times its parts: it lies in several lines, which a minimal \
    ring reads in one go, while a reader follows pointers. *Round trips one after the other with a tap* on \
    two processors: both sides take a processor each, so every nanosecond of the tap is one of theirs.";

pub fn text(results: &Results, pace: Pace, machine: &[(String, String)], bounds: &[Bound]) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, results, pace, machine, bounds);
    page
}

fn write_page(
    page: &mut String,
    results: &Results,
    pace: Pace,
    machine: &[(String, String)],
    bounds: &[Bound],
) -> std::fmt::Result {
    writeln!(page, "# Benchmarks\n")?;
    writeln!(
        page,
        "Written by `cargo run --release --manifest-path benches/peers/Cargo.toml`; do not edit."
    )?;
    writeln!(
        page,
        "Two processes on two processors, pinned (threads only where it says so). Every word of every \
         message is written and read, and the sum checked. In each table all entries of a column took \
         turns, {} rounds of {} ms each unless the text says otherwise; a figure is the median of its \
         rounds, a maximum that of all rounds. Absolute figures are of this machine on this day: compare \
         ratios. Between turns a bare cache line goes there and back: a column is measured for up to twice as \
         many turns while that takes over {NEAR} times the least of the run, and the turns in which it was \
         quickest count; the last line of each table has what it took in those. A turn is *near* if the line \
         took under {NEAR} times the least of the run before and after it, *far* if over {FAR} times. A ratio \
         is the median over rounds of each against its neighbour in time. Ours has its default configuration \
         but for the sizes and the poll mode, `Spin` where nothing else is said. Every round is in [results.json](benchmarks/results.json).\n",
        pace.rounds,
        pace.round.as_millis()
    )?;
    writeln!(page, "## The machine\n\n| | |\n|---|---|")?;
    for (name, value) in machine {
        writeln!(page, "| {name} | {value} |")?;
    }
    write_bounds(page, bounds)?;
    writeln!(page, "\n{WHY}")?;
    for (section, rows) in &results.sections {
        write_section(page, section, rows, results)?;
    }
    write_rpc(page, results)?;
    write_idle(page, results)?;
    write_memory(page, results)?;
    write_served(page, results)?;
    write_tapped(page, results)
}

fn write_bounds(page: &mut String, bounds: &[Bound]) -> std::fmt::Result {
    writeln!(page, "\n## Bounds\n\n| what | bound | measured | | of |\n|---|---|---|---|---|")?;
    for bound in bounds {
        let sign = if bound.at_least { "≥" } else { "≤" };
        let measured = bound.measured.map_or("–".to_owned(), |m| format!("{m:.3}"));
        let met = match bound.met() {
            Some(true) => "met",
            Some(false) => "**not met**",
            None => "–",
        };
        writeln!(
            page,
            "| {} | {sign} {} | {measured} | {met} | {} |",
            bound.what, bound.bound, bound.against
        )?;
    }
    Ok(())
}

fn write_section(page: &mut String, section: &Section, rows: &[Row], results: &Results) -> std::fmt::Result {
    writeln!(page, "\n## {}\n\n{}\n", section.title, section.about)?;
    if section.axis.plot {
        writeln!(page, "![{}](benchmarks/{}.svg)\n", section.title, section.id)?;
    }
    let columns = columns(rows);
    let unit = match section.unit {
        Unit::Nanos => "ns",
        Unit::Rate => "M/s",
        Unit::Calls => "thousand calls a second",
        Unit::Tail => "p99.9, ns",
        Unit::Wake => "p50, ns",
    };
    write!(page, "| {unit} |")?;
    for &x in &columns {
        write!(page, " {} |", (section.axis.format)(x))?;
    }
    writeln!(page, "\n|---|{}", "---:|".repeat(columns.len()))?;
    for name in series_of(rows) {
        write!(page, "| {name} |")?;
        for &x in &columns {
            let figures = results.get(section.id, name, x);
            let cell = figures.and_then(|f| value(section.unit, f)).map(number).unwrap_or_default();
            let beside = figures.and_then(|f| compared(section, name, x, f, results)).unwrap_or_default();
            write!(page, " {cell}{beside} |")?;
        }
        writeln!(page)?;
    }
    write_line(page, rows, &columns)?;
    if section.axis.base.is_none() && results.get(section.id, OURS, columns[0]).is_some() {
        writeln!(page, "\nIn brackets: as a multiple of ours in the same column.")?;
    }
    write_apart(page, section, rows, &columns, results)?;
    write_failures(page, section, rows)?;
    write_spread(page, section, rows)?;
    write_percentiles(page, section, rows)
}

/// How quick the machine was while a column was measured.
fn write_line(page: &mut String, rows: &[Row], columns: &[f64]) -> std::fmt::Result {
    write!(page, "| *a cache line meanwhile, ns* |")?;
    for &x in columns {
        let lines: Vec<f64> = rows.iter().filter(|row| row.x == x).map(|row| row.line).collect();
        let (low, high) = lines.iter().fold((f64::MAX, 0.0), |(l, h): (f64, f64), &v| (l.min(v), h.max(v)));
        if high > low * 1.2 {
            write!(page, " *{} to {}* |", number(low), number(high))?;
        } else {
            write!(page, " *{}* |", number(low))?;
        }
    }
    writeln!(page)
}

/// The columns of most interest, near and far apart.
fn write_apart(
    page: &mut String,
    section: &Section,
    rows: &[Row],
    columns: &[f64],
    results: &Results,
) -> std::fmt::Result {
    let columns = columns.iter().filter(|&&x| apart(section.id, x));
    let columns: Vec<(f64, Distance)> = columns.flat_map(|&x| BOTH.map(|distance| (x, distance))).collect();
    if columns.is_empty() {
        return Ok(());
    }
    write!(page, "\nThe turns in which a line was near and those in which it was far:\n\n| |")?;
    for &(x, distance) in &columns {
        write!(page, " {}, {} |", (section.axis.format)(x), distance.name())?;
    }
    writeln!(page, "\n|---|{}", "---:|".repeat(columns.len()))?;
    let mut turns = vec![0; columns.len()];
    for name in series_of(rows) {
        write!(page, "| {name} |")?;
        for (&(x, distance), turns) in columns.iter().zip(&mut turns) {
            let of = |series| results.apart(section.id, series, x, distance);
            let figures = of(name);
            *turns = figures.as_ref().map_or(*turns, |f| f.rounds.len().max(*turns));
            let cell = figures.as_ref().and_then(|f| value(section.unit, f)).map(number).unwrap_or_default();
            let ours = if name == OURS { None } else { of(OURS) };
            let beside = figures.zip(ours).and_then(|(f, ours)| times(section.unit, &f, &ours));
            write!(page, " {cell}{} |", beside.unwrap_or_default())?;
        }
        writeln!(page)?;
    }
    write!(page, "| *turns* |")?;
    for turns in turns {
        if turns == 0 {
            write!(page, " *no turns* |")?;
        } else {
            write!(page, " *{turns}* |")?;
        }
    }
    writeln!(page)
}

/// A series in relation to ours, or to itself where it should stay flat.
fn compared(section: &Section, name: &str, x: f64, figures: &Figures, results: &Results) -> Option<String> {
    if section.axis.base == Some(x) || (section.axis.base.is_none() && name == OURS) {
        return None;
    }
    let ours = match section.axis.base {
        Some(base) => results.get(section.id, name, base)?,
        None => results.get(section.id, OURS, x)?,
    };
    times(section.unit, figures, ours)
}

fn times(unit: Unit, figures: &Figures, to: &Figures) -> Option<String> {
    let times = match unit {
        Unit::Nanos => ratio(figures, to),
        Unit::Rate | Unit::Calls => ratio(to, figures),
        Unit::Tail | Unit::Wake => value(unit, figures)? / value(unit, to)?.max(1.0),
    };
    Some(format!(" ({})", number(times)))
}

fn write_failures(page: &mut String, section: &Section, rows: &[Row]) -> std::fmt::Result {
    for row in rows {
        if let Err(error) = &row.figures {
            writeln!(page, "\n{}, {}: not measured, {error}.", row.series, (section.axis.format)(row.x))?;
        }
    }
    Ok(())
}

/// Of several pairs at once, the slowest and the fastest.
fn write_spread(page: &mut String, section: &Section, rows: &[Row]) -> std::fmt::Result {
    let spread = |row: &Row| row.figures.as_ref().ok().and_then(|f| f.spread);
    if !rows.iter().any(|row| spread(row).is_some()) {
        return Ok(());
    }
    writeln!(page, "\nOf the round in which they were furthest apart, calls a second:\n")?;
    writeln!(
        page,
        "| {} | | slowest pair | fastest pair | ratio |\n|---|---|---:|---:|---:|",
        section.axis.name
    )?;
    for row in rows {
        let Some(s) = spread(row) else { continue };
        let at = (section.axis.format)(row.x);
        let (series, ratio) = (&row.series, number(s.ratio()));
        writeln!(page, "| {at} | {series} | {:.0} | {:.0} | {ratio} |", s.slowest, s.fastest)?;
    }
    Ok(())
}

fn write_percentiles(page: &mut String, section: &Section, rows: &[Row]) -> std::fmt::Result {
    let measured = |r: &Row| r.figures.as_ref().is_ok_and(|f| f.latency.is_some());
    if !rows.iter().any(measured) {
        return Ok(());
    }
    let with_cpu = section.unit == Unit::Wake;
    writeln!(page, "\n<details><summary>Percentiles, ns</summary>\n")?;
    writeln!(
        page,
        "| {} | | p50 | p99 | p99.9 | max | {}\n|---|---|---:|---:|---:|---:|{}",
        section.axis.name,
        if with_cpu { "receiver's CPU |" } else { "" },
        if with_cpu { "---:|" } else { "" }
    )?;
    for row in rows {
        let Ok(figures) = &row.figures else { continue };
        let Some(l) = figures.latency else { continue };
        let at = (section.axis.format)(row.x);
        write!(page, "| {at} | {} | {} | {} | {} | {} |", row.series, l.p50, l.p99, l.p999, l.max)?;
        if with_cpu {
            write!(page, " {:.2} % |", figures.cpu.unwrap_or(f64::NAN) * 100.0)?;
        }
        writeln!(page)?;
    }
    writeln!(page, "\n</details>")
}

fn write_rpc(page: &mut String, results: &Results) -> std::fmt::Result {
    let Some(rpc) = &results.rpc else { return Ok(()) };
    writeln!(
        page,
        "\n## Cap'n Proto RPC\n\nAn echo call of capnp-rpc between two processes, each with tokio on one thread: over a \
         channel in Park, and over a Unix socket with capnp-rpc's own twoparty. In memory: both ends in one thread over \
         tokio's duplex pipe, which is capnp-rpc's own work.\n"
    )?;
    match rpc {
        Ok(rpc) => {
            writeln!(
                page,
                "| | 8 bytes, one after the other | one each ms | calls/s, 64 in flight | 1 MiB |"
            )?;
            writeln!(page, "|---|---:|---:|---:|---:|")?;
            for (name, calls) in [("channel", rpc.channel), ("socket", rpc.socket), ("in memory", rpc.memory)]
            {
                let [busy, seldom, large] =
                    [calls.busy_ns, calls.seldom_ns, calls.large_ns].map(|ns| number(ns / 1e3));
                writeln!(page, "| {name} | {busy} µs | {seldom} µs | {:.0} | {large} µs |", calls.rate)?;
            }
            Ok(())
        }
        Err(error) => writeln!(page, "Not measured: {error}."),
    }
}

fn write_idle(page: &mut String, results: &Results) -> std::fmt::Result {
    if results.idle.is_empty() {
        return Ok(());
    }
    writeln!(
        page,
        "\n## Idle channels\n\n{CHANNELS} channels between two processes, in one of which somebody waits for each, \
         in Park: a thread in `recv`, or a tokio task in `recv_async`, all tasks in one thread. The processor time \
         of that process while nothing is sent. Then the other is killed (SIGKILL), and each receiver notes when \
         it knows, counted from before the kill.\n"
    )?;
    writeln!(page, "| each waits in a | share of a core | knows of the death: median | the last |")?;
    writeln!(page, "|---|---:|---:|---:|")?;
    for idle in results.idle.iter().flatten() {
        let [median, last] = [idle.median_ms, idle.max_ms].map(number);
        writeln!(page, "| {} | {:.2} % | {median} ms | {last} ms |", idle.waiter.name(), idle.cpu * 100.0)?;
    }
    for error in results.idle.iter().filter_map(|idle| idle.as_ref().err()) {
        writeln!(page, "\nNot measured: {error}.")?;
    }
    Ok(())
}

fn write_memory(page: &mut String, results: &Results) -> std::fmt::Result {
    let Some(memory) = &results.memory else { return Ok(()) };
    writeln!(
        page,
        "\n## Memory of a channel\n\nAn average of 64 channels of 1024 slots of 1024 bytes, every \
                    page touched; from `/proc/self/smaps_rollup`.\n"
    )?;
    match memory {
        Ok(sides) => {
            writeln!(page, "| side | resident | its two segments | besides |\n|---|---:|---:|---:|")?;
            for (name, side) in ["A", "B"].iter().zip(sides) {
                let [all, segments, besides] =
                    [side.resident, side.segments, side.besides()].map(|b| format!("{} KiB", b >> 10));
                writeln!(page, "| {name} | {all} | {segments} | {besides} |")?;
            }
            Ok(())
        }
        Err(error) => writeln!(page, "Not measured: {error}."),
    }
}

fn write_served(page: &mut String, results: &Results) -> std::fmt::Result {
    let Some(served) = &results.served else { return Ok(()) };
    writeln!(
        page,
        "\n## Clients of a server\n\nConnecting: from before `connect` until the first message is there, median, in \
         turns with a Unix socket. Idle: {} clients of a server with one thread and a `WaitSet`; its memory is what is \
         its own (RssAnon) and its page tables. Busy: {} clients that call without a pause.\n",
        crate::server::IDLE,
        crate::server::BUSY
    )?;
    match served {
        Ok(s) => {
            writeln!(page, "| | |\n|---|---:|")?;
            writeln!(page, "| connect to first message | {} µs |", number(s.connect_us))?;
            writeln!(page, "| the same over a Unix socket | {} µs |", number(s.socket_us))?;
            writeln!(page, "| idle: share of a core | {} % |", number(s.idle.cpu * 100.0))?;
            writeln!(
                page,
                "| idle: memory for each client | {} KiB |",
                number(s.idle.besides as f64 / 1024.0)
            )?;
            writeln!(page, "| busy: calls a second, the slowest | {} |", number(s.slowest))?;
            writeln!(page, "| busy: the fastest | {} |", number(s.fastest))
        }
        Err(error) => writeln!(page, "Not measured: {error}."),
    }
}

fn write_tapped(page: &mut String, results: &Results) -> std::fmt::Result {
    let Some(tapped) = &results.tapped else { return Ok(()) };
    writeln!(
        page,
        "\n## A tap\n\nTwo pairs, 64 bytes over {} slots, `Spin`, take turns, and a tap reads every message that it can of \
         the second. The messages that it delivers and misses add up to those sent in each turn. Where there are two \
         processors, its time is taken from the two sides. `record` writes {} messages a second to a file by tap. \
         `top` shows {} channels in a terminal, on each of which 50 messages a second pass.\n",
        crate::tapped::SLOTS,
        crate::tapped::RECORDED,
        crate::tapped::CHANNELS
    )?;
    match tapped {
        Ok(t) => {
            writeln!(page, "| | without | with a tap | ratio | missed |\n|---|---:|---:|---:|---:|")?;
            for (name, cost, scale) in [
                ("one way, M/s".to_owned(), t.one_way, 1e6),
                (format!("one way, {} a second, M/s", crate::tapped::PACE), t.paced, 1e6),
                ("round trip, ns".to_owned(), t.trip, 1.0),
                ("round trip, p50 ns".to_owned(), t.stamped_trip, 1.0),
                (format!("round trip, {} a second, p50 ns", crate::tapped::PACE / 2), t.paced_trip, 1.0),
            ] {
                let [without, with] = [cost.without, cost.with].map(|figure| number(figure / scale));
                let missed = cost.missed * 100.0;
                writeln!(page, "| {name} | {without} | {with} | {:.3} | {missed:.2} % |", cost.ratio)?;
            }
            writeln!(page, "\n| `record` | sent | recorded | missed |\n|---|---:|---:|---:|")?;
            for r in &t.record {
                writeln!(page, "| {} slots | {} | {} | {} |", r.slots, r.sent, r.recorded, r.missed)?;
            }
            writeln!(page, "\n`top` takes {} % of a core.", number(t.top_cpu * 100.0))
        }
        Err(error) => writeln!(page, "Not measured: {error}."),
    }
}

/// Three digits that matter.
fn number(n: f64) -> String {
    match n {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n if n >= 0.1 => format!("{n:.2}"),
        n => format!("{n:.4}"),
    }
}
