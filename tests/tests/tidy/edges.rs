//! Which crate may use which, and which outside crate may be named where.

use std::collections::BTreeSet;

use crate::tree::{code, is_test, none, product_sources, read};

/// The crates of the workspace and those of the workspace that each may use.
const EDGES: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("proto", &["model"]),
    ("node", &["model", "proto"]),
    ("mgs", &["model", "proto", "node"]),
    ("mds", &["model", "proto", "node"]),
    ("oss", &["model", "proto", "node"]),
    ("client", &["model", "proto", "node"]),
    ("copytool", &["model", "proto", "node", "client"]),
    ("cli", &["model", "proto", "node", "mgs", "mds", "oss", "client", "copytool"]),
    ("tests", &["model", "proto", "node", "mgs", "mds", "oss", "client", "copytool"]),
];

/// Outside crates that only some crates of the product may use.
const FENCED: &[(&str, &[&str])] = &[
    ("sled", &["mgs", "mds"]),
    ("redb", &["mds"]),
    ("openraft", &["mgs", "mds"]),
    ("fuser", &["client"]),
    ("aws-sdk-s3", &["copytool"]),
    ("aws-smithy-http-client", &["copytool"]),
    ("s3s", &["copytool"]),
    ("axum", &["mgs", "node"]),
    ("turmoil", &[]),
    ("mad-turmoil", &[]),
];

/// What only the vocabulary may not use: it has no clock, no files, no network.
const MODEL_MAY_USE: &[&str] = &["thiserror", "bitflags", "crc32c", "proptest", "criterion"];

/// Words that may stand only in sources below these prefixes.
const NAMED_IN: &[(&str, &[&str])] = &[
    ("sled::", &["mds/src/store", "mgs/src/store"]),
    ("fuser::", &["client/src/fuse"]),
    ("aws_sdk_s3::", &["copytool/src/bucket"]),
    ("s3s::", &["copytool/src/embedded"]),
    ("openraft::", &["mds/src/consensus", "mgs/src/consensus"]),
    ("SystemTime::now", &["node/src/clock.rs"]),
    ("tokio::spawn", &["node/src/tasks", "cli/src"]),
];

/// Parts that are told everything: no time, no tasks, no files, no sockets, and no iteration in an
/// order that differs from run to run.
const PURE: &[&str] = &["model/src", "mds/src/namespace", "mds/src/locks", "mds/src/leases"];
const IMPURE: &[&str] =
    &["tokio", "std::fs", "std::net", "Instant::", "SystemTime", "HashMap", "HashSet", "rand::"];

fn manifest(name: &str) -> toml::Table {
    read(&format!("{name}/Cargo.toml")).parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// (name, entry) of every dependency of a crate, of all three kinds.
fn dependencies(name: &str) -> Vec<(String, toml::Value)> {
    let manifest = manifest(name);
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = kinds.iter().filter_map(|kind| manifest.get(*kind)).filter_map(|t| t.as_table());
    tables.flat_map(|table| table.iter().map(|(k, v)| (k.clone(), v.clone()))).collect()
}

fn members() -> Vec<String> {
    let root: toml::Table = read("Cargo.toml").parse().expect("the root manifest is TOML");
    let workspace = root.get("workspace").expect("the root manifest is a workspace");
    let members = workspace.get("members").and_then(toml::Value::as_array);
    let members = members.expect("members is a list");
    members.iter().map(|m| m.as_str().expect("members are names").to_owned()).collect()
}

#[test]
fn cargo_run_runs_the_one_binary_that_users_have() {
    let root: toml::Table = read("Cargo.toml").parse().expect("the root manifest is TOML");
    let defaults = root.get("workspace").and_then(|workspace| workspace.get("default-members"));
    assert_eq!(defaults, Some(&toml::Value::from(vec!["cli"])));
}

#[test]
fn every_crate_has_its_edges_written_down() {
    let known: BTreeSet<_> = EDGES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members().into_iter().collect::<BTreeSet<_>>(), known);
}

#[test]
fn crates_use_only_the_crates_below_them() {
    let mut complaints = Vec::new();
    for (name, allowed) in EDGES {
        for (dependency, _) in dependencies(name) {
            if let Some(other) = dependency.strip_prefix("nacre-")
                && !allowed.contains(&other)
            {
                complaints.push(format!("{name} uses {other}"));
            }
        }
    }
    none(&complaints, "servers meet in proto, and nothing depends upward");
}

#[test]
fn fenced_crates_are_used_only_where_they_belong() {
    let mut complaints = Vec::new();
    for (name, _) in EDGES.iter().filter(|(name, _)| *name != "tests") {
        for (dependency, _) in dependencies(name) {
            let fence = FENCED.iter().find(|(fenced, _)| *fenced == dependency);
            if fence.is_some_and(|(_, allowed)| !allowed.contains(name)) {
                complaints.push(format!("{name} uses {dependency}"));
            }
            let outside = !dependency.starts_with("nacre-");
            if *name == "model" && outside && !MODEL_MAY_USE.contains(&dependency.as_str()) {
                complaints.push(format!("model uses {dependency}"));
            }
        }
    }
    none(&complaints, "move the use to the crate it belongs to");
}

#[test]
fn fenced_words_stand_only_in_their_modules() {
    let mut complaints = Vec::new();
    for file in product_sources().into_iter().filter(|file| !is_test(file)) {
        let code = code(&read(&file));
        for (word, places) in NAMED_IN {
            if code.contains(word) && !places.iter().any(|place| file.starts_with(place)) {
                complaints.push(format!("{file} names {word} (belongs in {})", places.join(", ")));
            }
        }
    }
    none(&complaints, "go through the module that owns it");
}

#[test]
fn pure_parts_are_told_everything() {
    let mut complaints = Vec::new();
    let pure = |file: &String| PURE.iter().any(|part| file.starts_with(part)) && !is_test(file);
    for file in product_sources().into_iter().filter(pure) {
        let code = code(&read(&file));
        for word in IMPURE.iter().filter(|word| code.contains(**word)) {
            complaints.push(format!("{file} names {word}"));
        }
    }
    none(&complaints, "let the caller do it, and pass in what came of it");
}

#[test]
fn versions_stand_only_in_the_workspace_table() {
    let mut complaints = Vec::new();
    for name in members() {
        for (dependency, entry) in dependencies(&name) {
            let shared = entry.get("workspace").and_then(toml::Value::as_bool) == Some(true);
            if !shared {
                complaints.push(format!("{name}: {dependency}"));
            }
        }
    }
    none(&complaints, "say `NAME.workspace = true`, and the version in the root manifest");
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for name in members() {
        assert_eq!(manifest(&name)["lints"]["workspace"].as_bool(), Some(true), "{name}");
    }
}
