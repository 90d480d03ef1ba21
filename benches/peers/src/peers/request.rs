//! A struct with a text and a list of four structs with texts, from the schema that the capnp crate itself
//! brings. The harness's word travels as its id.

use anyhow::{Result, ensure};
use capnp::schema_capnp::code_generator_request::requested_file;

use super::message::Message;

pub struct Request;

const FILE: &str = "schema/request.capnp";
const IMPORTS: [&str; 4] =
    ["/capnp/schema.capnp", "/capnp/c++.capnp", "common/types.capnp", "common/time.capnp"];
/// Bytes of its frame.
pub const BYTES: usize = 232;

impl Message for Request {
    type Root = requested_file::Owned;

    #[inline(always)]
    fn write(mut message: requested_file::Builder<'_>, word: u64, _: usize) {
        message.set_id(word);
        message.set_filename(FILE);
        let mut imports = message.init_imports(IMPORTS.len() as u32);
        for (i, name) in IMPORTS.iter().enumerate() {
            let mut import = imports.reborrow().get(i as u32);
            import.set_id(i as u64);
            import.set_name(name);
        }
    }

    #[inline(always)]
    fn read(message: requested_file::Reader<'_>, _: usize) -> Result<u64> {
        let mut same = message.get_filename()?.as_bytes() == FILE.as_bytes();
        for (i, import) in message.get_imports()?.iter().enumerate() {
            same &= import.get_id() == i as u64 && import.get_name()?.as_bytes() == IMPORTS[i].as_bytes();
        }
        ensure!(same, "the message is damaged");
        Ok(message.get_id())
    }
}
