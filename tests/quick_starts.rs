//! The programs at the beginning of the README build with the `Cargo.toml` and the other files beside them, and run.
#![cfg(all(feature = "capnp", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A directory that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The files that a section of the README shows: paths and contents.
fn files(section: &str) -> Vec<(String, String)> {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let (_, rest) = readme.split_once(&format!("\n## {section}\n")).expect(section);
    let text = rest.split("\n## ").next().unwrap();
    let mut parts = text.split("\n```");
    let mut before = parts.next().unwrap();
    let mut files = Vec::new();
    while let (Some(block), Some(after)) = (parts.next(), parts.next()) {
        let (language, content) = block.split_once('\n').unwrap();
        let named =
            before.trim_end().lines().last().and_then(|line| line.strip_suffix("`:")?.strip_prefix('`'));
        let path = match (named, language.split(',').next()) {
            (Some(path), _) => path,
            (None, Some("toml")) => "Cargo.toml",
            (None, _) => "src/main.rs",
        };
        // Fragments are no files.
        if path != "src/main.rs" || content.contains("fn main") {
            files.push((path.to_owned(), content.to_owned()));
        }
        before = after;
    }
    files
}

/// Builds the section's crate and returns its program.
fn build(scratch: &Scratch, section: &str) -> PathBuf {
    let name = format!("start-{}", section.rsplit([' ', ':']).next().unwrap().to_lowercase());
    let directory = scratch.0.join(&name);
    fs::create_dir_all(directory.join("src")).unwrap();
    let mut written = files(section);
    if !written.iter().any(|(path, _)| path == "Cargo.toml") {
        let first = files("Send and answer").into_iter().find(|(path, _)| path == "Cargo.toml");
        written.push(first.unwrap());
    }
    for (path, content) in written {
        let content = match &*path {
            "Cargo.toml" => {
                let ours = format!("capnproto-shm-transport = {{ path = {ROOT:?}");
                let content = content
                    .replace("capnproto-shm-transport = \"0.1\"", &format!("{ours} }}"))
                    .replace("capnproto-shm-transport = { version = \"0.1\"", &ours);
                assert!(content.contains(&ours), "{content}");
                format!("[package]\nname = {name:?}\nedition = \"2024\"\n\n[workspace]\n\n{content}")
            }
            _ => content,
        };
        fs::write(directory.join(path), content).unwrap();
    }
    // The same versions as here, so that nothing has to be fetched.
    fs::copy(Path::new(ROOT).join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let target = scratch.0.join("target");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(&target)
        .current_dir(&directory)
        // A coverage or sanitizer build of this test is not the reader's.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{section}: {}", String::from_utf8_lossy(&output.stderr));
    target.join("debug").join(name)
}

#[test]
fn they_build_and_run() {
    let scratch = Scratch::new(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("quick-starts"));
    // Names that only this test uses.
    let shared = Scratch::new(PathBuf::from(format!("/dev/shm/t-quick-starts-{}", std::process::id())));
    let run = |program: &Path| {
        let mut command = Command::new(program);
        command.env("CAPNPROTO_SHM_DIR", &shared.0).stdout(Stdio::piped());
        command
    };

    let program = build(&scratch, "Send and answer");
    let mut echo = run(&program).arg("echo").spawn().unwrap();
    let output = run(&program).output().unwrap();
    assert_eq!(output.stdout.trim_ascii(), b"hello");
    assert!(echo.wait().unwrap().success(), "side B ends when side A does");

    for section in ["Quick start: bytes", "Quick start: types"] {
        let status = run(&build(&scratch, section)).status().unwrap();
        assert!(status.success(), "{section}");
    }
    let output = run(&build(&scratch, "Async")).output().unwrap();
    assert_eq!(output.stdout, b"hello\na line\nand another\n");

    if tools::capnp().is_some() {
        let section = "Quick start: Cap'n Proto";
        assert!(run(&build(&scratch, section)).status().unwrap().success(), "{section}");
    }
    assert_eq!(fs::read_dir(&shared.0).unwrap().count(), 0, "nothing is left");
}
