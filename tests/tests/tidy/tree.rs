//! The source tree as the checks see it.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The crates whose sources are the product.
pub(crate) const PRODUCT: &[&str] =
    &["model", "proto", "node", "mgs", "mds", "oss", "client", "copytool", "cli"];

/// The root of the tree.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_owned()
}

/// Reads a file of the tree.
pub(crate) fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// Every file that belongs to the tree, as git sees it (new ones too); without git, as a walk sees it.
pub(crate) fn files() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let mut files: Vec<String> = match listed {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
        }
        Ok(_) | Err(_) => walk(&root(), ""),
    };
    files.retain(|file| root().join(file).is_file());
    files.sort_unstable();
    assert!(files.iter().any(|file| file == "Cargo.toml"), "the tree has no Cargo.toml");
    files
}

fn walk(folder: &Path, prefix: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the tree is readable") {
        let entry = entry.expect("the tree is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "target" || name == ".git" {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            files.extend(walk(&entry.path(), &format!("{path}/")));
        } else {
            files.push(path);
        }
    }
    files
}

/// Rust sources below the product's `src` folders.
pub(crate) fn product_sources() -> Vec<String> {
    let inside = |file: &String| PRODUCT.iter().any(|c| file.starts_with(&format!("{c}/src/")));
    files().into_iter().filter(|file| is_rust(file) && inside(file)).collect()
}

/// Whether a file holds the tests of its neighbour.
pub(crate) fn is_test(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.ends_with("_tests.rs") || file.contains("/tests/")
}

/// Whether a file is Rust.
pub(crate) fn is_rust(file: &str) -> bool {
    has_extension(file, "rs")
}

/// Whether a file's name ends so.
pub(crate) fn has_extension(file: &str, extension: &str) -> bool {
    Path::new(file).extension().is_some_and(|actual| actual == extension)
}

/// The part of a source that is compiled into the product: what stands before its tests, without
/// comments.
pub(crate) fn code(source: &str) -> String {
    let product = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or(source);
    let lines = product.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Fails with all complaints at once.
#[track_caller]
pub(crate) fn none(complaints: &[String], what_to_do: &str) {
    assert!(complaints.is_empty(), "{what_to_do}:\n  {}", complaints.join("\n  "));
}
