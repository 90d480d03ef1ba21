//! The committed requests equal the tool's output for the schemas beside them.
#![cfg(all(feature = "capnp", not(windows)))]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use capnp::message::{Builder, ReaderOptions};
use capnp::schema_capnp::code_generator_request;

/// The input of the code generator: each node in canonical form by its id, and the requested files. The tool's
/// version and what it says of comments and places in the source do not matter.
#[derive(PartialEq, Debug)]
struct Meaning {
    nodes: BTreeMap<u64, Vec<u8>>,
    files: Vec<(u64, String)>,
}

fn meaning(request: &[u8]) -> capnp::Result<Meaning> {
    let message = capnp::serialize::read_message(request, ReaderOptions::new())?;
    let request = message.get_root::<code_generator_request::Reader<'_>>()?;
    let mut nodes = BTreeMap::new();
    for node in request.get_nodes()? {
        let mut canonical = Builder::new_default();
        canonical.set_root_canonical(node)?;
        nodes.insert(node.get_id(), canonical.get_segments_for_output()[0].to_vec());
    }
    let file = |file: code_generator_request::requested_file::Reader<'_>| {
        Ok((file.get_id(), file.get_filename()?.to_string()?))
    };
    let files = request.get_requested_files()?.iter().map(file).collect::<capnp::Result<_>>()?;
    Ok(Meaning { nodes, files })
}

/// `Order` has the same id in both of its versions.
const ORDER: u64 = 0x8f07_26bf_513a_e623;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schema")
}

/// The files of `schema/` that end so.
fn files(extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|e| e == extension)).collect();
    assert!(!found.is_empty());
    found
}

#[test]
fn requests_and_schemas_agree() {
    let Some(()) = tools::capnp() else { return };
    let mut schemas = files("capnp");
    for request in files("cgr") {
        let committed = meaning(&fs::read(&request).unwrap()).unwrap();
        let names = committed.files.iter().map(|(_, name)| name);
        let made = Command::new("capnp")
            .current_dir(directory())
            .args(["compile", "-o-"])
            .args(names.clone())
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let made = meaning(&made.stdout).unwrap();
        assert!(made == committed, "{} is old; run `ci/schema-check --write`", request.display());
        schemas.retain(|schema| !names.clone().any(|name| schema.ends_with(name)));
    }
    assert!(schemas.is_empty(), "no request has {schemas:?}; run `ci/schema-check --write`");
}

#[test]
fn a_changed_field_changes_the_meaning() {
    let order = |request| {
        let committed = meaning(&fs::read(directory().join(request)).unwrap()).unwrap();
        committed.nodes[&ORDER].clone()
    };
    assert_ne!(order("order_v1.cgr"), order("schemas.cgr"));
}
