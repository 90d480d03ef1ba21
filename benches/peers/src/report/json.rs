//! The raw figures: every round of every entry.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::Results;
use super::bounds::Bound;
use crate::distance;
use crate::idle::Idle;

pub fn write(results: &Results, machine: &[(String, String)], bounds: &[Bound], path: &Path) -> Result<()> {
    let rows = results.sections.iter().flat_map(|(section, rows)| {
        rows.iter().map(|row| {
            let [near, far] = distance::BOTH.map(|d| distance::figures(&row.turns, d, results.least));
            json!({
                "section": section.id,
                "series": row.series,
                section.axis.name: row.x,
                "contender": row.entry.contender,
                "bytes": row.entry.round.size,
                "slots": row.entry.spec.slots,
                "channels": row.entry.spec.channels,
                "job": row.entry.round.job,
                "cache_line_ns": row.line,
                "figures": row.figures.as_ref().ok(),
                "near": near,
                "far": far,
                "error": row.figures.as_ref().err(),
            })
        })
    });
    let machine: serde_json::Map<String, Value> =
        machine.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect();
    let memory = results.memory.as_ref().and_then(|m| m.as_ref().ok());
    let idle: Vec<&Idle> = results.idle.iter().flatten().collect();
    let served = results.served.as_ref().and_then(|s| s.as_ref().ok());
    let tapped = results.tapped.as_ref().and_then(|t| t.as_ref().ok());
    let rpc = results.rpc.as_ref().and_then(|rpc| rpc.as_ref().ok());
    let all = json!({
        "machine": machine,
        "bounds": bounds,
        "least_cache_line_ns": results.least,
        "idle": idle,
        "memory": memory,
        "served": served,
        "tapped": tapped,
        "rpc": rpc,
        "rows": rows.collect::<Vec<_>>(),
    });
    Ok(serde_json::to_writer(BufWriter::new(File::create(path)?), &all)?)
}
