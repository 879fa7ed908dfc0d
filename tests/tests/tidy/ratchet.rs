//! Lengths that may only shrink, and words that may not appear.

use crate::tree::{files, has_extension, is_rust, none, product_sources, read};

const FILE_LINES_MAX: usize = 500;

/// Files that are longer, with the length they must not exceed and why they are one file. Lower
/// the number when the file shrinks.
const LONG_FILES: &[(&str, usize, &str)] = &[
    ("cli/src/lfs/find.rs", 536, "the words of find and what each asks of a file"),
    ("mds/src/namespace/model_test/model.rs", 552, "one model of POSIX, independent of ours"),
    ("node/src/disk/mem.rs", 549, "one model of a disk: its calls and its crash share one state"),
];

/// Functions beyond clippy's `too-many-lines-threshold` in each file: never more than this.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];

#[test]
fn long_files_only_shrink() {
    let mut complaints = Vec::new();
    for file in files().iter().filter(|file| is_rust(file)) {
        let lines = read(file).lines().count();
        match LONG_FILES.iter().find(|(name, ..)| name == file) {
            None if lines > FILE_LINES_MAX => {
                complaints.push(format!("{file} has {lines} lines: split it by idea"));
            }
            Some((_, max, _)) if lines > *max => {
                complaints.push(format!("{file} grew from {max} to {lines} lines"));
            }
            Some((_, max, _)) if lines + 50 < *max || lines <= FILE_LINES_MAX => {
                complaints.push(format!("{file} shrank to {lines} lines: lower its number {max}"));
            }
            _ => {}
        }
    }
    let gone = LONG_FILES.iter().filter(|(name, ..)| !files().iter().any(|file| file == name));
    complaints.extend(gone.map(|(name, ..)| format!("{name} is gone: take it off the list")));
    none(&complaints, "keep files to one idea");
}

#[test]
fn long_functions_only_shrink() {
    assert!(read("clippy.toml").contains("too-many-lines-threshold = 70"));
    let mut complaints = Vec::new();
    // The lint's name, written so that this file does not name it.
    let lint = concat!("clippy::too", "_many_lines");
    for file in files().iter().filter(|file| is_rust(file)) {
        let long = read(file).matches(lint).count();
        let allowed = LONG_FUNCTIONS.iter().find(|(name, _)| name == file).map_or(0, |(_, n)| *n);
        if long > allowed {
            complaints.push(format!("{file}: {long} long functions, {allowed} allowed"));
        }
        if long < allowed {
            complaints.push(format!("{file}: {long} long functions, lower its number {allowed}"));
        }
    }
    none(&complaints, "split the function, or argue for it in LONG_FUNCTIONS");
}

#[test]
fn median_of_the_product_files_stays_small() {
    let mut lengths: Vec<_> =
        product_sources().iter().map(|file| read(file).lines().count()).collect();
    lengths.sort_unstable();
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or_default();
    assert!(median <= 200, "half of the product's files are longer than {median} lines");
}

#[test]
fn nothing_unfinished_and_no_foreign_path_is_in_the_tree() {
    // Written in halves, so that this file passes its own check.
    let words = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("dbg", "!("),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
        concat!("/wo", "rk/"),
    ];
    let mut complaints = Vec::new();
    for file in files().iter().filter(|file| !has_extension(file, "lock")) {
        let Ok(text) = std::fs::read_to_string(crate::tree::root().join(file)) else { continue };
        for (index, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{file}:{}: {word}", index + 1));
            }
        }
    }
    none(&complaints, "finish it, or keep it out of the tree");
}

#[test]
fn exceptions_from_lints_say_why_and_where() {
    let mut complaints = Vec::new();
    for file in files().iter().filter(|file| is_rust(file)) {
        for (index, line) in read(file).lines().enumerate() {
            let line = line.trim_start();
            if line.starts_with(concat!("#![", "allow("))
                || line.starts_with(concat!("#[", "allow("))
            {
                complaints.push(format!("{file}:{}", index + 1));
            }
        }
    }
    none(&complaints, "use #[expect(…, reason = …)] on the smallest item");
}
