//! Makes Rust from the committed output of the `capnp` tool, so that nobody needs the tool.

use std::error::Error;
use std::fs::{self, File};
use std::path::Path;

use capnpc::codegen::CodeGenerationCommand;

fn main() -> Result<(), Box<dyn Error>> {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema");
    println!("cargo::rerun-if-changed={}", schemas.display());
    let out = std::env::var("OUT_DIR")?;
    for entry in fs::read_dir(schemas)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cgr") {
            CodeGenerationCommand::new().output_directory(&out).run(File::open(&path)?)?;
        }
    }
    Ok(())
}
