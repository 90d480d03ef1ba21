//! Quotes with nested lists and text, from a venue to a desk and trades back: Cap'n Proto messages built and
//! read in shared memory. One command runs both processes:
//!
//! ```sh
//! cargo run --example capnp_quotes
//! ```
//!
//! `capnp_quotes venue NAME` and `capnp_quotes desk NAME` are one each; the other may be the C++ example `quotes` in
//! `crates/capi`.
//!
//! The schema is `schema/quotes.capnp`. Your own crate gets its Rust from `capnpc` as usual.

use std::error::Error;
use std::process::Command;
use std::time::Duration;

use capnproto_shm_transport::{CapnpChannel, Config, RecvError};
use schemas::quotes_capnp::{book, quotes};

const ROUNDS: u64 = 5;
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => both(&format!("capnp-quotes-{}", std::process::id())),
        ["venue", name] => venue(name),
        ["desk", name] => desk(name),
        _ => Err("usage: capnp_quotes [venue|desk NAME]".into()),
    }
}

fn both(name: &str) -> Result<(), Box<dyn Error>> {
    let mut desk = Command::new(std::env::current_exe()?).args(["desk", name]).spawn()?;
    venue(name)?;
    desk.wait()?;
    Ok(())
}

/// Side A: quotes go out, the best book comes back.
fn venue(name: &str) -> Result<(), Box<dyn Error>> {
    let config = Config::new().slot_size(2048).slot_count(64).message_tag("quotes/1");
    let mut channel = CapnpChannel::<quotes::Owned, book::Owned>::create(name, &config)?;
    channel.wait_for_peer(PATIENCE).map_err(|error| format!("no desk: {error}"))?;

    for round in 0..ROUNDS {
        // Built where the desk will read it: nothing is serialized or copied.
        let mut message = channel.reserve()?;
        let mut quotes = message.init_root();
        quotes.set_venue("XLON");
        quotes.set_time(round);
        let mut books = quotes.init_books(3);
        for (at, symbol) in (0..).zip(["VOD", "BARC", "HSBA"]) {
            let mut book = books.reborrow().get(at);
            book.set_symbol(symbol);
            let middle = 100.0 + 50.0 * f64::from(at) + round as f64;
            let spread = 0.25 * f64::from((at + round as u32) % 3 + 1);
            let mut bids = book.reborrow().init_bids(4);
            for level in 0..4 {
                let mut bid = bids.reborrow().get(level);
                bid.set_price(middle - spread * f64::from(level + 1));
                bid.set_size(100 * (level + 1));
            }
            let mut ask = book.init_asks(1).get(0);
            ask.set_price(middle + spread);
            ask.set_size(500);
        }
        message.commit()?;

        let answer = channel.recv_timeout(PATIENCE)?;
        let book = answer.get()?;
        println!("venue: the desk takes {} in round {round}", book.get_symbol()?.to_str()?);
    }
    let stats = channel.stats();
    println!("venue: {} messages out, {} back, then closed", stats.tx.messages, stats.rx.messages);
    Ok(())
}

/// Side B: looks at each message in the slot it arrived in, and answers with the book of the smallest spread.
fn desk(name: &str) -> Result<(), Box<dyn Error>> {
    let config = Config::new().message_tag("quotes/1");
    let mut channel = CapnpChannel::<book::Owned, quotes::Owned>::open_with(name, PATIENCE, &config)?;
    let (sender, receiver) = channel.halves();
    loop {
        let message = match receiver.recv() {
            Ok(message) => message,
            Err(RecvError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let quotes = message.get()?;
        let mut best: Option<(f64, book::Reader<'_>)> = None;
        for book in quotes.get_books()? {
            let spread = book.get_asks()?.get(0).get_price() - book.get_bids()?.get(0).get_price();
            println!(
                "desk:  {} {:4} bid {:.2} ask {:.2}",
                quotes.get_venue()?.to_str()?,
                book.get_symbol()?.to_str()?,
                book.get_bids()?.get(0).get_price(),
                book.get_asks()?.get(0).get_price(),
            );
            if best.is_none_or(|(least, _)| spread < least) {
                best = Some((spread, book));
            }
        }
        if let Some((_, book)) = best {
            sender.send_reader(book)?;
        }
    }
}
