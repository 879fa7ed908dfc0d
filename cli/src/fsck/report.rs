//! What a check tells.

use std::fmt::Write as _;

use serde::Serialize;

/// Most findings that are kept: a disk full of damage must not fill the memory too.
const FINDINGS_MAX: usize = 10_000;

/// All that was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    targets: Vec<TargetReport>,
    findings: Vec<Finding>,
    /// Findings beyond those listed.
    more: u64,
    notes: Vec<String>,
}

/// Counts of one target.
#[derive(Debug, Serialize)]
pub(super) struct TargetReport {
    pub(super) target: String,
    pub(super) summary: String,
}

/// Something that must not be.
#[derive(Debug, Serialize)]
struct Finding {
    target: String,
    what: String,
}

impl Report {
    pub(super) fn finding(&mut self, target: &str, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { target: target.to_owned(), what: what.into() });
        } else {
            self.more = self.more.saturating_add(1);
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    pub(super) fn target(&mut self, target: &str, summary: String) {
        self.targets.push(TargetReport { target: target.to_owned(), summary });
    }

    pub(super) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for TargetReport { target, summary } in &self.targets {
            let _ = writeln!(text, "{target}: {summary}");
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        for Finding { target, what } in &self.findings {
            let _ = writeln!(text, "FINDING {target}: {what}");
        }
        if self.more > 0 {
            let _ = writeln!(text, "FINDING and {} more", self.more);
        }
        let count = self.more.saturating_add(u64::try_from(self.findings.len()).unwrap_or(0));
        let _ = match count {
            0 => writeln!(text, "clean"),
            1 => writeln!(text, "1 finding"),
            count => writeln!(text, "{count} findings"),
        };
        text
    }

    pub(super) fn json(&self) -> String {
        let whole = Whole { clean: self.is_clean(), report: self };
        let text = serde_json::to_string_pretty(&whole).unwrap_or_else(|error| error.to_string());
        text + "\n"
    }
}

/// The JSON document.
#[derive(Serialize)]
struct Whole<'a> {
    clean: bool,
    #[serde(flatten)]
    report: &'a Report,
}
