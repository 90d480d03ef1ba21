//! Other implementations read what a slot carries, and write what is read from one: the C++ `capnp` tool and
//! pycapnp, each an own process with an own library.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
mod tools;

use std::io::Write;
use std::process::{Command, Stdio};

use capnproto_shm_transport::{CapnpChannel, Config, Transport};
use common::{LONG, unique};
use schemas::quotes_capnp::{level, quotes};

type Quotes = CapnpChannel<quotes::Owned>;

const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/quotes.capnp");

/// The message in the tool's notation.
const TEXT: &str = r#"( venue = "XLON",
  time = 1234567890,
  books = [
    ( symbol = "VOD",
      bids = [(price = 71.25, size = 100), (price = 71, size = 2500)],
      asks = [(price = 71.5, size = 40)] ),
    (symbol = "Übung", bids = [], asks = []) ] )
"#;

/// The same as Python has it.
const PYTHON: &str = "dict(venue='XLON', time=1234567890, books=[
    dict(symbol='VOD', bids=[dict(price=71.25, size=100), dict(price=71, size=2500)],
        asks=[dict(price=71.5, size=40)]),
    dict(symbol='Übung', bids=[], asks=[])])";

fn build(mut message: quotes::Builder<'_>) -> capnp::Result<()> {
    message.set_venue("XLON");
    message.set_time(1_234_567_890);
    let mut books = message.init_books(2);
    let mut book = books.reborrow().get(0);
    book.set_symbol("VOD");
    let mut bids = book.reborrow().init_bids(2);
    for (at, (price, size)) in [(71.25, 100), (71.0, 2500)].into_iter().enumerate() {
        bids.reborrow().get(at as u32).set_price(price);
        bids.reborrow().get(at as u32).set_size(size);
    }
    let mut ask = book.init_asks(1).get(0);
    ask.set_price(71.5);
    ask.set_size(40);
    let mut book = books.get(1);
    book.set_symbol("Übung");
    book.reborrow().init_bids(0);
    book.init_asks(0);
    Ok(())
}

fn check(message: quotes::Reader<'_>) -> capnp::Result<()> {
    assert_eq!((message.get_venue()?.to_str()?, message.get_time()), ("XLON", 1_234_567_890));
    let books = message.get_books()?;
    assert_eq!(books.len(), 2);
    let book = books.get(0);
    assert_eq!(book.get_symbol()?.to_str()?, "VOD");
    let levels = |list: capnp::struct_list::Reader<'_, level::Owned>| {
        list.iter().map(|level| (level.get_price(), level.get_size())).collect::<Vec<_>>()
    };
    assert_eq!(levels(book.get_bids()?), [(71.25, 100), (71.0, 2500)]);
    assert_eq!(levels(book.get_asks()?), [(71.5, 40)]);
    assert_eq!(books.get(1).get_symbol()?.to_str()?, "Übung");
    assert_eq!((books.get(1).get_bids()?.len(), books.get(1).get_asks()?.len()), (0, 0));
    Ok(())
}

/// The frames that a slot carries: built in place, and outgrown, thus of several segments.
fn ours() -> [Vec<u8>; 2] {
    [4096, 64].map(|slot_size| {
        let name = unique("ours");
        let mut a = Quotes::create(&name, &Config::new().slot_size(slot_size).slot_count(64)).unwrap();
        let mut b = Quotes::open(&name, LONG).unwrap();
        a.send(build).unwrap();
        let message = b.recv().unwrap();
        check(message.get().unwrap()).unwrap();
        let segments = u32::from_le_bytes(*message.frame_bytes().first_chunk().unwrap()) + 1;
        assert_eq!(segments > 1, slot_size == 64);
        message.frame_bytes().to_vec()
    })
}

/// Receives a frame that another program made.
fn receive(frame: &[u8]) {
    let name = unique("theirs");
    let mut a = Quotes::create(&name, &Config::new().slot_size(4096).slot_count(4)).unwrap();
    let mut b = Transport::open(&name, LONG).unwrap();
    b.send(frame).unwrap();
    b.send(frame).unwrap();
    check(a.recv().unwrap().get().unwrap()).unwrap();
    let (_, receiver) = a.halves();
    check(receiver.recv_copied().unwrap().get().unwrap()).unwrap();
}

fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} failed");
    output.stdout
}

fn without_space(text: &str) -> String {
    text.split_whitespace().collect()
}

#[test]
fn the_tool_reads_our_frames() {
    let Some(()) = tools::capnp() else { return };
    for frame in ours() {
        let text = run(Command::new("capnp").args(["decode", SCHEMA, "Quotes"]), &frame);
        assert_eq!(without_space(&String::from_utf8(text).unwrap()), without_space(TEXT));
    }
}

#[test]
fn we_read_the_tools_frames() {
    let Some(()) = tools::capnp() else { return };
    receive(&run(Command::new("capnp").args(["encode", SCHEMA, "Quotes"]), TEXT.as_bytes()));
    let segmented = ["encode", "--segment-size=8", SCHEMA, "Quotes"];
    receive(&run(Command::new("capnp").args(segmented), TEXT.as_bytes()));
}

fn python(body: &str, input: &[u8]) -> Vec<u8> {
    let head = format!("import capnp, sys\nschema = capnp.load({SCHEMA:?})\nexpected = {PYTHON}\n");
    run(Command::new("python3").arg("-c").arg(head + body).env("PYTHONUTF8", "1"), input)
}

#[test]
fn pycapnp_reads_our_frames() {
    let Some(()) = tools::pycapnp() else { return };
    let compare = "with schema.Quotes.from_bytes(sys.stdin.buffer.read()) as message:\n    \
        found = message.to_dict()\n    assert found == expected, found\n    print('equal')\n";
    for frame in ours() {
        assert_eq!(python(compare, &frame).trim_ascii(), b"equal");
    }
}

#[test]
fn we_read_pycapnps_frames() {
    let Some(()) = tools::pycapnp() else { return };
    let write = "sys.stdout.buffer.write(schema.Quotes.new_message(**expected).to_bytes())\n";
    receive(&python(write, &[]));
}
