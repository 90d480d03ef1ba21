//! Makes Rust from the library's schemas.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let request = "../../schema/schemas.cgr";
    println!("cargo::rerun-if-changed={request}");
    capnpc::codegen::CodeGenerationCommand::new()
        .output_directory(std::env::var("OUT_DIR")?)
        .default_parent_module(vec!["schemas".to_owned()])
        .run(std::fs::File::open(request)?)?;
    Ok(())
}
