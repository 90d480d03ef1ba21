"""Cap'n Proto with the Rust example `capnp_quotes`: quotes from a venue, read in their slots, the best book back.

cargo build --release --example capnp_quotes
python crates/python/examples/quotes.py            # a venue in Rust, the desk in Python
python crates/python/examples/quotes.py --venue    # the venue in Python, a desk in Rust
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path
from typing import Any

import capnp
import capnproto_shm_transport as cst

ROOT = Path(__file__).parents[3]
SCHEMA = capnp.load(str(ROOT / "schema" / "quotes.capnp"))
TAG = "quotes/1"
ROUNDS = 5
PATIENCE = 60.0


def best_book(quotes: cst.CapnpMessage) -> Any:  # noqa: ANN401 - pycapnp makes its types at run time
    """Give the book of the smallest spread, as a message of its own. No view of the slot outlives this call."""
    best = min(quotes.books, key=lambda book: book.asks[0].price - book.bids[0].price)
    for book in quotes.books:
        print(f"desk:  {quotes.venue} {book.symbol:4} bid {book.bids[0].price:.2f} ask {book.asks[0].price:.2f}")
    return best.as_builder()


def desk(name: str) -> None:
    """Side B: look at each message in its slot, and answer."""
    with cst.CapnpChannel.open(name, SCHEMA.Book, SCHEMA.Quotes, timeout=PATIENCE, tag=TAG) as channel:
        for quotes in channel:
            channel.send(best_book(quotes))


def venue(name: str) -> None:
    """Side A: quotes go out, the best book comes back."""
    options: cst.Options = {"slot_size": 2048, "slot_count": 64, "tag": TAG}
    with cst.CapnpChannel.create(name, SCHEMA.Quotes, SCHEMA.Book, **options) as channel:
        for number in range(ROUNDS):
            with channel.reserve(PATIENCE) as quotes:
                quotes.venue, quotes.time = "XPAR", number
                for at, (symbol, book) in enumerate(zip(["AIR", "BNP", "OR"], quotes.init("books", 3), strict=True)):
                    book.symbol = symbol
                    middle, spread = 100.0 + 50 * at, 0.25 * ((at + number) % 3 + 1)
                    for level, bid in enumerate(book.init("bids", 4)):
                        bid.price, bid.size = middle - spread * (level + 1), 100 * (level + 1)
                    ask = book.init("asks", 1)[0]
                    ask.price, ask.size = middle + spread, 500
            with channel.recv(PATIENCE) as book:
                print(f"venue: the desk takes {book.symbol} in round {number}")


def main() -> None:
    """Start the other side in Rust, and be this one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rust", type=Path, default=ROOT / "target/release/examples/capnp_quotes")
    parser.add_argument("--venue", action="store_true", help="be the venue, side A")
    args = parser.parse_args()
    if not args.rust.exists():
        parser.error(
            f"{args.rust} is not there; build it (cargo build --release --example capnp_quotes), or name it by --rust"
        )
    name = f"quotes-{os.getpid()}"
    with subprocess.Popen([args.rust, "desk" if args.venue else "venue", name]) as other:
        try:
            if args.venue:
                venue(name)
            else:
                desk(name)
        except BaseException:
            other.kill()
            raise
    if other.returncode != 0:
        raise SystemExit(other.returncode)


if __name__ == "__main__":
    main()
