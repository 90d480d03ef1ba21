//! Books of orders, as many as asked for: lists of numbers in structs in a list. The harness's word travels as
//! the time, and in the prices.

use anyhow::{Result, ensure};
use schemas::quotes_capnp::quotes;

use super::message::Message;

pub struct Quotes;

/// On each side of a book.
const LEVELS: u32 = 14;

/// Bytes of the frame of so many books.
pub fn frame_bytes(books: usize) -> usize {
    let mut message = capnp::message::Builder::new_default();
    Quotes::write(message.init_root(), 0, books);
    capnp::serialize::compute_serialized_size_in_words(&message) * 8
}

impl Message for Quotes {
    type Root = quotes::Owned;

    #[inline(always)]
    fn write(mut message: quotes::Builder<'_>, word: u64, books: usize) {
        message.set_venue("XLON");
        message.set_time(word);
        let mut list = message.init_books(books as u32);
        for at in 0..books as u32 {
            let mut book = list.reborrow().get(at);
            book.set_symbol("SYMBOL");
            let mut bids = book.reborrow().init_bids(LEVELS);
            for i in 0..LEVELS {
                let mut bid = bids.reborrow().get(i);
                bid.set_price(word as f64);
                bid.set_size(i);
            }
            let mut asks = book.init_asks(LEVELS);
            for i in 0..LEVELS {
                let mut ask = asks.reborrow().get(i);
                ask.set_price(word as f64);
                ask.set_size(i);
            }
        }
    }

    #[inline(always)]
    fn read(message: quotes::Reader<'_>, books: usize) -> Result<u64> {
        let word = message.get_time();
        let mut same = message.get_venue()?.as_bytes() == b"XLON";
        let mut sizes = 0;
        for book in message.get_books()? {
            same &= book.get_symbol()?.as_bytes() == b"SYMBOL";
            for level in book.get_bids()?.iter().chain(book.get_asks()?) {
                same &= level.get_price() == word as f64;
                sizes += u64::from(level.get_size());
            }
        }
        same &= sizes == books as u64 * u64::from(LEVELS * (LEVELS - 1));
        ensure!(same, "the message is damaged");
        Ok(word)
    }
}
