//! Starts the built program in a directory of the test's own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use capnproto_shm_transport::{Config, Transport};

/// Long enough for a loaded machine; nothing waits for it in order to be right.
pub const LONG: Duration = Duration::from_secs(60);

/// A directory for channels, removed with everything in it.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let root = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let path =
            root.join(format!("t-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn config(&self) -> Config {
        Config::new().directory(&self.0).slot_size(64).slot_count(16)
    }

    pub fn pair(&self, name: &str) -> (Transport, Transport) {
        let a = Transport::create(name, &self.config()).unwrap();
        (a, Transport::open_with(name, LONG, &self.config()).unwrap())
    }

    /// Both files of a channel, as a process leaves them that is killed: nobody holds a lock.
    pub fn leftover(&self, name: &str) {
        let living = Transport::create("original", &self.config()).unwrap();
        for end in ["a2b", "b2a"] {
            std::fs::copy(self.file(&format!("original.fs.{end}")), self.file(&format!("{name}.fs.{end}")))
                .unwrap();
        }
        drop(living);
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_capnp-shm"));
        command.arg("--dir").arg(&self.0).args(args).env_remove("CAPNPROTO_SHM_DIR");
        // Cargo runs tests elsewhere than this says, of which the `capnp` tool would complain.
        command.env_remove("PWD");
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Run {
        Run(self.command(args).output().unwrap())
    }

    /// Starts the program, as a shell does: in a group of its own.
    pub fn start(&self, args: &[&str]) -> Started {
        let mut command = self.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Started { child, output }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub struct Run(pub Output);

impl Run {
    pub fn code(&self) -> i32 {
        self.0.status.code().expect("it was killed")
    }

    pub fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    /// The output of a run that went well.
    pub fn good(&self) -> String {
        assert_eq!(self.code(), 0, "{}{}", self.out(), self.err());
        self.out()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out()).unwrap_or_else(|e| panic!("{e}: {}{}", self.out(), self.err()))
    }
}

/// A program that runs. Killed when dropped.
pub struct Started {
    pub child: Child,
    output: BufReader<ChildStdout>,
}

impl Started {
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it ended before it said more");
        line.trim_end().to_owned()
    }

    /// Whether Ctrl-C does not simply kill it any more.
    pub fn catches_ctrl_c(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        // SIGINT is number 2, and the lowest bit is number 1.
        caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 2 != 0)
    }

    /// Ctrl-C, which a terminal sends to the whole group.
    pub fn interrupt(&self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        kill_process_group(Pid::from_raw(self.child.id() as i32).unwrap(), Signal::INT).unwrap();
    }

    /// Waits for its end, and gives what it said last.
    pub fn end(mut self) -> Run {
        let mut output =
            Output { status: self.child.wait().unwrap(), stdout: Vec::new(), stderr: Vec::new() };
        std::io::Read::read_to_end(&mut self.output, &mut output.stdout).unwrap();
        if let Some(mut err) = self.child.stderr.take() {
            std::io::Read::read_to_end(&mut err, &mut output.stderr).unwrap();
        }
        Run(output)
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "still not: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Nothing that a narrow terminal breaks or a pipe should not have.
pub fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        assert!(!line.contains('\x1b'), "{line:?}");
    }
}
