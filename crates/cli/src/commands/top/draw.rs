//! Draws what `top` shows.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph, Row, Sparkline, Table, TableState, Wrap};

use super::state::{Focus, State, both_rates, mode_word, rate};
use crate::channel::{Channel, Ring, State as ChannelState};
use crate::text;

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

pub(super) fn draw(frame: &mut Frame<'_>, state: &mut State) {
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

/// A column of the list.
struct Column {
    head: &'static str,
    width: Constraint,
    /// Where there is little room, there is none for this one.
    spare: bool,
    cell: fn(&Channel) -> String,
}

impl Column {
    const fn new(head: &'static str, width: u16, spare: bool, cell: fn(&Channel) -> String) -> Self {
        Self { head, width: Constraint::Length(width), spare, cell }
    }
}

const COLUMNS: [Column; 8] = [
    Column { width: Constraint::Min(12), ..Column::new("NAME", 0, false, |at| text::printable(&at.name)) },
    Column::new("STATE", 9, false, |at| at.state.word().to_owned()),
    Column::new("A>B/s", 6, false, |at| number(rate(at.a_to_b.as_ref()))),
    Column::new("FILL", 8, true, |at| bar(at.a_to_b.as_ref())),
    Column::new("B>A/s", 6, false, |at| number(rate(at.b_to_a.as_ref()))),
    Column::new("FILL", 8, true, |at| bar(at.b_to_a.as_ref())),
    Column::new("FULL/s", 6, true, |at| sum(at, |ring| ring.full_waits_per_s)),
    Column::new("PARK/s", 6, true, |at| sum(at, |ring| ring.parks_per_s)),
];

/// The width of all columns, with a blank between them and the sign of the chosen channel.
const ROOM: u16 = 12 + 9 + 6 + 8 + 6 + 8 + 6 + 6 + 7 + 2;

fn number(number: f64) -> String {
    format!("{:>6}", text::count(number))
}

fn sum(channel: &Channel, of: fn(&Ring) -> Option<f64>) -> String {
    number(channel.rings().into_iter().filter_map(|(_, ring)| of(ring?)).sum())
}

fn draw_list(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let columns: Vec<_> = COLUMNS.iter().filter(|column| !column.spare || area.width >= ROOM).collect();
    let head = Row::new(columns.iter().map(|column| column.head));
    let rows = state.shown().map(|channel| Row::new(columns.iter().map(|column| (column.cell)(channel))));
    let table = Table::new(rows, columns.iter().map(|column| column.width))
        .header(head.style(Style::new().add_modifier(Modifier::REVERSED)))
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD))
        .highlight_symbol("> ");
    let mut chosen = TableState::default().with_selected(state.selected);
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn draw_detail(frame: &mut Frame<'_>, state: &State, area: Rect) {
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
            text::shortened(&ring.carries.short(), 24),
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
    let lines = lines.into_iter().map(Line::raw).collect::<Vec<_>>();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), facts);
    let history: Vec<u64> = state.history.get(&channel.name).into_iter().flatten().copied().collect();
    frame.render_widget(Sparkline::default().data(&history), spark);
}

/// How long the newest message waits until it is received: the messages in the ring, at the rate at which they go.
fn waits(ring: &Ring) -> String {
    match (ring.used_slots, ring.messages_per_s) {
        (0, _) => "received as it comes".to_owned(),
        (used, Some(rate)) if rate > 0.0 => {
            format!("the newest waits {}", text::time(used as f64 / rate * 1e9))
        }
        (used, _) => format!("{used} slots wait, and nothing moves"),
    }
}
