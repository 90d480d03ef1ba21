//! One plot: a line for each series.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::plan::{Section, Unit};
use crate::runner::Row;
use crate::sample::Figures;

/// The figure that a section's plot shows.
pub fn value(unit: Unit, figures: &Figures) -> Option<f64> {
    match unit {
        Unit::Nanos => Some(figures.nanos),
        Unit::Rate => Some(figures.mega_rate()),
        Unit::Calls => Some(1e6 / figures.nanos),
        Unit::Tail => Some(figures.latency?.p999 as f64),
        Unit::Wake => Some(figures.latency?.p50 as f64),
    }
}

fn label(unit: Unit) -> &'static str {
    match unit {
        Unit::Nanos => "ns (median of rounds)",
        Unit::Rate => "million messages a second",
        Unit::Calls => "thousand calls a second",
        Unit::Tail => "ns (p99.9)",
        Unit::Wake => "ns (p50)",
    }
}

/// The series in the order of the plan.
pub fn series_of(rows: &[Row]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.series.as_str()) {
            names.push(&row.series);
        }
    }
    names
}

/// What the entries of a section differ in, in order.
pub fn columns(rows: &[Row]) -> Vec<f64> {
    let mut columns: Vec<f64> = rows.iter().map(|r| r.x).collect();
    columns.sort_by(f64::total_cmp);
    columns.dedup();
    columns
}

pub fn write(section: &Section, rows: &[Row], path: &Path) -> Result<()> {
    if rows.iter().all(|r| r.figures.is_err()) {
        return Ok(());
    }
    draw(section, rows, path).map_err(|e| anyhow!("{}: {e}", path.display()))
}

type Fallible = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(section: &Section, rows: &[Row], path: &Path) -> Fallible {
    // Columns stand side by side, as in the table.
    let columns = columns(rows);
    let point = |row: &Row| {
        let column = columns.iter().position(|&x| x == row.x)?;
        Some((column as f64, value(section.unit, row.figures.as_ref().ok()?)?))
    };
    let values = rows.iter().filter_map(point).map(|p| p.1);
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
    let right = columns.len() as f64 - 0.9;
    let root = SVGBackend::new(path, (960, 560)).into_drawing_area();
    root.fill(&WHITE)?;
    let (plot, legend) = root.split_horizontally(730);
    let mut chart = ChartBuilder::on(&plot)
        .caption(section.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(70)
        .build_cartesian_2d(-0.1..right, (low.min(high / 12.0) * 0.8..high * 1.25).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(section.axis.name)
        .y_desc(label(section.unit))
        .x_labels(columns.len() + 1)
        .x_label_formatter(&|x| {
            let column = columns.get(x.round() as usize).filter(|_| (x - x.round()).abs() < 0.01);
            column.map_or_else(String::new, |&x| (section.axis.format)(x))
        })
        .y_label_formatter(&|y| format!("{y}"))
        .draw()?;
    let names = series_of(rows);
    for (i, name) in names.iter().enumerate() {
        // Ours stands out; the others share the circle of hues.
        let ours = name.starts_with("ours");
        let color = HSLColor(i as f64 / names.len() as f64, 0.75, 0.42);
        let style =
            ShapeStyle { color: color.to_rgba(), filled: true, stroke_width: if ours { 3 } else { 1 } };
        let line: Vec<(f64, f64)> = rows.iter().filter(|r| r.series == *name).filter_map(point).collect();
        chart.draw_series(LineSeries::new(line.iter().copied(), style))?;
        chart.draw_series(line.iter().map(|&p| Circle::new(p, 3, style)))?;
        let y = 60 + 22 * i as i32;
        legend.draw(&Rectangle::new([(4, y), (24, y + 4)], style))?;
        legend.draw(&Text::new((*name).to_owned(), (30, y - 6), ("sans-serif", 13)))?;
    }
    root.present()?;
    Ok(())
}
