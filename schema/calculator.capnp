@0xad37ac90ef04cfd7;

# What example rpc_calculator serves.
interface Calculator {
  number @0 (value :Float64) -> (value :Value);
  operator @1 (kind :Operator) -> (function :Function);
  # The arguments may be values that are not computed yet.
  apply @2 (function :Function, arguments :List(Value)) -> (value :Value);

  enum Operator {
    add @0;
    subtract @1;
    multiply @2;
    divide @3;
  }

  # A number, now or soon.
  interface Value {
    read @0 () -> (value :Float64);
  }

  # The server has some; a client may bring its own.
  interface Function {
    call @0 (arguments :List(Float64)) -> (value :Float64);
  }
}
