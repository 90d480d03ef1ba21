//! Which library runs.

use std::ffi::{CStr, c_char};

/// The version of this interface: it grows when something that was there changes or goes. A program
/// that was compiled against CSHM_ABI_VERSION needs a library that says the same.
pub const CSHM_ABI_VERSION: u32 = 1;

/// The CSHM_ABI_VERSION of the library that runs.
#[unsafe(no_mangle)]
pub extern "C" fn cshm_abi_version() -> u32 {
    CSHM_ABI_VERSION
}

/// The library's version, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn cshm_version() -> *const c_char {
    const TEXT: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    };
    TEXT.as_ptr()
}
