//! `top`: all channels live. `state` knows what is shown and what keys do, `draw` draws it; here is the terminal.

mod draw;
mod state;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capnproto_shm_transport::ChannelInfo;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use crate::args::{Place, Top};
use crate::channel::look;
use crate::{Exit, interrupt, text};
use draw::draw;
use state::{Action, State, mode_word};

/// How often it is asked whether somebody wants the end by a signal.
const TICK: Duration = Duration::from_millis(250);

pub fn run(place: &Place, options: &Top) -> anyhow::Result<Exit> {
    let mut state = State::new(options.filter.clone());
    let mut before = look(place)?;
    if options.once {
        crate::channel::sleep_until(before.at + options.interval.min(Duration::from_secs(1)));
        state.update(&look(place)?, &before);
        return once(&mut state);
    }
    if !io::stdout().is_terminal() {
        bail!("top needs a terminal; use `ls --watch`, or `top --once` to draw one picture");
    }
    interrupt::watch()?;
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let result = (|| {
        let mut due = before.at + options.interval.min(Duration::from_millis(200));
        loop {
            terminal.draw(|frame| draw(frame, &mut state))?;
            if interrupt::asked() {
                return Ok(Exit::Success);
            }
            let wait = due.saturating_duration_since(Instant::now());
            if event::poll(wait.min(TICK))? {
                if let Event::Key(key) = event::read()?
                    && key.kind == KeyEventKind::Press
                {
                    let ctrl_c =
                        key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    match if ctrl_c { Action::Quit } else { state.press(key.code) } {
                        Action::None => {}
                        Action::Quit => return Ok(Exit::Success),
                        Action::SetMode { name, side, mode } => {
                            let done = ChannelInfo::set_poll_mode(&name, &place.config(), side, mode);
                            state.message = Some(match done {
                                Ok(()) => format!("{name}: side {side:?} was asked to {}", mode_word(mode)),
                                Err(error) => error.to_string(),
                            });
                        }
                    }
                }
            } else if wait <= TICK {
                let now = look(place)?;
                due = now.at + options.interval;
                state.update(&now, &before);
                before = now;
            }
        }
    })();
    ratatui::restore();
    result
}

/// One picture, as text.
fn once(state: &mut State) -> anyhow::Result<Exit> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(text::WIDTH, 24))?;
    terminal.draw(|frame| draw(frame, state))?;
    let mut out = io::stdout().lock();
    for line in picture(terminal.backend()) {
        writeln!(out, "{}", line.trim_end())?;
    }
    out.flush()?;
    Ok(Exit::Success)
}

/// The lines of a picture.
fn picture(backend: &TestBackend) -> Vec<String> {
    let buffer = backend.buffer();
    let width = usize::from(buffer.area.width);
    buffer.content().chunks(width).map(|row| row.iter().map(|cell| cell.symbol()).collect()).collect()
}
