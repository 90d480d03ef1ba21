//! Examples, run as the programs they are. `cargo test` builds them beforehand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

/// An example, started with `args` and all three streams piped. Killed when dropped.
pub struct Program(Option<Child>);

pub fn start(example: &str, args: &[&str]) -> Program {
    let tests = std::env::current_exe().unwrap();
    let file = format!("../examples/{example}{}", std::env::consts::EXE_SUFFIX);
    let path = tests.parent().unwrap().join(file);
    assert!(path.exists(), "{} is missing; run `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program(Some(command.spawn().unwrap()))
}

/// Runs an example to its end, which must be a success that leaves nothing, and gives what it printed.
pub fn run(example: &str, args: &[&str]) -> String {
    start(example, args).succeed()
}

impl Program {
    pub fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Closes its input and waits for its end.
    pub fn finish(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    /// The same, which must be a success that leaves nothing; gives what it printed.
    pub fn succeed(mut self) -> String {
        let id = self.child().id();
        let output = self.finish();
        assert_success(&output);
        // Examples name their channels after their process.
        if cfg!(target_os = "linux") {
            for entry in std::fs::read_dir("/dev/shm").unwrap() {
                let left = entry.unwrap().file_name().into_string().unwrap_or_default();
                assert!(
                    !left.contains(&format!("-{id}.")) && !left.contains(&format!("-{id}-")),
                    "left: {left}"
                );
            }
        }
        text(&output.stdout)
    }

    /// Writes `input` from a thread of its own, then the end of the file.
    pub fn feed(&mut self, input: Vec<u8>) -> std::thread::JoinHandle<()> {
        let mut stdin = self.child().stdin.take().unwrap();
        // The other end may die in mid-write: that is for the test to judge.
        std::thread::spawn(move || drop(stdin.write_all(&input)))
    }

    /// Reads the first byte of its output: it is at work.
    pub fn first_byte(&mut self) {
        self.child().stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    }

    /// Reads its output up to the end of the line by which everything is said that `enough` looks for.
    pub fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        let output = self.child().stdout.as_mut().unwrap();
        let (mut said, mut byte) = (Vec::new(), [0]);
        // Byte by byte: the rest is left for others to read.
        while !(said.ends_with(b"\n") && enough(&text(&said))) {
            assert_eq!(output.read(&mut byte).unwrap(), 1, "it ended after {}", text(&said));
            said.push(byte[0]);
        }
        text(&said)
    }

    /// As Ctrl-C does.
    #[cfg(unix)]
    pub fn interrupt(&mut self) {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(self.child()), Signal::INT).unwrap();
    }

    pub fn kill(&mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
pub fn assert_success(output: &Output) {
    assert!(output.status.success(), "{}: {}", output.status, text(&output.stderr));
}

#[track_caller]
pub fn assert_failure(output: &Output, code: i32, message: &str) {
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}");
    assert!(errors.contains(message), "{message:?} is not in {errors:?}");
}
