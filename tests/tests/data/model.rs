//! Random operations on one file, beside a vector of bytes.

use std::sync::Arc;

use bytes::Bytes;
use nacre_client::{AllocateMode, Caller, Client, OpenFile, SeekFrom, SetAttr, WriteFlags};
use nacre_model::{Errno, ServiceError};
use nacre_tests::inside::Cluster;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{BOTH, layout, make, read};

/// Where the files of the test end.
const SIZE: u64 = 900 << 10;

#[derive(Debug, Clone)]
enum Op {
    Write(u64, u64, WriteFlags),
    Read(u64, u64),
    Truncate(u64),
    Allocate(AllocateMode, u64, u64),
    Seek(u64),
    Copy(u64, u64, u64),
    Flush,
    Fsync,
    Getattr,
    Reopen,
    /// Another client reads all of it, after a flush.
    Other,
}

/// Small offsets and lengths more often: there the file leaves its inode.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0..40_000_u64, 0..SIZE, (0..14_u64).prop_map(|n| n << 16)]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1..5_000_u64, 1..300_000_u64, Just(65_536), Just(4096)]
}

fn mode() -> impl Strategy<Value = AllocateMode> {
    prop_oneof![
        Just(AllocateMode::Reserve),
        Just(AllocateMode::ReserveKeepSize),
        Just(AllocateMode::PunchHole),
        Just(AllocateMode::ZeroRange),
        Just(AllocateMode::ZeroRangeKeepSize),
    ]
}

fn how() -> impl Strategy<Value = WriteFlags> {
    prop_oneof![
        6 => Just(WriteFlags::empty()),
        1 => Just(WriteFlags::APPEND),
        1 => Just(WriteFlags::SYNC),
        1 => Just(WriteFlags::DIRECT),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (offset(), length(), how()).prop_map(|(o, l, f)| Op::Write(o, l, f)),
        6 => (offset(), length()).prop_map(|(o, l)| Op::Read(o, l)),
        2 => prop_oneof![Just(0), offset()].prop_map(Op::Truncate),
        2 => (mode(), offset(), length()).prop_map(|(m, o, l)| Op::Allocate(m, o, l)),
        1 => offset().prop_map(Op::Seek),
        1 => (offset(), offset(), length()).prop_map(|(a, b, l)| Op::Copy(a, b, l)),
        1 => Just(Op::Flush),
        1 => Just(Op::Fsync),
        1 => Just(Op::Getattr),
        1 => Just(Op::Reopen),
        1 => Just(Op::Other),
    ]
}

/// The file, and what it should be.
struct Pair {
    client: Client,
    other: Client,
    file: Arc<OpenFile>,
    model: Vec<u8>,
    stamp: u8,
}

fn at(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl Pair {
    fn size(&self) -> u64 {
        self.model.len() as u64
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        let end = at(offset) + data.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[at(offset)..end].copy_from_slice(data);
    }

    fn expected(&self, offset: u64, len: u64) -> &[u8] {
        let end = (offset + len).min(self.size());
        if offset >= end { &[] } else { &self.model[at(offset)..at(end)] }
    }

    async fn apply(&mut self, op: &Op) {
        match *op {
            Op::Write(offset, len, flags) => {
                self.stamp = self.stamp.wrapping_add(1).max(1);
                let data = vec![self.stamp; at(len)];
                let offset = if flags.contains(WriteFlags::APPEND) { self.size() } else { offset };
                let written =
                    self.client.write(&self.file, offset, Bytes::from(data.clone()), flags);
                assert_eq!(written.await.unwrap(), offset);
                self.put(offset, &data);
            }
            Op::Read(offset, len) => {
                let got = read(&self.client, &self.file, offset, len).await;
                same(&got, self.expected(offset, len), offset);
            }
            Op::Truncate(size) => {
                let set = SetAttr { size: Some(size), ..SetAttr::default() };
                let fid = self.file.fid();
                let attr = self.client.setattr(Caller::default(), fid, set, Some(&self.file));
                assert_eq!(attr.await.unwrap().size, size);
                self.model.resize(at(size), 0);
            }
            Op::Allocate(mode, offset, len) => {
                self.client.fallocate(&self.file, mode, offset, len).await.unwrap();
                self.allocate(mode, offset, len);
            }
            Op::Seek(offset) => self.seek(offset).await,
            Op::Copy(from, to, len) => self.copy(from, to, len).await,
            Op::Flush => self.client.flush(&self.file).await.unwrap(),
            Op::Fsync => self.client.fsync(&self.file, false).await.unwrap(),
            Op::Getattr => {
                let attr = self.client.getattr(self.file.fid()).await.unwrap();
                assert_eq!(attr.size, self.size());
            }
            Op::Reopen => self.reopen().await,
            Op::Other => self.other_reads().await,
        }
    }

    fn allocate(&mut self, mode: AllocateMode, offset: u64, len: u64) {
        let end = offset + len;
        if matches!(mode, AllocateMode::Reserve | AllocateMode::ZeroRange) && end > self.size() {
            self.model.resize(at(end), 0);
        }
        if !matches!(mode, AllocateMode::Reserve | AllocateMode::ReserveKeepSize) {
            let end = end.min(self.size());
            if offset < end {
                self.model[at(offset)..at(end)].fill(0);
            }
        }
    }

    /// Where data begins is the file system's choice, but nothing before it may be anything but
    /// zeros, and a hole must be one.
    async fn seek(&self, offset: u64) {
        let data = self.client.lseek(&self.file, SeekFrom::Data(offset)).await;
        let hole = self.client.lseek(&self.file, SeekFrom::Hole(offset)).await;
        if offset >= self.size() {
            assert_eq!(data.unwrap_err().errno(), Errno::ENXIO);
            assert_eq!(hole.unwrap_err().errno(), Errno::ENXIO);
            return;
        }
        let zeros_to = data.unwrap_or_else(|error| {
            assert_eq!(error.errno(), Errno::ENXIO);
            self.size()
        });
        assert!((offset..=self.size()).contains(&zeros_to));
        assert!(self.expected(offset, zeros_to - offset).iter().all(|b| *b == 0));
        let hole = hole.unwrap();
        assert!((offset..=self.size()).contains(&hole));
        assert!(hole == self.size() || self.model[at(hole)] == 0);
    }

    async fn copy(&mut self, from: u64, to: u64, len: u64) {
        let copied = self.client.copy_file_range((&self.file, from), (&self.file, to), len).await;
        if from < to + len && to < from + len {
            assert_eq!(copied.unwrap_err().errno(), Errno::EINVAL);
            return;
        }
        let data = self.expected(from, len).to_vec();
        assert_eq!(copied.unwrap(), data.len() as u64);
        if !data.is_empty() {
            self.put(to, &data);
        }
    }

    async fn reopen(&mut self) {
        let fid = self.file.fid();
        self.client.flush(&self.file).await.unwrap();
        self.client.release(Arc::clone(&self.file)).await.unwrap();
        self.file = self.client.open(Caller::default(), fid, BOTH).await.unwrap();
    }

    async fn other_reads(&self) {
        self.client.flush(&self.file).await.unwrap();
        let fid = self.file.fid();
        let flags = nacre_client::OpenFlags::READ;
        let file = self.other.open(Caller::default(), fid, flags).await.unwrap();
        assert_eq!(self.other.getattr(fid).await.unwrap().size, self.size());
        let mut got = Vec::new();
        loop {
            let part = read(&self.other, &file, got.len() as u64, 130_000).await;
            if part.is_empty() {
                break;
            }
            got.extend(part);
        }
        same(&got, &self.model, 0);
        self.other.release(file).await.unwrap();
    }
}

fn same(got: &[u8], want: &[u8], offset: u64) {
    assert_eq!(got.len(), want.len(), "length at {offset}");
    if let Some(i) = got.iter().zip(want).position(|(a, b)| a != b) {
        panic!("byte {} is {} and should be {}", offset + i as u64, got[i], want[i]);
    }
}

#[test]
fn a_file_is_what_was_written_to_it() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cluster = runtime.block_on(Cluster::start(4)).unwrap();
    let client = runtime.block_on(cluster.client()).unwrap();
    let other = runtime.block_on(cluster.client()).unwrap();
    let cases = std::env::var("NACRE_CASES").map_or(40, |n| n.parse().unwrap());
    let mut runner = TestRunner::new(Config { cases, ..Config::default() });
    let number = std::cell::Cell::new(0);
    let ops = proptest::collection::vec(op(), 1..40);
    let outcome = runner.run(&ops, |ops| {
        number.set(number.get() + 1);
        runtime.block_on(async {
            let file = make(&client, &format!("f{}", number.get()), Some(layout())).await;
            let (client, other) = (client.clone(), other.clone());
            let mut pair = Pair { client, other, file, model: Vec::new(), stamp: 0 };
            for op in &ops {
                pair.apply(op).await;
            }
            pair.other_reads().await;
            pair.client.release(pair.file).await.unwrap();
        });
        Ok(())
    });
    runtime.block_on(cluster.stop());
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
