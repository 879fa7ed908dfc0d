//! The figures: a table for people, serialisable for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::data::{Access, Workload};
use super::meta::{Rate, Tree};

/// Everything measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// In the order measured.
    pub(crate) measures: Vec<Measure>,
}

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Measure {
    /// What was done, for people.
    pub(crate) what: String,
    /// How, of data phases.
    pub(crate) access: Option<Access>,
    /// Of data phases; 0: the directory's default.
    pub(crate) stripe_count: Option<u16>,
    /// Of data phases, in bytes.
    pub(crate) block_bytes: Option<u64>,
    /// Threads.
    pub(crate) jobs: usize,
    /// The figure.
    pub(crate) value: f64,
    /// `MiB/s` or `ops/s`.
    pub(crate) unit: &'static str,
    /// The same on the local directory.
    pub(crate) local: f64,
    /// `value / local`.
    pub(crate) share: f64,
}

const MIB: f64 = 1_048_576.0;

impl Measure {
    /// Of a data phase; rates in bytes per second.
    pub(crate) fn data(work: &Workload, stripe_count: u16, rate: f64, local: f64) -> Self {
        Self {
            what: format!("{} {}", work.access.words(), work.block),
            access: Some(work.access),
            stripe_count: Some(stripe_count),
            block_bytes: Some(work.block.0),
            jobs: work.jobs,
            value: rate / MIB,
            unit: "MiB/s",
            local: local / MIB,
            share: rate / local,
        }
    }

    /// Of a metadata phase.
    pub(crate) fn meta(tree: &Tree, mine: &Rate, local: &Rate) -> Self {
        let place = if tree.private { "own directories" } else { "one directory" };
        Self {
            what: format!("{}, {place}", mine.phase),
            access: None,
            stripe_count: None,
            block_bytes: None,
            jobs: tree.jobs,
            value: mine.per_second,
            unit: "ops/s",
            local: local.per_second,
            share: mine.per_second / local.per_second,
        }
    }
}

impl Report {
    /// Adds a figure.
    pub(crate) fn add(&mut self, measure: Measure) {
        self.measures.push(measure);
    }

    /// All of them, a line each.
    pub(crate) fn table(&self) -> String {
        let mut out = format!(
            "{:<28} {:>7} {:>5} {:>12} {:>12} {:>7}\n",
            "what", "stripes", "jobs", "nacre", "local", "share"
        );
        for m in &self.measures {
            let stripes = match m.stripe_count {
                None => String::new(),
                Some(0) => "default".to_owned(),
                Some(count) => count.to_string(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "{:<28} {:>7} {:>5} {:>12.1} {:>12.1} {:>6.0}%  {}",
                m.what,
                stripes,
                m.jobs,
                m.value,
                m.local,
                m.share * 100.0,
                m.unit
            );
        }
        out
    }
}
