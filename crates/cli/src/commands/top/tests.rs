//! The screen that keys lead to.

use std::time::Duration;

use capnproto_shm_transport::{Channels, Config, PollMode, Side, Transport};
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::draw::draw;
use super::picture;
use super::state::{Action, Sort, State};
use crate::rates::Look;

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
    screen_of(state, 80)
}

fn screen_of(state: &mut State, width: u16) -> Vec<String> {
    let mut terminal = ratatui::Terminal::new(TestBackend::new(width, 24)).unwrap();
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
fn names_and_rates_stay_where_there_is_little_room() {
    let (mut state, _sides, _directory) = state("narrow");
    let lines = screen_of(&mut state, 40);
    assert!(lines[1].contains("NAME") && lines[2].contains("quotes"), "{lines:#?}");
    // And what they are watched for.
    assert!(lines[1].contains("A>B/s  B>A/s") && lines[2].contains("waiting        2      0"), "{lines:#?}");
    state.press(KeyCode::Char('/'));
    state.press(KeyCode::Char('x'));
    let lines = screen_of(&mut state, 40);
    assert!(lines[1].contains("NAME") && lines[2].trim().is_empty(), "{lines:#?}");
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
