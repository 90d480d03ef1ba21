//! The committed header equals cbindgen's output, and the ABI is the one of `abi.txt`.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::inspect::{cshm_channel_info, cshm_life, cshm_message_kind, cshm_ring_info, cshm_side_info};
use crate::look::{cshm_peer, cshm_ring_stats, cshm_stats};
use crate::receive::cshm_read_slot;
use crate::send::cshm_write_slot;
use crate::status::cshm_status;
use crate::tap::cshm_tapped;

fn crate_file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// In the order of the header.
const SOURCES: [&str; 17] = [
    "version",
    "status",
    "failure",
    "arguments",
    "config",
    "lifecycle",
    "left",
    "look",
    "send",
    "receive",
    "window",
    "listen",
    "ready",
    "wait_set",
    "server",
    "inspect",
    "tap",
];

fn header() -> String {
    let config = cbindgen::Config::from_file(crate_file("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    builder = builder.with_src(crate_file("src/handle.rs"));
    for source in SOURCES {
        builder = builder.with_src(crate_file(&format!("src/{source}.rs")));
    }
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    String::from_utf8(text).unwrap()
}

/// Compares a committed file with what it should be, or with `UPDATE=1` makes it so.
fn check(path: &str, wanted: &str) {
    let path = crate_file(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not current; run UPDATE=1 cargo test -p capnproto-shm-transport-c abi, and look at the difference",
        path.display()
    );
}

#[test]
fn the_header_is_current() {
    check("include/capnproto_shm_transport.h", &header());
}

/// Enum, name and number of each constant of an enum in the header.
fn enumerators(header: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut kind = "";
    header.lines().map(str::trim).filter_map(move |line| {
        kind = line.strip_prefix("enum ").map_or(kind, |name| name.trim_end_matches(" {"));
        let (name, number) = line.split_once(" = ").filter(|(name, _)| name.starts_with("CSHM_"))?;
        Some((kind, name, number.trim_end_matches(',')))
    })
}

/// The interface that programs are compiled against. A line that changes or goes is a new `CSHM_ABI_VERSION`; a line more is not.
#[test]
fn the_abi_is_as_it_was() {
    let header = header();
    let mut abi = String::new();
    writeln!(abi, "version {}", crate::version::CSHM_ABI_VERSION).unwrap();

    macro_rules! layout {
        ($($type:ident { $($field:ident),* })*) => {$(
            writeln!(abi, "struct {} {} bytes, aligned to {}", stringify!($type), size_of::<$type>(), align_of::<$type>())
                .unwrap();
            $(writeln!(abi, "  {} at {}", stringify!($field), std::mem::offset_of!($type, $field)).unwrap();)*
        )*};
    }
    layout! {
        cshm_read_slot { data, len }
        cshm_write_slot { data, capacity }
        cshm_ring_stats {
            slot_size, slot_count, used_slots, messages, bytes, full_waits, parks, wakes, closed
        }
        cshm_stats { tx, rx }
        cshm_status {}
        cshm_peer { pid, uid, gid }
        cshm_life {}
        cshm_message_kind {}
        cshm_side_info { life, pid, poll, awaits_room, awaits_message }
        cshm_ring_info { kind, value_size, value_align, type_id, file_bytes, stats }
        cshm_channel_info {
            name, directory, tag, generation, created_ns, a, b, a_to_b, b_to_a, is_leftover, problem, problem_text
        }
        cshm_tapped { data, len, sequence, missed, from_b }
    }
    for line in header.lines().map(str::trim) {
        if let Some(constant) = line.strip_prefix("#define CSHM_") {
            writeln!(abi, "constant CSHM_{constant}").unwrap();
        }
    }
    for (kind, name, number) in enumerators(&header) {
        writeln!(abi, "{} {name} {number}", kind.trim_start_matches("cshm_")).unwrap();
    }
    let code = header.lines().map(|line| line.split("//").next().unwrap());
    let code = code.filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
    let declarations =
        code.split(['{', '}', ';']).map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    for declaration in declarations.filter(|part| part.contains(" cshm_") || part.contains("*cshm_")) {
        if declaration.contains('(') && declaration.ends_with(')') {
            writeln!(abi, "function {declaration}").unwrap();
        }
    }
    check("abi.txt", &abi);
}

#[test]
fn every_status_has_a_text_of_its_own() {
    let mut texts = std::collections::BTreeSet::new();
    let text = |status| {
        // SAFETY: the text stays for ever.
        unsafe { std::ffi::CStr::from_ptr(crate::status::cshm_strerror(status)) }.to_str().unwrap()
    };
    for number in -1..200 {
        if cshm_status::of(number).is_some() {
            assert!(texts.insert(text(number)), "{number}");
        } else {
            assert_eq!(text(number), "an unknown status");
        }
    }
    let header = header();
    let in_header = enumerators(&header).filter(|(kind, ..)| *kind == "cshm_status").count();
    assert_eq!(texts.len(), in_header);
}
