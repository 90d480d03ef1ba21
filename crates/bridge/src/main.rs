//! The program `capnp-shm-bridge`.

mod args;
mod runtimes;
mod said;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use capnp_shm_bridge::{Bridge, Ending, Event, Figures, zenoh};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::Args;
use crate::said::Said;

/// How often figures are shown.
const SECOND: Duration = Duration::from_secs(1);

enum Exit {
    Success = 0,
    Refused = 3,
    Lost = 4,
}

/// What the main thread learns.
enum News {
    Event(String, Event),
    End,
}

fn main() -> ExitCode {
    runtimes::let_receivers_wait();
    match run(&Args::parse()) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            let _ = writeln!(io::stderr(), "capnp-shm-bridge: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<Exit> {
    zenoh::try_init_log_from_env();
    let (sender, news) = channel();
    let asked = sender.clone();
    ctrlc::set_handler(move || drop(asked.send(News::End))).context("cannot watch signals")?;
    let zenoh = capnp_shm_bridge::open(args.config.as_deref(), &args.connect, &args.listen)?;
    let bridge = Bridge::start(
        zenoh,
        args.options(),
        Box::new(move |name, event| {
            let event = match event {
                Event::Alone => Event::Alone,
                Event::Waits => Event::Waits,
                Event::Bridged => Event::Bridged,
                Event::Ended(ending) => Event::Ended(ending.clone()),
                Event::Refused(refusal) => {
                    Event::Refused(capnp_shm_bridge::Refusal::Here(refusal.to_string()))
                }
                _ => return,
            };
            // Whoever does not listen any more ends.
            drop(sender.send(News::Event(name.to_owned(), event)));
        }),
    )?;
    let mut display = Display::new(args.json);
    display.say("ready");
    let shown = show(args.once, &bridge, &news, &mut display);
    // In order, also if nobody reads any more what is shown here.
    bridge.stop()?;
    let exit = shown?;
    while let Ok(News::Event(name, event)) = news.try_recv() {
        display.event(&name, &event);
    }
    display.say("ended");
    Ok(exit)
}

/// Shows what happens until it is over.
fn show(once: bool, bridge: &Bridge, news: &Receiver<News>, display: &mut Display) -> anyhow::Result<Exit> {
    let mut next = Instant::now() + SECOND;
    loop {
        match news.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(News::Event(name, event)) => {
                display.event(&name, &event);
                let exit = match event {
                    Event::Ended(Ending::Closed | Ending::Left) => Exit::Success,
                    Event::Ended(_) => Exit::Lost,
                    Event::Refused(_) => Exit::Refused,
                    _ => continue,
                };
                if once {
                    return Ok(exit);
                }
            }
            Ok(News::End) | Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Success),
            Err(RecvTimeoutError::Timeout) => {
                display.figures(&bridge.figures()).context("cannot show figures")?;
                next = Instant::now() + SECOND;
            }
        }
        if bridge.has_stopped() {
            return Ok(Exit::Success);
        }
    }
}

/// Where a person looks: a line that changes. Elsewhere: lines, when there is something new.
struct Display {
    json: bool,
    line: Option<ProgressBar>,
    last: HashMap<String, Figures>,
    said: Said,
}

impl Display {
    fn new(json: bool) -> Self {
        let line = (!json && io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::new_spinner().with_style(style)
        });
        Self { json, line, last: HashMap::new(), said: Said::default() }
    }

    /// Channels go on if nobody reads it.
    fn say(&self, text: &str) {
        match &self.line {
            Some(line) => line.println(text),
            None => drop(writeln!(io::stderr(), "{text}")),
        }
    }

    /// Says it, but not again and again.
    fn event(&mut self, name: &str, event: &Event) {
        if let Some(text) = self.said.news(name, event) {
            self.say(&printable(&format!("{name}: {text}")));
        }
    }

    fn figures(&mut self, all: &[Figures]) -> io::Result<()> {
        if self.json {
            let mut out = io::stdout().lock();
            for figures in all {
                serde_json::to_writer(&mut out, figures)?;
                writeln!(out)?;
            }
            return out.flush();
        }
        let mut texts = Vec::new();
        for now in all {
            let before = self.last.get(&now.name);
            if before != Some(now) && now.state == "bridged" {
                texts.push(text(before.filter(|before| before.sent_messages <= now.sent_messages), now));
            }
        }
        self.last = all.iter().map(|figures| (figures.name.clone(), figures.clone())).collect();
        let Some(line) = &self.line else {
            texts.iter().for_each(|text| self.say(text));
            return Ok(());
        };
        line.set_message(match &*texts {
            [] => format!("{} channels, nothing new", all.len()),
            texts => texts.join("; "),
        });
        line.tick();
        Ok(())
    }
}

/// Text from elsewhere, without anything that moves a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One channel in a second.
fn text(before: Option<&Figures>, now: &Figures) -> String {
    let none = Figures::default();
    let before = before.unwrap_or(&none);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let again = match now.frames_sent_again {
        0 => String::new(),
        frames => format!(", {frames} frames sent again"),
    };
    format!(
        "{}: out {}/s ({:.1} MiB/s), in {}/s ({:.1} MiB/s), lag {} slots and {} frames, credit {} slots{again}",
        now.name,
        now.sent_messages - before.sent_messages,
        mib(now.sent_bytes.saturating_sub(before.sent_bytes)),
        now.received_messages.saturating_sub(before.received_messages),
        mib(now.received_bytes.saturating_sub(before.received_bytes)),
        now.lag_slots,
        now.lag_frames,
        now.credit_slots
    )
}
