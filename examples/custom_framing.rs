//! A protocol of our own on raw slots: log records of any length, several to a slot, large ones in a span.
//!
//! A slot or span holds records back to back. A record is a length (`u32`, little-endian: the bytes of its
//! text), a level (`u8`) and the text. `cargo run --example custom_framing` starts both processes.

use std::env;
use std::error::Error;
use std::process::{Child, Command};
use std::time::Duration;

use capnproto_shm_transport::{Config, RecvError, SendError, Transport};

const PATIENCE: Duration = Duration::from_secs(5);
const HEAD: usize = 5;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

struct Record<'a> {
    level: u8,
    text: &'a [u8],
}

impl<'a> Record<'a> {
    fn len(&self) -> usize {
        HEAD + self.text.len()
    }

    /// Writes the record to the start of `space`, which has room for it.
    fn write(&self, space: &mut [u8]) {
        space[..4].copy_from_slice(&(self.text.len() as u32).to_le_bytes());
        space[4] = self.level;
        space[HEAD..self.len()].copy_from_slice(self.text);
    }

    /// Splits the first record off `bytes`. The bytes come from another program, so nothing is assumed.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (len, rest) = bytes.split_first_chunk()?;
        let (&level, rest) = rest.split_first()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        Some((Self { level, text }, rest))
    }
}

fn main() -> Result {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => program(&format!("custom-framing-{}", std::process::id())),
        ["logger", name] => logger(name),
        _ => Err("usage: custom_framing (it starts its second process itself)".into()),
    }
}

/// Side A writes log records.
fn program(name: &str) -> Result {
    let config = Config::new().slot_size(512).slot_count(64).message_tag("log/1");
    let mut transport = Transport::create(name, &config)?;
    let child = Command::new(env::current_exe()?).args(["logger", name]).spawn()?;

    let texts: Vec<String> =
        (0..10_000).map(|n| format!("request {n} {}", "served ".repeat(n % 9))).collect();
    let dump = "0123456789abcdef".repeat(500);

    let mut records = texts.iter().map(|text| Record { level: b'I', text: text.as_bytes() }).peekable();
    let mut slots = 0;
    while records.peek().is_some() {
        // Packed where the logger reads them; `next_if` leaves the first that does not fit for the next slot.
        let mut slot = transport.reserve_timeout(PATIENCE)?;
        let mut used = 0;
        while let Some(record) = records.next_if(|record| used + record.len() <= slot.len()) {
            record.write(&mut slot[used..]);
            used += record.len();
        }
        if used == 0 {
            return Err("a record is larger than a slot: it needs a span".into());
        }
        slot.commit(used);
        slots += 1;
    }

    // A record of 8000 bytes takes a span: adjacent slots that are one message.
    let large = Record { level: b'E', text: dump.as_bytes() };
    let mut span = transport.reserve_span_timeout(large.len(), PATIENCE)?;
    large.write(&mut span);
    span.commit(large.len());

    // A message that cannot fit is refused before anything is written.
    let refused = transport.try_reserve_span(transport.max_message_size() + 1);
    if !matches!(refused, Err(SendError::TooLarge { .. })) {
        return Err("a message larger than the ring was not refused".into());
    }

    println!("wrote {} records: {} in {slots} slots, 1 in a span", texts.len() + 1, texts.len());
    drop(transport);
    success(child)
}

/// Side B reads them until the program closes the channel.
fn logger(name: &str) -> Result {
    let mut transport = Transport::open_with(name, PATIENCE, &Config::new().message_tag("log/1"))?;
    let (mut count, mut bytes, mut errors, mut longest) = (0, 0, 0, 0);
    loop {
        let message = match transport.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(RecvError::Closed) => break,
            Err(error) => return Err(error.into()),
        };
        // Slot or span: one slice either way.
        let mut rest = &*message;
        while !rest.is_empty() {
            let (record, tail) = Record::read(rest).ok_or("a record is cut short")?;
            count += 1;
            bytes += record.text.len();
            errors += u32::from(record.level == b'E');
            longest = longest.max(record.text.len());
            rest = tail;
        }
    }
    println!("read {count} records, {bytes} bytes of text, {errors} error, longest {longest} bytes");
    if (count, errors, longest) != (10_001, 1, 8000) {
        return Err("records are missing".into());
    }
    Ok(())
}

fn success(mut child: Child) -> Result {
    let status = child.wait()?;
    if status.success() { Ok(()) } else { Err(format!("the other process failed: {status}").into()) }
}
