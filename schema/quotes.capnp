@0xadf71c3d74ca06fc;
# Books of orders, as a venue shows them.

struct Quotes {
  venue @0 :Text;
  time @1 :UInt64;
  # Nanoseconds since the Unix epoch.

  books @2 :List(Book);
}

struct Book {
  symbol @0 :Text;
  bids @1 :List(Level);
  asks @2 :List(Level);
}

struct Level {
  price @0 :Float64;
  size @1 :UInt32;
}
