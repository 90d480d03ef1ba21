//! The Cap'n Proto message that all send: a struct with a text and a list of structs with texts, from the
//! schema that the capnp crate itself brings. The harness's word travels as its id.

use anyhow::{Result, ensure};
use capnp::schema_capnp::code_generator_request::requested_file;

pub use requested_file::Owned;

const FILE: &str = "schema/request.capnp";
const IMPORTS: [&str; 4] =
    ["/capnp/schema.capnp", "/capnp/c++.capnp", "common/types.capnp", "common/time.capnp"];
/// Bytes of its frame.
pub const BYTES: usize = 232;

#[inline(always)]
pub fn write(mut message: requested_file::Builder<'_>, word: u64) {
    message.set_id(word);
    message.set_filename(FILE);
    let mut imports = message.init_imports(IMPORTS.len() as u32);
    for (i, name) in IMPORTS.iter().enumerate() {
        let mut import = imports.reborrow().get(i as u32);
        import.set_id(i as u64);
        import.set_name(name);
    }
}

/// Every field, and the word if all the others are as written.
#[inline(always)]
pub fn read(message: requested_file::Reader<'_>) -> Result<u64> {
    let mut same = message.get_filename()?.as_bytes() == FILE.as_bytes();
    for (i, import) in message.get_imports()?.iter().enumerate() {
        same &= import.get_id() == i as u64 && import.get_name()?.as_bytes() == IMPORTS[i].as_bytes();
    }
    ensure!(same, "the message is damaged");
    Ok(message.get_id())
}

/// The word that the harness wants to send.
#[inline(always)]
pub fn word(fill: impl FnOnce(&mut [u8])) -> u64 {
    let mut word = [0; 8];
    fill(&mut word);
    u64::from_ne_bytes(word)
}
