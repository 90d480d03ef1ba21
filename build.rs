//! Makes Rust from the schemas of the examples, tests and benchmarks. The library itself has none: only the
//! feature `schemas` builds this, and nothing needs the `capnp` tool, because its output is committed.

#[cfg(feature = "schemas")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::var("OUT_DIR")?;
    println!("cargo::rerun-if-changed=schema");
    for entry in std::fs::read_dir("schema")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "cgr") {
            let request = std::fs::File::open(&path)?;
            capnpc::codegen::CodeGenerationCommand::new().output_directory(&out).run(request)?;
        }
    }
    Ok(())
}

#[cfg(not(feature = "schemas"))]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
