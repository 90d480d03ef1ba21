//! The same test with the steps compiled in.

use std::path::Path;
use std::process::{Command, Stdio};

/// The profile that this test was built with, by the directory it lies in.
fn profile() -> String {
    let test = std::env::current_exe().unwrap();
    let directory = test.ancestors().nth(2).and_then(Path::file_name).unwrap().to_str().unwrap();
    if directory == "debug" { "dev" } else { directory }.to_owned()
}

#[test]
fn with_crash_points() {
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "test",
            "--offline",
            "--no-default-features",
            "--features",
            "tokio",
            "--test",
            "crash_points",
            "--profile",
        ])
        .arg(profile())
        .arg("--target-dir")
        .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash-points"))
        .args(["--", "--nocapture"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("RUSTFLAGS", format!("{flags} --cfg crash_points"))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let output = cargo.stdin(Stdio::null()).output().unwrap();
    print!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
