//! Documents that must say what the code says.

use std::collections::BTreeSet;

use crate::tree::{files, has_extension, none, product_sources, read, root};

/// Last words that a metric may have: base units, or what is counted.
const UNITS: &[&str] =
    &["total", "bytes", "count", "seconds", "ratio", "info", "objects", "version"];

/// Parts that have metrics.
const PARTS: &[&str] = &["node", "mgs", "mds", "oss", "client", "mount", "copytool"];

fn is_metric(word: &str) -> bool {
    let mut pieces = word.split('_');
    pieces.next() == Some("nacre")
        && pieces.next().is_some_and(|part| PARTS.contains(&part))
        && pieces.clone().count() >= 2
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Words between two `quote`s that look like metrics.
fn metrics(text: &str, quote: char) -> BTreeSet<String> {
    let quoted = text.split(quote).map(|piece| piece.split('{').next().unwrap_or_default());
    quoted.filter(|word| is_metric(word)).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_exists() {
    let in_code: BTreeSet<_> =
        product_sources().iter().flat_map(|file| metrics(&read(file), '"')).collect();
    let documented = metrics(&read("docs/METRICS.md"), '`');
    let missing = in_code.difference(&documented).map(|m| format!("{m} is not in the document"));
    let gone = documented.difference(&in_code).map(|m| format!("{m} is not in the code"));
    none(&missing.chain(gone).collect::<Vec<_>>(), "bring docs/METRICS.md and the code together");
    let unit =
        |metric: &&String| metric.rsplit('_').next().is_some_and(|last| UNITS.contains(&last));
    let odd: Vec<_> = in_code.iter().filter(|metric| !unit(metric)).cloned().collect();
    none(&odd, "end a metric in its base unit or in what it counts");
}

#[test]
fn every_error_says_in_its_documentation_when_it_happens() {
    let mut complaints = Vec::new();
    // The binary's own errors are read by people only, as they are.
    for file in product_sources().iter().filter(|file| !file.starts_with("cli/")) {
        let text = read(file);
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (index, _) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("#[error("))
        {
            let before = lines[..index].iter().rev().find(|line| !line.starts_with("#["));
            if !before.is_some_and(|line| line.starts_with("///")) {
                complaints.push(format!("{file}:{}", index + 1));
            }
        }
    }
    none(&complaints, "say above each variant of an error when it happens");
}

#[test]
fn every_decision_record_has_all_its_sections() {
    let sections = [
        "Status",
        "Context",
        "Decision",
        "Alternatives",
        "Consequences",
        "How we will know it is wrong",
        "Log",
    ];
    let mut complaints = Vec::new();
    let records = files().into_iter().filter(|file| file.starts_with("docs/adr/"));
    for record in records.filter(|file| !file.ends_with("README.md")) {
        let text = read(&record);
        let headings: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .map(|line| line.trim_start_matches('#').trim())
            .collect();
        for section in sections {
            if !headings.iter().any(|heading| heading.starts_with(section)) {
                complaints.push(format!("{record}: no section {section}"));
            }
        }
    }
    none(&complaints, "write the missing sections");
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for file in files().iter().filter(|file| has_extension(file, "md")) {
        let folder = root().join(file).parent().expect("a file has a folder").to_owned();
        for link in read(file).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            let outside = path.is_empty() || path.contains("://") || path.contains(' ');
            if !outside && !folder.join(path).exists() {
                complaints.push(format!("{file}: {link}"));
            }
        }
    }
    none(&complaints, "mend the links");
}

#[test]
fn every_promise_names_a_test_that_exists() {
    let sources: Vec<_> = files().into_iter().filter(|f| has_extension(f, "rs")).collect();
    let tests: String = sources.iter().map(|file| read(file)).collect();
    let text = read("docs/SEMANTICS.md");
    let named = text.split('`').skip(1).step_by(2).filter(|word| {
        word.len() > 20
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    });
    let gone: Vec<_> =
        named.filter(|name| !tests.contains(&format!("fn {name}("))).map(str::to_owned).collect();
    none(&gone, "name a test that is in the tree");
}
