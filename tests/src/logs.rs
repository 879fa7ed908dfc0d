//! Logs of daemons: a warning that no test announced is a failure.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Lines at WARN or ERROR, and panics, in the logs of a folder; those with one of the `announced`
/// words are left out. Each with the name of its file.
pub fn complaints(folder: &Path, announced: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    for path in paths {
        let bytes = fs::read(&path).unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| is_complaint(line)) {
            if !announced.iter().any(|word| line.contains(word.as_str())) {
                found.push(format!("{name}: {line}"));
            }
        }
    }
    found
}

fn is_complaint(line: &str) -> bool {
    let level = line.split_whitespace().take(3).any(|word| matches!(word, "WARN" | "ERROR"));
    level || line.contains("panicked at")
}

/// The last lines of every log in a folder, for the message of a failed test.
pub fn tails(folder: &Path, lines: usize) -> String {
    let mut text = String::new();
    let Ok(entries) = fs::read_dir(folder) else { return text };
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    for path in paths {
        let bytes = fs::read(&path).unwrap_or_default();
        let log = String::from_utf8_lossy(&bytes);
        let all: Vec<_> = log.lines().collect();
        let tail = all.get(all.len().saturating_sub(lines)..).unwrap_or_default();
        let _ = writeln!(text, "--- {}\n{}", path.display(), tail.join("\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_found_unless_it_was_announced() {
        let folder = tempfile::tempdir().unwrap();
        let text =
            "t INFO nacre_oss: ERRORS none\nt WARN nacre_oss: disk slow\nt ERROR x: broken\n";
        fs::write(folder.path().join("oss0.log"), text).unwrap();
        let found = complaints(folder.path(), &["disk slow".to_owned()]);
        assert_eq!(found, ["oss0.log: t ERROR x: broken"]);
    }
}
