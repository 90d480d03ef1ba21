//! The state that `top` shows, and the effects of keys.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use capnproto_shm_transport::{PollMode, Side};
use ratatui::crossterm::event::KeyCode;

use crate::channel::{Channel, Ring, describe};
use crate::rates::Look;
use crate::schema::Schemas;

/// Looks that a sparkline shows.
const HISTORY: usize = 60;

/// By what the channels stand in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Rate,
    Fill,
    Name,
    Age,
}

impl Sort {
    fn next(self) -> Self {
        match self {
            Self::Rate => Self::Fill,
            Self::Fill => Self::Name,
            Self::Name => Self::Age,
            Self::Age => Self::Rate,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Fill => "fill",
            Self::Name => "name",
            Self::Age => "age",
        }
    }
}

/// A key's request that goes beyond the picture.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    None,
    Quit,
    SetMode { name: String, side: Side, mode: PollMode },
}

/// The part of the picture that receives keys.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Focus {
    List,
    /// The user writes the filter.
    Filter,
    /// The user confirms a change of mode.
    Confirm {
        name: String,
        side: Side,
        mode: PollMode,
    },
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) channels: Vec<Channel>,
    /// Messages a second in both directions together, the newest last.
    pub(super) history: HashMap<String, VecDeque<u64>>,
    pub(super) filter: String,
    pub(super) sort: Sort,
    pub(super) selected: usize,
    pub(super) detail: bool,
    pub(super) focus: Focus,
    /// The result of the last action, until the next key.
    pub(super) message: Option<String>,
}

pub(super) fn rate(ring: Option<&Ring>) -> f64 {
    ring.and_then(|ring| ring.messages_per_s).unwrap_or(0.0)
}

pub(super) fn both_rates(channel: &Channel) -> f64 {
    rate(channel.a_to_b.as_ref()) + rate(channel.b_to_a.as_ref())
}

fn fill(channel: &Channel) -> f64 {
    channel.rings().iter().filter_map(|(_, ring)| ring.map(Ring::fill)).fold(0.0, f64::max)
}

pub(super) fn mode_word(mode: PollMode) -> String {
    match mode {
        PollMode::Spin => "spin".to_owned(),
        PollMode::Park => "park".to_owned(),
        mode => crate::channel::poll(mode),
    }
}

impl State {
    pub(super) fn new(filter: String) -> Self {
        Self {
            channels: Vec::new(),
            history: HashMap::new(),
            filter,
            sort: Sort::Rate,
            selected: 0,
            detail: false,
            focus: Focus::List,
            message: None,
        }
    }

    pub(super) fn update(&mut self, now: &Look, before: &Look) {
        self.show(describe(now, before, &Schemas::default()));
    }

    fn show(&mut self, channels: Vec<Channel>) {
        let chosen = self.chosen().map(|channel| channel.name.clone());
        self.history.retain(|name, _| channels.iter().any(|channel| channel.name == *name));
        for channel in &channels {
            let history = self.history.entry(channel.name.clone()).or_default();
            history.push_back(both_rates(channel) as u64);
            if history.len() > HISTORY {
                history.pop_front();
            }
        }
        self.channels = channels;
        self.order();
        self.choose(chosen);
    }

    fn order(&mut self) {
        let descending = |a: f64, b: f64| b.total_cmp(&a);
        match self.sort {
            Sort::Rate => self
                .channels
                .sort_by(|a, b| descending(both_rates(a), both_rates(b)).then_with(|| a.name.cmp(&b.name))),
            Sort::Fill => {
                self.channels.sort_by(|a, b| descending(fill(a), fill(b)).then_with(|| a.name.cmp(&b.name)))
            }
            Sort::Name => self.channels.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::Age => {
                self.channels.sort_by(|a, b| a.age_s.unwrap_or(0.0).total_cmp(&b.age_s.unwrap_or(0.0)))
            }
        }
    }

    pub(super) fn shown(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(|channel| channel.name.contains(&self.filter))
    }

    pub(super) fn chosen(&self) -> Option<&Channel> {
        self.shown().nth(self.selected)
    }

    /// Keeps the same channel chosen where it still is.
    fn choose(&mut self, name: Option<String>) {
        let at = name.and_then(|name| self.shown().position(|channel| channel.name == name));
        let last = self.shown().count().saturating_sub(1);
        self.selected = at.unwrap_or(self.selected).min(last);
    }

    pub(super) fn press(&mut self, key: KeyCode) -> Action {
        self.message = None;
        match self.focus.clone() {
            Focus::Confirm { name, side, mode } => {
                self.focus = Focus::List;
                if key == KeyCode::Char('y') {
                    return Action::SetMode { name, side, mode };
                }
                self.message = Some("nothing was changed".to_owned());
                return Action::None;
            }
            Focus::Filter => {
                match key {
                    KeyCode::Enter => self.focus = Focus::List,
                    KeyCode::Esc => {
                        self.focus = Focus::List;
                        self.filter.clear();
                    }
                    KeyCode::Backspace => drop(self.filter.pop()),
                    KeyCode::Char(c) => self.filter.push(c),
                    _ => {}
                }
                self.choose(None);
                return Action::None;
            }
            Focus::List => {}
        }
        let last = self.shown().count().saturating_sub(1);
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.detail => self.detail = false,
            KeyCode::Esc => return Action::Quit,
            KeyCode::Down | KeyCode::Char('j') => self.selected = (self.selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.selected = self.selected.saturating_sub(1),
            KeyCode::Home => self.selected = 0,
            KeyCode::End => self.selected = last,
            KeyCode::Enter => self.detail = !self.detail,
            KeyCode::Char('/') => self.focus = Focus::Filter,
            KeyCode::Char('s') => {
                let chosen = self.chosen().map(|channel| channel.name.clone());
                self.sort = self.sort.next();
                self.order();
                self.choose(chosen);
            }
            // Of side A the small letter, of side B the capital.
            KeyCode::Char(letter @ ('m' | 'M' | 'p' | 'P' | 'i' | 'I')) => {
                let side = if letter.is_ascii_lowercase() { Side::A } else { Side::B };
                let mode = match letter.to_ascii_lowercase() {
                    'm' => PollMode::Spin,
                    'p' => PollMode::Park,
                    _ => PollMode::Interval(Duration::from_micros(100)),
                };
                if let Some(name) = self.chosen().map(|channel| channel.name.clone()) {
                    self.focus = Focus::Confirm { name, side, mode };
                }
            }
            _ => {}
        }
        Action::None
    }
}
