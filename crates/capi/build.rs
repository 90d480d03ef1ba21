//! Gives the shared library its name, so that programs that link to it by a path do not record the path.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    // cargo-c gives it a name with a version.
    if linux && std::env::var_os("CARGO_FEATURE_CAPI").is_none() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libcapnproto_shm_transport.so");
    }
}
