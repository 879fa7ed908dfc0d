//! Which `nacre` is tested.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary that `NACRE_BIN` names; without it, the one of this tree, built now.
///
/// `cargo test --workspace` builds it too, for its own crate's tests; but whoever runs only the tests
/// here would test what happens to lie there.
pub fn nacre() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("NACRE_BIN") {
        Some(path) => std::path::absolute(path).expect("the path is not empty"),
        None => build(),
    })
}

fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "nacre", "--bin", "nacre"])
        .current_dir(root)
        .output()
        .expect("cargo runs, since it runs this test");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo build -p nacre: {complaints}");
    // This test lies in <target>/<profile>/deps.
    let test = std::env::current_exe().expect("this test is a file");
    let profile = test.parent().and_then(Path::parent).expect("tests lie two folders deep");
    // A test of another profile is beside the debug binary all the same.
    let target = profile.parent().expect("the profile's folder lies in the target folder");
    target.join("debug/nacre")
}
