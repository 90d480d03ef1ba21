//! Two real processes: a test starts itself again as the other side.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; nothing waits for it in order to be right.
pub const LONG: Duration = Duration::from_secs(60);

/// A channel name that no other test uses.
pub fn unique(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("t-{label}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A channel name of one test's own. Files that are left under it go when this does.
pub struct Name(String);

/// A fresh [`Name`].
pub fn named(label: &str) -> Name {
    Name(unique(label))
}

impl Name {
    /// The file of the ring from A to B.
    pub fn a2b(&self) -> PathBuf {
        directory().join(format!("{}.fs.a2b", self.0))
    }

    /// The file of the ring from B to A.
    pub fn b2a(&self) -> PathBuf {
        directory().join(format!("{}.fs.b2a", self.0))
    }

    /// Whether nothing is left under it. On Windows, where no mapped file can be deleted, what a side still maps may
    /// stand beside it.
    pub fn is_free(&self) -> bool {
        if cfg!(windows) { !self.a2b().exists() && !self.b2a().exists() } else { self.left().is_empty() }
    }

    /// Everything in the directory that begins with this name.
    pub fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&self.0)).collect()
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    /// A side that was killed leaves its files, the names of its events among them.
    fn drop(&mut self) {
        let own = format!("{}.fs.", self.0);
        let left = self.left();
        for path in left.iter().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&own)) {
            let _ = std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
        }
    }
}

/// Where the segments of this system lie.
pub fn directory() -> PathBuf {
    if cfg!(target_os = "linux") { PathBuf::from("/dev/shm") } else { std::env::temp_dir() }
}

/// Waits until `condition` holds. Panics with `what` if it does not for [`LONG`].
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "still not: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The possessions of this process: descriptors, threads, mappings, and memory in pages.
pub fn possessions() -> [usize; 4] {
    let count = |directory| std::fs::read_dir(directory).unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    let memory = std::fs::read_to_string("/proc/self/statm").unwrap();
    let resident = memory.split(' ').nth(1).unwrap().parse().unwrap();
    [count("/proc/self/fd"), count("/proc/self/task"), maps, resident]
}

/// How often the threads of this process have gone to sleep.
pub fn times_slept() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("status"));
    let times = tasks.filter_map(|path| std::fs::read_to_string(path).ok()).map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    });
    times.sum()
}

/// Message number `index` of a test: as many bytes, and no other message's.
pub fn pattern(index: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (index.wrapping_mul(131).wrapping_add(at * 7) >> (at % 3)) as u8).collect()
}

const ROLE: &str = "SHM_TEST_ROLE";
const ARGS: &str = "SHM_TEST_ARGS";

/// The other process. Killed when dropped, so that a failing test leaves nothing behind.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The words that start this test binary again, by an emulator where the system cannot run it.
pub fn this_program() -> Vec<OsString> {
    let mut words: Vec<_> = std::env::var_os("SHM_TEST_EMULATOR").into_iter().collect();
    words.push(std::env::current_exe().unwrap().into());
    words
}

/// Starts this test binary again; its test `child` runs `role` (see [`play`]).
pub fn spawn(role: &str, args: &[&str]) -> Peer {
    spawn_through(&[], role, args)
}

/// Like [`spawn`], with another program that starts this one, given as its last arguments.
pub fn spawn_through(starter: &[&str], role: &str, args: &[&str]) -> Peer {
    let mut words: Vec<_> = starter.iter().map(OsString::from).collect();
    words.extend(this_program());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(ARGS, args.join("\x1f"));
    let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
    Peer { child, input, output }
}

/// Starts a program. Wine now and then fails to, with an internal error of its own; then it is asked again.
pub fn start(command: &mut Command) -> Child {
    const INTERNAL_ERROR: i32 = 1359;
    for _ in 0..10 {
        match command.spawn() {
            Err(e) if cfg!(windows) && e.raw_os_error() == Some(INTERNAL_ERROR) => {
                thread::sleep(Duration::from_millis(10));
            }
            child => return child.unwrap(),
        }
    }
    command.spawn().unwrap()
}

impl Peer {
    /// Waits until the child says `word`, as a line of its own. Panics if it ends first.
    pub fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        loop {
            line.clear();
            if self.output.read_line(&mut line).unwrap() == 0 {
                panic!("the child ended before it said {word:?}");
            }
            if line.trim() == word {
                return;
            }
        }
    }

    /// The next line that the child says. Panics if it ends first.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        while line.trim().is_empty() {
            line.clear();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the child ended before its next word");
        }
        line.trim().to_owned()
    }

    /// The text after `word` in the next line that begins with it. Panics if the child ends first.
    pub fn line_after(&mut self, word: &str) -> String {
        std::iter::repeat_with(|| self.line())
            .find_map(|line| line.strip_prefix(word).map(|rest| rest.trim().to_owned()))
            .unwrap_or_default()
    }

    /// Lets a child that waits in [`hold`] go on.
    pub fn go(&mut self) {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    /// Kills the child without warning and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the child's end, which must be a success.
    pub fn join(mut self) {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "the child failed ({status}):\n{rest}");
    }

    /// Waits for the child's end, whatever it is.
    pub fn end(mut self) -> ExitStatus {
        drop(self.input.take());
        let _ = self.output.read_to_string(&mut String::new());
        self.child.wait().unwrap()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The work of a child, given its arguments.
pub type Role = fn(&[String]);

/// In the test `child`: runs the role this process was started for, or nothing if it was not.
pub fn play(roles: &[(&str, Role)]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    let args = std::env::var(ARGS).unwrap_or_default();
    let args: Vec<String> = args.split('\x1f').map(str::to_owned).collect();
    let (_, run) = roles.iter().find(|(name, _)| *name == role).expect("an unknown role");
    run(&args);
}

/// In the child: tells the parent how far it is.
pub fn say(word: &str) {
    println!("\n{word}");
    std::io::stdout().flush().unwrap();
}

/// In the child: waits for the parent's [`Peer::go`].
pub fn hold() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}
