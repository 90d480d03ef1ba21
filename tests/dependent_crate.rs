//! A crate that depends on this one needs neither the `capnp` tool nor our schemas, nor a code generator.
//!
//! Where cargo runs the tests of another system, under an emulator, there is no cargo to build it with.
#![cfg(all(feature = "capnp", not(windows)))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that goes when it is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const MAIN: &str = r#"
use capnp::schema_capnp::capnp_version;
use capnproto_shm_transport::{CapnpChannel, Config};

fn main() {
    let name = format!("t-dependent-{}", std::process::id());
    let mut a = CapnpChannel::<capnp_version::Owned>::create(&name, &Config::new()).unwrap();
    let mut b = CapnpChannel::<capnp_version::Owned>::open(&name, std::time::Duration::from_secs(60)).unwrap();
    a.send(|mut version| {
        version.set_major(42);
        Ok(())
    })
    .unwrap();
    println!("{}", b.recv().unwrap().get().unwrap().get_major());
}
"#;

#[test]
fn it_builds_and_runs() {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = Scratch(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dependent"));
    let at = |path: &str| scratch.0.join(path);
    fs::create_dir_all(at("src")).unwrap();
    let manifest = format!(
        "[package]\nname = \"dependent\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         capnp = \"0.27\"\ncapnproto-shm-transport = {{ path = {ours:?} }}\n"
    );
    fs::write(at("Cargo.toml"), manifest).unwrap();
    fs::write(at("src/main.rs"), MAIN).unwrap();
    // The same versions as here, so that nothing has to be fetched.
    fs::copy(ours.join("Cargo.lock"), at("Cargo.lock")).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline", "--target-dir"])
        .arg(at("target"))
        .current_dir(&scratch.0)
        // A coverage or sanitizer build of this test is not the dependent's.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout.trim_ascii(), b"42");
    // Cargo has cut the lock file down to what the dependent builds.
    let built = fs::read_to_string(at("Cargo.lock")).unwrap();
    assert!(built.contains("\"capnp\"") && !built.contains("\"capnpc\""), "{built}");
}
