//! Several mounts of one file system: after a call on one returned, every other sees it.

#![expect(clippy::unwrap_used, reason = "a helper that fails has found what the test looks for")]
#![expect(clippy::indexing_slicing, reason = "as above")]
#![expect(clippy::wildcard_enum_match_arm, reason = "of thirty operations most are not meant")]

mod daily;
mod map;
mod ops;
mod perform;
mod random;
mod silent;
mod together;

use std::path::PathBuf;

use nacre_tests::{Cluster, Role, Shape};

/// A cluster with so many mounts. `COHERENCE_LOG` says what its daemons log.
fn cluster(mounts: u16, settings: &[&str]) -> Cluster {
    let log = std::env::var("COHERENCE_LOG").map(|filter| format!("telemetry.log={filter}"));
    let settings = settings.iter().map(|setting| (*setting).to_owned()).chain(log).collect();
    Cluster::start(Shape { mounts, settings, ..Shape::default() })
}

/// The roots of its mounts.
fn roots(cluster: &Cluster) -> Vec<PathBuf> {
    let mounts = cluster.roles().into_iter().filter(|role| matches!(role, Role::Mount(_)));
    mounts.map(|role| cluster.mount_point(role)).collect()
}

/// A number that the environment may set.
fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}
