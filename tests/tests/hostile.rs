//! Anybody can connect to a port: what comes then is refused, and costs nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use nacre_tests::{Cluster, Role, Shape, wait};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What precedes the bytes: nothing, what HTTP/2 begins with, a request of it.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const ROUNDS: u64 = 150;
/// Memory that the allocator may keep of connections that are gone.
const GROWTH_BYTES_MAX: u64 = 48 << 20;

fn attack(address: &str, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    stream.set_read_timeout(Some(Duration::from_millis(30))).expect("not zero");
    stream.set_write_timeout(Some(Duration::from_millis(200))).expect("not zero");
    let mut bytes = Vec::new();
    if !seed.is_multiple_of(3) {
        bytes.extend_from_slice(PREFACE);
        bytes.extend_from_slice(SETTINGS);
    }
    match seed % 4 {
        // Frames that promise any length and kind.
        1 => {
            for _ in 0..40 {
                let (kind, flags, stream) =
                    (rng.random_range(0..10_u8), rng.random(), rng.random());
                let len: u16 = rng.random_range(0..2000);
                bytes.extend([0]);
                bytes.extend(len.to_be_bytes());
                bytes.extend([kind, flags]);
                bytes.extend(u32::to_be_bytes(stream));
                bytes.extend((0..len).map(|_| rng.random::<u8>()));
            }
        }
        // A frame larger than any may be, that never comes.
        2 => bytes.extend([0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        _ => bytes.extend((0..rng.random_range(1..65_536)).map(|_| rng.random::<u8>())),
    }
    // The server may close at any byte.
    let _ = stream.write_all(&bytes);
    let mut answer = [0; 4096];
    while stream.read(&mut answer).is_ok_and(|n| n > 0) {}
    let _ = stream.shutdown(Shutdown::Both);
}

fn resident_bytes(pid: u32) -> u64 {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("the server lives");
    let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    pages * 4096
}

fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the server lives").count()
}

#[test]
fn random_bytes_at_every_port_are_refused_and_cost_nothing() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.announce("WARN");
    for role in cluster.servers() {
        let address = cluster.address(role);
        let pid = cluster.pid(role).expect("it runs");
        for seed in 0..12 {
            attack(&address, seed);
        }
        let (memory, files) = (resident_bytes(pid), open_files(pid));
        for seed in 0..ROUNDS {
            attack(&address, seed);
        }
        let closed = wait::until(Duration::from_secs(20), || open_files(pid) <= files + 2);
        assert!(closed, "{role} keeps {} connections of strangers", open_files(pid) - files);
        let grown = resident_bytes(pid).saturating_sub(memory);
        assert!(grown < GROWTH_BYTES_MAX, "{role} grew by {grown} bytes");
        assert_eq!(cluster.pid(role), Some(pid));
    }
    let path = cluster.mnt().join("still");
    std::fs::write(&path, b"served").expect("write");
    assert_eq!(std::fs::read(&path).expect("read"), b"served");
    for role in [Role::Mgs, Role::Mds, Role::Oss(0)] {
        cluster.stop(role).expect("SIGTERM drains and exits with 0");
        cluster.start_daemon(role).expect("it comes back");
    }
    cluster.finish();
}
