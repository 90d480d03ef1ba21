//! Near and far: where a hypervisor lets two processors run decides how long a cache line takes between them,
//! and the cost of everything that is measured here with it.

use crate::sample::{Figures, Sample};

/// A line that takes less than so many times the least of the run is near: where it takes 60 ns for a while and
/// 95 for another, both are.
pub const NEAR: f64 = 2.0;
/// One that takes more than so many times is far.
pub const FAR: f64 = 3.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distance {
    Near,
    Far,
}

pub const BOTH: [Distance; 2] = [Distance::Near, Distance::Far];

impl Distance {
    /// Of what a line took, against the least of the run; none where it lies in between.
    pub fn of(line: f64, least: f64) -> Option<Self> {
        match line / least {
            times if times < NEAR => Some(Self::Near),
            times if times > FAR => Some(Self::Far),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }
}

/// One turn of an entry, and what the line took before and after, in nanoseconds.
pub struct Turn {
    pub lines: [f64; 2],
    pub sample: Sample,
}

/// Of the turns that were so throughout.
pub fn figures(turns: &[Turn], distance: Distance, least: f64) -> Option<Figures> {
    let so = |turn: &&Turn| turn.lines.iter().all(|&line| Distance::of(line, least) == Some(distance));
    let samples: Vec<Sample> = turns.iter().filter(so).map(|turn| turn.sample.clone()).collect();
    Figures::of(&samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_near_or_far_only_if_it_is_so_from_beginning_to_end() {
        let turn = |before, after, nanos| {
            let sample = Sample { messages: 1, nanos, latency: None, cpu: None, spread: None };
            Turn { lines: [before, after], sample }
        };
        let turns = [turn(60.0, 95.0, 1), turn(95.0, 380.0, 2), turn(380.0, 400.0, 3), turn(150.0, 150.0, 4)];
        let rounds = |distance| figures(&turns, distance, 60.0).map(|f| f.rounds);
        assert_eq!(BOTH.map(rounds), [Some(vec![1.0]), Some(vec![3.0])]);
        assert!(figures(&turns[..2], Distance::Far, 60.0).is_none());
    }
}
