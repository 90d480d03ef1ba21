//! `top`: all channels live. `State` knows what is shown and what keys do; `draw` draws it; `run` is the terminal.

use std::collections::{HashMap, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use capnproto_shm_transport::{ChannelInfo, PollMode, Side};
use ratatui::Frame;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState};

use crate::args::{Place, Top};
use crate::channel::{Channel, Ring, State as ChannelState, describe, look};
use crate::rates::Look;
use crate::schema::Schemas;
use crate::{Exit, interrupt, text};

/// Looks that a sparkline shows.
const HISTORY: usize = 60;
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

/// By what the channels stand in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
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

    fn word(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Fill => "fill",
            Self::Name => "name",
            Self::Age => "age",
        }
    }
}

/// What a key asks for beyond what is shown.
#[derive(Debug, PartialEq)]
enum Action {
    None,
    Quit,
    SetMode { name: String, side: Side, mode: PollMode },
}

/// What keys go to.
#[derive(Clone, Debug, PartialEq)]
enum Focus {
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
struct State {
    channels: Vec<Channel>,
    /// Messages a second in both directions together, the newest last.
    history: HashMap<String, VecDeque<u64>>,
    filter: String,
    sort: Sort,
    selected: usize,
    detail: bool,
    focus: Focus,
    /// What the last action did, until the next key.
    message: Option<String>,
}

fn rate(ring: Option<&Ring>) -> f64 {
    ring.and_then(|ring| ring.messages_per_s).unwrap_or(0.0)
}

fn both_rates(channel: &Channel) -> f64 {
    rate(channel.a_to_b.as_ref()) + rate(channel.b_to_a.as_ref())
}

fn fill(channel: &Channel) -> f64 {
    channel.rings().iter().filter_map(|(_, ring)| ring.map(Ring::fill)).fold(0.0, f64::max)
}

fn mode_word(mode: PollMode) -> String {
    match mode {
        PollMode::Spin => "spin".to_owned(),
        PollMode::Park => "park".to_owned(),
        mode => crate::channel::poll(mode),
    }
}

impl State {
    fn new(filter: String) -> Self {
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

    fn update(&mut self, now: &Look, before: &Look) {
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

    fn shown(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().filter(|channel| channel.name.contains(&self.filter))
    }

    fn chosen(&self) -> Option<&Channel> {
        self.shown().nth(self.selected)
    }

    /// Keeps the same channel chosen where it still is.
    fn choose(&mut self, name: Option<String>) {
        let at = name.and_then(|name| self.shown().position(|channel| channel.name == name));
        let last = self.shown().count().saturating_sub(1);
        self.selected = at.unwrap_or(self.selected).min(last);
    }

    fn press(&mut self, key: KeyCode) -> Action {
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

/// Ten characters: how full a ring is.
fn bar(ring: Option<&Ring>) -> String {
    let Some(ring) = ring else { return "-".to_owned() };
    let eighths = (ring.fill() * 64.0).round() as usize;
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let mut bar = "█".repeat((eighths / 8).min(8));
    if eighths < 64 {
        bar.push(PARTS[eighths % 8]);
    }
    format!("{bar:<8}")
}

fn draw(frame: &mut Frame<'_>, state: &mut State) {
    let detail = if state.detail { 11 } else { 0 };
    let [head, list, pane, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(detail),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let live = state.channels.iter().filter(|channel| channel.state == ChannelState::Live).count();
    let wrong = state.channels.iter().filter(|channel| channel.problem.is_some()).count();
    let total: f64 = state.channels.iter().map(both_rates).sum();
    let title = format!(
        "{}, {live} live, {wrong} with a problem; {} messages a second; by {}",
        text::counted(state.channels.len() as u64, "channel"),
        text::count(total),
        state.sort.word(),
    );
    frame.render_widget(Line::styled(title, Style::new().add_modifier(Modifier::BOLD)), head);
    draw_list(frame, state, list);
    if state.detail {
        draw_detail(frame, state, pane);
    }
    let line = match (&state.focus, &state.message) {
        (Focus::Filter, _) => format!("filter: {}_", state.filter),
        (_, Some(message)) => text::printable(message),
        _ if !state.filter.is_empty() => format!("filter: {}   / to change it", state.filter),
        _ => "q quit  ↑↓ choose  enter detail  s sort  / filter  m p i (M P I) poll mode".to_owned(),
    };
    frame.render_widget(Line::raw(line), foot);
    if let Focus::Confirm { name, side, mode } = &state.focus {
        let question = format!("Ask side {side:?} of {} to {}?", text::shortened(name, 24), mode_word(*mode));
        let area = frame.area().centered(Constraint::Length(60), Constraint::Length(4));
        frame.render_widget(Clear, area);
        let lines = vec![Line::raw(question), Line::raw("y: yes   any other key: no")];
        frame.render_widget(Paragraph::new(lines).block(Block::bordered()), area);
    }
}

fn draw_list(frame: &mut Frame<'_>, state: &State, area: ratatui::layout::Rect) {
    let head = Row::new(["NAME", "STATE", "A>B/s", "FILL", "B>A/s", "FILL", "FULL/s", "PARK/s"])
        .style(Style::new().add_modifier(Modifier::REVERSED));
    let sum = |channel: &Channel, of: fn(&Ring) -> Option<f64>| {
        let rates = channel.rings().into_iter().filter_map(|(_, ring)| of(ring?));
        text::count(rates.sum())
    };
    let rows = state.shown().map(|channel| {
        Row::new([
            text::printable(&channel.name),
            channel.state.word().to_owned(),
            format!("{:>6}", text::count(rate(channel.a_to_b.as_ref()))),
            bar(channel.a_to_b.as_ref()),
            format!("{:>6}", text::count(rate(channel.b_to_a.as_ref()))),
            bar(channel.b_to_a.as_ref()),
            format!("{:>6}", sum(channel, |ring| ring.full_waits_per_s)),
            format!("{:>6}", sum(channel, |ring| ring.parks_per_s)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
    ];
    let table = Table::new(rows, widths)
        .header(head)
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD))
        .highlight_symbol("> ");
    let mut chosen = TableState::default().with_selected(state.selected);
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn draw_detail(frame: &mut Frame<'_>, state: &State, area: ratatui::layout::Rect) {
    let Some(channel) = state.chosen() else { return };
    let block = Block::bordered().title(format!(" {} ", text::printable(&channel.name)));
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let [facts, spark] = Layout::vertical([Constraint::Min(7), Constraint::Length(2)]).areas(inner);
    let mut lines = Vec::new();
    for (word, side) in [("side A", &channel.a), ("side B", &channel.b)] {
        let poll = side.poll.as_deref().unwrap_or("-");
        let sleeps = match (side.awaits_message, side.awaits_room) {
            (true, _) => ", sleeps for a message",
            (_, true) => ", sleeps for room",
            _ => "",
        };
        lines.push(format!("{word}  {}, polls by {poll}{sleeps}", side.short()));
    }
    for (way, ring) in channel.rings() {
        let Some(ring) = ring else { continue };
        lines.push(format!(
            "{way}  {}, {} x {} B, {} used, {} messages, {}",
            text::shortened(&ring.what(), 24),
            ring.slot_count,
            ring.slot_size,
            ring.used_slots,
            text::count(ring.messages as f64),
            text::bytes(ring.bytes),
        ));
        lines.push(format!("        {}", waits(ring)));
    }
    if let Some(problem) = &channel.problem {
        lines.push(text::printable(problem));
    }
    frame.render_widget(Paragraph::new(lines.into_iter().map(Line::raw).collect::<Vec<_>>()), facts);
    let history: Vec<u64> = state.history.get(&channel.name).into_iter().flatten().copied().collect();
    frame.render_widget(Sparkline::default().data(&history), spark);
}

/// How long the newest message waits until it is received: what stands in the ring, at the rate at which it goes.
fn waits(ring: &Ring) -> String {
    match (ring.used_slots, ring.messages_per_s) {
        (0, _) => "received as it comes".to_owned(),
        (used, Some(rate)) if rate > 0.0 => {
            format!("the newest waits {}", text::time(used as f64 / rate * 1e9))
        }
        (used, _) => format!("{used} slots wait, and nothing moves"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use capnproto_shm_transport::{Channels, Config, Transport};

    /// Two channels, one of which has sent messages since the look before.
    fn looks(directory: &std::path::Path) -> (Look, Look, Vec<Transport>) {
        let config = Config::new().directory(directory).slot_count(4).slot_size(64);
        let mut quotes = Transport::create("quotes", &config).unwrap();
        let orders = Transport::create("orders", &config).unwrap();
        let before = Look::new(Channels::list_with(&config).unwrap());
        quotes.send(b"one").unwrap();
        quotes.send(b"two").unwrap();
        let mut now = Look::new(Channels::list_with(&config).unwrap());
        now.at = before.at + Duration::from_secs(1);
        (now, before, vec![quotes, orders])
    }

    struct Directory(std::path::PathBuf);

    impl Directory {
        fn new(label: &str) -> Self {
            let path = std::env::temp_dir().join(format!("t-top-{label}-{}", std::process::id()));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn screen(state: &mut State) -> Vec<String> {
        let mut terminal = ratatui::Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, state)).unwrap();
        picture(terminal.backend())
    }

    fn state(label: &str) -> (State, Vec<Transport>, Directory) {
        let directory = Directory::new(label);
        let (now, before, sides) = looks(&directory.0);
        let mut state = State::new(String::new());
        state.update(&now, &before);
        (state, sides, directory)
    }

    #[test]
    fn the_busiest_channel_is_on_top_with_its_rate_and_its_fill() {
        let (mut state, _sides, _directory) = state("busy");
        let lines = screen(&mut state);
        assert!(
            lines[0].starts_with("2 channels, 0 live, 0 with a problem; 2 messages a second; by rate"),
            "{}",
            lines[0]
        );
        assert!(lines[2].starts_with("> quotes") && lines[3].starts_with("  orders"), "{lines:#?}");
        assert!(lines[2].contains("waiting") && lines[2].contains("     2 ████"), "{}", lines[2]);
        assert!(lines[23].starts_with("q quit"));
    }

    #[test]
    fn keys_sort_filter_choose_and_open_the_detail() {
        let (mut state, _sides, _directory) = state("keys");
        assert_eq!(state.press(KeyCode::Down), Action::None);
        assert_eq!(state.chosen().unwrap().name, "orders");
        // Sorted anew, the same channel stays chosen.
        for sort in [Sort::Fill, Sort::Name, Sort::Age, Sort::Rate] {
            state.press(KeyCode::Char('s'));
            assert_eq!((state.sort, &*state.chosen().unwrap().name), (sort, "orders"));
        }
        for key in "/quo".chars() {
            state.press(KeyCode::Char(key));
        }
        assert!(screen(&mut state)[23].starts_with("filter: quo_"));
        state.press(KeyCode::Enter);
        assert_eq!(state.chosen().unwrap().name, "quotes");
        state.press(KeyCode::Enter);
        let lines = screen(&mut state).join("\n");
        for part in [
            " quotes ",
            "side A  alive",
            "side B  absent",
            "A to B  bytes, 4 x 64 B, 2 used",
            "the newest waits 1.0 s",
        ] {
            assert!(lines.contains(part), "{part}: {lines}");
        }
        assert!(!lines.contains("orders"));
        assert_eq!(state.press(KeyCode::Esc), Action::None);
        assert_eq!(state.press(KeyCode::Char('q')), Action::Quit);
    }

    #[test]
    fn a_mode_is_changed_only_when_that_is_confirmed() {
        let (mut state, _sides, _directory) = state("mode");
        state.press(KeyCode::Char('M'));
        assert!(screen(&mut state).join("\n").contains("Ask side B of quotes to spin?"));
        assert_eq!(state.press(KeyCode::Char('n')), Action::None);
        assert!(screen(&mut state)[23].starts_with("nothing was changed"));
        state.press(KeyCode::Char('p'));
        let asked = Action::SetMode { name: "quotes".to_owned(), side: Side::A, mode: PollMode::Park };
        assert_eq!(state.press(KeyCode::Char('y')), asked);
    }
}
