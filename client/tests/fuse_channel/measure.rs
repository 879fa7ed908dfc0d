//! How fast requests pass through. Run by hand: `cargo test -p nacre-client --release --test
//! fuse_channel -- --ignored --nocapture`.

use std::fs;
use std::time::Instant;

use nacre_client::fuse::Grants;

use crate::harness::Mounted;

/// Few, because the file system in memory looks through all of them for a name.
const FILES: usize = 50;
const ROUNDS: usize = 200;

/// Without leases each is three requests: GETATTR of the directory, LOOKUP and STATX.
#[test]
#[ignore = "a measurement"]
fn stats_per_second_of_distinct_files() {
    for grants in [Grants::Nothing, Grants::All] {
        let Some(mount) = Mounted::with(grants, |_| {}) else { return };
        let paths: Vec<_> =
            (0..FILES).map(|number| mount.path(&format!("file-{number}"))).collect();
        for path in &paths {
            fs::write(path, b"").unwrap();
        }
        for threads in [1, 2, 4] {
            let begin = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for path in std::iter::repeat_n(&paths, ROUNDS).flatten() {
                            fs::symlink_metadata(path).unwrap();
                        }
                    });
                }
            });
            let stats = f64::from(u32::try_from(threads * FILES * ROUNDS).unwrap());
            let rate = stats / begin.elapsed().as_secs_f64();
            eprintln!("{grants:?}, {threads} threads: {rate:.0} stats/s");
        }
    }
}
