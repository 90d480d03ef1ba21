//! The document: a page, plots, and the raw figures.

mod bounds;
mod json;
mod machine;
mod page;
mod plot;

use std::path::Path;

use anyhow::Result;

use crate::distance::{self, Distance};
use crate::idle::Idle;
use crate::memory::Memory;
use crate::plan::Section;
use crate::rpc::Rpc;
use crate::runner::{Pace, Row};
use crate::sample::{Figures, median};
use crate::server::Served;
use crate::tapped::Tapped;

/// Everything that was measured.
#[derive(Default)]
pub struct Results {
    pub sections: Vec<(Section, Vec<Row>)>,
    pub idle: Vec<Result<Idle, String>>,
    pub rpc: Option<Result<Rpc, String>>,
    pub memory: Option<Result<[Memory; 2], String>>,
    pub served: Option<Result<Served, String>>,
    pub tapped: Option<Result<Tapped, String>>,
    /// The least that a cache line ever took there and back, in nanoseconds.
    pub least: f64,
}

impl Results {
    pub fn get(&self, section: &str, series: &str, x: f64) -> Option<&Figures> {
        self.row(section, series, x)?.figures.as_ref().ok()
    }

    /// Of the turns that were near, or far.
    pub fn apart(&self, section: &str, series: &str, x: f64, distance: Distance) -> Option<Figures> {
        distance::figures(&self.row(section, series, x)?.turns, distance, self.least)
    }

    fn row(&self, section: &str, series: &str, x: f64) -> Option<&Row> {
        let (_, rows) = self.sections.iter().find(|(s, _)| s.id == section)?;
        rows.iter().find(|r| r.series == series && r.x == x)
    }
}

/// How one compares to another: the median of their rounds, each against its neighbour in time, so that a
/// machine that changes its speed meanwhile changes both.
pub fn ratio(of: &Figures, to: &Figures) -> f64 {
    median(of.rounds.iter().zip(&to.rounds).map(|(a, b)| a / b))
}

pub fn write(results: &Results, pace: Pace, out: &Path) -> Result<()> {
    let beside = out.join("benchmarks");
    std::fs::create_dir_all(&beside)?;
    let machine = machine::describe();
    let bounds = bounds::table(results);
    for (section, rows) in results.sections.iter().filter(|(s, _)| s.axis.plot) {
        plot::write(section, rows, &beside.join(format!("{}.svg", section.id)))?;
    }
    json::write(results, &machine, &bounds, &beside.join("results.json"))?;
    std::fs::write(out.join("benchmarks.md"), page::text(results, pace, &machine, &bounds))?;
    Ok(())
}
