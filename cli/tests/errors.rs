//! What the commands say when they cannot do what is asked.

use std::process::Command;

/// Runs it without any S3 environment. Returns what it says; it must fail.
fn complaint(args: &[&str]) -> String {
    let mut nacre = Command::new(env!("CARGO_BIN_EXE_nacre"));
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"] {
        nacre.env_remove(name);
    }
    let output = nacre.args(args).output().expect("it runs");
    assert!(!output.status.success(), "{args:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_link_says_what_is_wrong_with_its_words() {
    let said = complaint(&["link", "s3://data", "/", "--import", "new,moved"]);
    assert!(said.contains("\"moved\" is none of new, changed, deleted"), "{said}");
    let said = complaint(&["link", "https://data", "/"]);
    assert!(said.contains("s3://bucket/prefix/"), "{said}");
    let said = complaint(&["link", "s3://data"]);
    assert!(said.contains("<FOLDER>"), "{said}");
}

#[test]
fn a_path_on_no_mount_is_named() {
    for command in ["links", "unlink"] {
        let said = complaint(&[command, "/"]);
        assert!(said.contains("/ is not on a Nacre file system"), "{said}");
    }
    let said = complaint(&["link", "update", "/", "--export", "none"]);
    assert!(said.contains("/ is not on a Nacre file system"), "{said}");
}
