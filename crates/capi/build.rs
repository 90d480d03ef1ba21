//! Gives the shared library its name, so that programs that link to it by a path do not record the path. It is the same
//! however the library is built and installed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcapnproto_shm_transport.so");
    }
}
