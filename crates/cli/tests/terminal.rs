//! `top` in a real terminal.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::process::Command;

use capnproto_shm_transport::PollMode;
use common::*;

/// A terminal of 80 by 24 characters, of a tmux server of its own.
struct Terminal(String);

impl Terminal {
    fn start(place: &Place, args: &[&str]) -> Option<Self> {
        let program = place.command(args);
        let program = [program.get_program()].into_iter().chain(program.get_args());
        let program: Vec<_> = program.map(|arg| arg.to_str().unwrap()).collect();
        Self::of("t-cli", &program)
    }

    fn of(label: &str, program: &[&str]) -> Option<Self> {
        let terminal = Self(format!("{label}-{}", std::process::id()));
        let mut tmux = terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24"]);
        tmux.arg("--").args(program);
        if !tmux.env("TERM", "xterm-256color").status().is_ok_and(|status| status.success()) {
            println!("skipped: tmux is not installed, or cannot start");
            return None;
        }
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        command.args(["-L", &self.0]).args(args);
        command
    }

    fn screen(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        assert!(self.tmux(&["send-keys"]).args(keys).status().unwrap().success());
    }

    fn shows(&self, what: &str) {
        eventually(what, || self.screen().contains(what));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]).output();
    }
}

#[test]
fn a_polite_kill_gives_the_terminal_back() {
    let place = Place::new();
    let program = place.command(&["top", "--interval", "100000"]);
    let program: Vec<_> = [program.get_program()]
        .into_iter()
        .chain(program.get_args())
        .map(|arg| arg.to_str().unwrap())
        .collect();
    let script = format!("{}; stty -a; echo over; read line", program.join(" "));
    let Some(terminal) = Terminal::of("t-cli-killed", &["sh", "-c", &script]) else { return };
    terminal.shows("0 channels, 0 live");
    let shell = terminal.tmux(&["list-panes", "-F", "#{pane_pid}"]).output().unwrap().stdout;
    let shell = String::from_utf8(shell).unwrap();
    let shell = shell.trim();
    let child = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let child = rustix::process::Pid::from_raw(child.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(child, rustix::process::Signal::TERM).unwrap();
    terminal.shows("over");
    let screen = terminal.screen();
    assert!(screen.contains(" icanon") && screen.contains(" echo "), "{screen}");
}

#[test]
fn top_is_watched_and_steered_by_keys() {
    let place = Place::new();
    let (mut a, _b) = place.pair("quotes");
    let (_c, _d) = place.pair("orders");
    a.send(b"x").unwrap();
    let Some(terminal) = Terminal::start(&place, &["top", "--interval", "0.05"]) else { return };
    terminal.shows("2 channels, 2 live");
    terminal.shows("quotes");
    terminal.press(&["/", "q", "u", "Enter"]);
    terminal.shows("filter: qu");
    eventually("the other is gone", || !terminal.screen().contains("orders"));
    terminal.press(&["Enter"]);
    terminal.shows("side A  alive");
    // Side A is asked to spin, once that is confirmed.
    terminal.press(&["m"]);
    terminal.shows("Ask side A of quotes to spin?");
    terminal.press(&["y"]);
    eventually("it spins", || a.poll_control().local() == PollMode::Spin);
    terminal.shows("polls by spin");
    terminal.press(&["q"]);
    eventually("it ends", || !terminal.tmux(&["has-session"]).output().unwrap().status.success());
}
