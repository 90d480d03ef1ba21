@0xcb95b6e7518d5883;
# A message of any size.

struct Blob {
  sequence @0 :UInt64;
  data @1 :Data;
}
