//! A cluster that `nacre up` runs, as people and scripts have it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary;

/// A cluster's folder; what runs in it is stopped at the end.
#[derive(Debug)]
pub struct Dir {
    temporary: tempfile::TempDir,
}

impl Default for Dir {
    fn default() -> Self {
        Self { temporary: tempfile::tempdir().expect("a temporary folder") }
    }
}

impl Dir {
    /// A fresh one.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a space, which every path of a cluster must bear.
    pub fn path(&self) -> PathBuf {
        self.temporary.path().join("a cluster")
    }

    /// Where it is mounted.
    pub fn mount(&self) -> PathBuf {
        self.path().join("mnt")
    }

    /// Runs a command of nacre on it.
    pub fn nacre(&self, command: &str, args: &[&str]) -> Output {
        let mut nacre = Command::new(binary::nacre());
        nacre.arg(command).arg("--dir").arg(self.path()).args(args);
        nacre.output().expect("nacre runs")
    }

    /// Brings it up in the background. Returns what was printed.
    pub fn up(&self, args: &[&str]) -> String {
        let output = self.nacre("up", &[&["--detach"], args].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nacre up {args:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Nothing goes to the linked bucket, or comes from there, but what is asked for.
    pub fn only_by_hand(&self) {
        let mut nacre = Command::new(binary::nacre());
        nacre.args(["link", "update", "--import", "none", "--export", "none"]).arg(self.mount());
        text(&nacre.output().expect("nacre runs"));
    }

    /// Kills a daemon.
    pub fn kill(&self, name: &str) {
        let daemon = self.daemon(name);
        let pid = daemon.get("pid").and_then(Value::as_i64).and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, Signal::KILL).expect("it can be killed");
    }

    /// Stops it.
    pub fn down(&self) {
        assert!(self.nacre("down", &[]).status.success());
    }

    /// What `status --json` prints.
    pub fn status(&self) -> Value {
        let output = self.nacre("status", &["--json"]);
        serde_json::from_slice(&output.stdout).expect("status --json prints JSON")
    }

    /// One daemon of that.
    pub fn daemon(&self, name: &str) -> Value {
        let status = self.status();
        let daemons =
            status.get("daemons").and_then(|list| list.as_array()).expect("a list").clone();
        daemons.into_iter().find(|daemon| daemon["name"] == name).expect("such a daemon")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if self.path().exists() {
            self.nacre("down", &[]);
        }
    }
}

/// Runs lfs with a path at the end.
pub fn lfs(args: &[&str], path: &Path) -> Output {
    Command::new(binary::nacre()).arg("lfs").args(args).arg(path).output().expect("nacre runs")
}

/// What a program that must succeed has printed.
pub fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
