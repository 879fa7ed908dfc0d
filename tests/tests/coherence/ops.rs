//! Random operations on a few names.

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Open files kept over steps.
pub(crate) const SLOTS: usize = 6;
const FOLDERS: [&str; 4] = ["", "d0/", "d1/", "d0/e/"];
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const XATTRS: [&str; 2] = ["user.one", "user.two"];

/// Bytes that differ for every seed and at every offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Data {
    pub(crate) seed: u64,
    pub(crate) len: usize,
}

impl Data {
    pub(crate) fn bytes(self) -> Vec<u8> {
        let step = (self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).to_le_bytes();
        let byte = |at: usize| (at / 251).to_le_bytes()[0] ^ step[at % 8] ^ at.to_le_bytes()[0];
        (0..self.len).map(byte).collect()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum How {
    Read,
    Both,
    Append,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Write { path: String, at: u64, data: Data },
    Replace { path: String, data: Data },
    Append { path: String, data: Data },
    Create { path: String },
    Truncate { path: String, len: u64 },
    Read { path: String },
    MapRead { path: String },
    Stat { path: String },
    StatAll { path: String },
    Chmod { path: String, mode: u32 },
    Rename { from: String, to: String },
    Unlink { path: String },
    Link { from: String, to: String },
    Mkdir { path: String },
    Rmdir { path: String },
    List { path: String },
    Setxattr { path: String, name: &'static str, value: String },
    Getxattr { path: String, name: &'static str },
    Removexattr { path: String, name: &'static str },
    Symlink { path: String, target: String },
    Readlink { path: String },
    Open { slot: usize, path: String, how: How },
    Close { slot: usize },
    HandleWrite { slot: usize, at: u64, data: Data },
    HandleRead { slot: usize },
    HandleMap { slot: usize },
    HandleStat { slot: usize },
    HandleTruncate { slot: usize, len: u64 },
    HandleSync { slot: usize },
}

/// Where a file ends, or a write begins: inside the inode, around its limit, or in objects.
fn length(rng: &mut StdRng) -> usize {
    match rng.random_range(0..20) {
        0 => 0,
        1..=9 => rng.random_range(1..6000),
        10..=15 => rng.random_range(10_000..70_000),
        16..=18 => rng.random_range(70_000..600_000),
        _ => rng.random_range(1_100_000..2_500_000),
    }
}

fn path(rng: &mut StdRng) -> String {
    let folder = FOLDERS[rng.random_range(0..FOLDERS.len())];
    format!("{folder}{}", NAMES[rng.random_range(0..NAMES.len())])
}

/// A folder, or where one would be.
fn folder(rng: &mut StdRng) -> String {
    ["d0", "d1", "d0/e", "d1/a"].choose(rng).map_or_else(String::new, |name| (*name).to_owned())
}

/// Of all operations, drawn by weight.
pub(crate) fn draw(rng: &mut StdRng) -> Op {
    let data = Data { seed: rng.random(), len: length(rng) };
    match rng.random_range(0..100) {
        0..=4 => Op::Write { path: path(rng), at: length(rng) as u64, data },
        5..=10 => Op::Replace { path: path(rng), data },
        11..=15 => Op::Append { path: path(rng), data },
        16..=17 => Op::Create { path: path(rng) },
        18..=20 => Op::Truncate { path: path(rng), len: length(rng) as u64 },
        21..=30 => Op::Read { path: path(rng) },
        31..=34 => Op::MapRead { path: path(rng) },
        35..=40 => Op::Stat { path: path(rng) },
        41..=44 => Op::StatAll { path: path(rng) },
        45..=64 => draw_name(rng),
        65..=69 => draw_xattr(rng),
        70..=75 => {
            let how = *[How::Read, How::Both, How::Both, How::Append].choose(rng).expect("some");
            Op::Open { slot: rng.random_range(0..SLOTS), path: path(rng), how }
        }
        _ => draw_handle(rng, data),
    }
}

fn draw_name(rng: &mut StdRng) -> Op {
    match rng.random_range(0..20) {
        0..=3 => Op::Rename { from: path(rng), to: path(rng) },
        4 => Op::Rename { from: folder(rng), to: folder(rng) },
        5..=6 => Op::Unlink { path: path(rng) },
        7..=8 => Op::Link { from: path(rng), to: path(rng) },
        9..=11 => Op::Mkdir { path: folder(rng) },
        12 => Op::Rmdir { path: folder(rng) },
        13..=14 => Op::List { path: String::new() },
        15..=16 => Op::List { path: folder(rng) },
        17 => Op::Symlink { path: path(rng), target: path(rng) },
        18 => Op::Readlink { path: path(rng) },
        _ => {
            let mode = [0o600, 0o644, 0o755, 0o711][rng.random_range(0..4)];
            Op::Chmod { path: path(rng), mode }
        }
    }
}

fn draw_xattr(rng: &mut StdRng) -> Op {
    let (path, name) = (path(rng), XATTRS[rng.random_range(0..XATTRS.len())]);
    match rng.random_range(0..5) {
        0 | 1 => Op::Setxattr { path, name, value: rng.random::<u32>().to_string() },
        2 | 3 => Op::Getxattr { path, name },
        _ => Op::Removexattr { path, name },
    }
}

fn draw_handle(rng: &mut StdRng, data: Data) -> Op {
    let slot = rng.random_range(0..SLOTS);
    match rng.random_range(0..24) {
        0..=6 => Op::HandleWrite { slot, at: length(rng) as u64, data },
        7..=12 => Op::HandleRead { slot },
        13..=15 => Op::HandleMap { slot },
        16..=18 => Op::HandleStat { slot },
        19 => Op::HandleTruncate { slot, len: length(rng) as u64 },
        20 => Op::HandleSync { slot },
        _ => Op::Close { slot },
    }
}
