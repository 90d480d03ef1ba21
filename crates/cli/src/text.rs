//! Numbers and tables for people, within 80 columns.

use std::io::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Columns of the narrowest terminal that everything fits.
pub const WIDTH: u16 = 80;

/// A table without lines. These columns stand to the right.
pub fn table(head: &[&str], right: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    if !head.is_empty() {
        table.set_header(head.iter().copied());
    }
    align(&mut table, right);
    table
}

/// Two blanks between columns, these to the right.
pub fn align(table: &mut Table, right: &[usize]) {
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if right.contains(&at) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// Writes a table without blanks at the ends of lines.
pub fn print_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// 1 channel, 2 channels.
pub fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// 950, 1.2k, 34.5M: at most five characters.
pub fn count(number: f64) -> String {
    // An empty sum is -0.
    let mut number = number + 0.0;
    for unit in ["", "k", "M", "G", "T", "P"] {
        if number < 999.5 {
            return if unit.is_empty() {
                format!("{number:.0}")
            } else if number < 99.95 {
                format!("{number:.1}{unit}")
            } else {
                format!("{number:.0}{unit}")
            };
        }
        number /= 1000.0;
    }
    "many".to_owned()
}

/// 12 KiB, 3.5 MiB.
pub fn bytes(number: u64) -> String {
    let mut number = number as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if number < 1023.5 {
            return if unit == "B" || number >= 99.95 || number.fract() == 0.0 {
                format!("{number:.0} {unit}")
            } else {
                format!("{number:.1} {unit}")
            };
        }
        number /= 1024.0;
    }
    format!("{number:.1} TiB")
}

/// 5s, 3m, 2h, 4d.
pub fn age(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86400),
    }
}

/// 85 ns, 12.3 µs, 4.5 ms.
pub fn time(nanos: f64) -> String {
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.1} µs", n / 1e3),
        n if n < 1e9 => format!("{:.1} ms", n / 1e6),
        n => format!("{:.1} s", n / 1e9),
    }
}

/// The first characters, and that there were more.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    kept + "…"
}

/// Text from elsewhere, without anything that moves a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A name as a shell takes it, so that a printed command can be copied.
pub fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-._+:@%".contains(c);
    let quoted =
        if name.chars().all(plain) { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) };
    if name.starts_with('-') { format!("-- {quoted}") } else { quoted }
}

/// Breaks text into lines of at most `width` characters, at blanks where it can, and a longer word anywhere.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let pieces = |word: &str| {
        let letters: Vec<char> = word.chars().collect();
        letters.chunks(width.max(1)).map(|piece| piece.iter().collect::<String>()).collect::<Vec<_>>()
    };
    for word in text.split_whitespace().flat_map(pieces) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            [0.0, -0.0, 999.0, 1000.0, 12_345.0, 999_999.0, 2.5e9].map(count),
            ["0", "0", "999", "1.0k", "12.3k", "1.0M", "2.5G"]
        );
        assert_eq!([5, 1024, 4096, 1_500_000].map(bytes), ["5 B", "1 KiB", "4 KiB", "1.4 MiB"]);
        assert_eq!(
            [0, 59, 61, 7200, 200_000].map(|s| age(Duration::from_secs(s))),
            ["0s", "59s", "1m", "2h", "2d"]
        );
        assert_eq!(shortened("abcdef", 4), "abc…");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("a tremendously", 5), ["a", "treme", "ndous", "ly"]);
        assert_eq!(
            ["a-b.1", "two words", "it's", "-x"].map(quoted),
            ["a-b.1", "'two words'", "'it'\\''s'", "-- -x"]
        );
    }
}
