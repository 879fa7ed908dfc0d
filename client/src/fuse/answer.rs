//! What a request is answered with when it succeeds.

use std::sync::Arc;

use bytes::Bytes;
use nacre_model::{Attr, Errno, Fid};
use zerocopy::{Immutable, IntoBytes};

use super::dirstream::{DirStream, Window};

/// The kernel's own bound on segments of one write.
const SEGMENTS_MAX: usize = 1024;

/// An answer. What the kernel may keep of it is judged when it is sent.
#[derive(Debug)]
pub(super) enum Answer {
    /// Nothing to keep.
    Plain(Body),
    /// An inode that a name of `dir` leads to.
    Entry {
        dir: Fid,
        attr: Attr,
        how: Found,
    },
    /// `dir` has no such name.
    Absent {
        dir: Fid,
    },
    Attr(Attr),
    Statx(Attr),
    /// What SETATTR has made of them.
    Set(Attr),
    /// A file that was there.
    Opened {
        fid: Fid,
        file: Handle,
    },
    /// A file that was made.
    Created {
        dir: Fid,
        attr: Attr,
        file: Handle,
    },
    OpenedDir {
        dir: Fid,
        fh: u64,
    },
    /// Content of a file; `end`: where the file ends, if it does so before what was asked for.
    Pages {
        fid: Fid,
        data: Vec<Bytes>,
        end: Option<u64>,
    },
    /// It was written up to `end`; the kernel has it in its pages.
    Written {
        fid: Fid,
        end: u64,
        body: Body,
    },
    /// An ACL, which the kernel keeps with the attributes.
    Acl {
        fid: Fid,
        acl: Result<Body, Errno>,
    },
    Listing(Listing),
}

/// How an inode was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// It was asked for.
    Looked,
    /// It was made or linked: the kernel does not check whether these attributes are overtaken.
    Made,
}

/// A file handle in the making.
#[derive(Debug, Clone, Copy)]
pub(super) struct Handle {
    pub(super) fh: u64,
    /// Past the page cache, because the application wants it.
    pub(super) direct: bool,
}

/// Entries of a directory, to be packed.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) dir: Fid,
    pub(super) window: Window,
    /// Where the window goes afterwards, if it is kept.
    pub(super) stream: Option<Arc<DirStream>>,
    /// Where the kernel's listing goes on.
    pub(super) at: u64,
    pub(super) bytes_max: u32,
    pub(super) plus: bool,
}

impl Answer {
    /// Nothing but success.
    pub(super) fn empty() -> Self {
        Self::Plain(Body::default())
    }

    /// One structure.
    pub(super) fn of<T: IntoBytes + Immutable>(value: &T) -> Self {
        Self::Plain(Body::of(value))
    }

    /// Data as it lies, in order.
    pub(super) fn data(data: Vec<Bytes>) -> Self {
        Self::Plain(Body::data(data))
    }

    /// As metrics see it.
    pub(super) const fn errno(answer: &Result<Self, Errno>) -> Option<Errno> {
        match answer {
            Ok(Self::Absent { .. }) => Some(Errno::ENOENT),
            Ok(Self::Acl { acl: Err(errno), .. }) | Err(errno) => Some(*errno),
            Ok(_) => None,
        }
    }
}

/// The bytes of an answer, behind its header.
#[derive(Debug, Default)]
pub(super) struct Body {
    /// Structures, one after the other.
    pub(super) head: Vec<u8>,
    /// Data behind them, sent from where it lies.
    pub(super) data: Vec<Bytes>,
}

impl Body {
    /// One structure.
    pub(super) fn of<T: IntoBytes + Immutable>(value: &T) -> Self {
        Self::packed(value.as_bytes().to_vec())
    }

    /// Two structures.
    pub(super) fn both<A, B>(first: &A, second: &B) -> Self
    where
        A: IntoBytes + Immutable,
        B: IntoBytes + Immutable,
    {
        Self::packed([first.as_bytes(), second.as_bytes()].concat())
    }

    /// Bytes that were put together already.
    pub(super) const fn packed(head: Vec<u8>) -> Self {
        Self { head, data: Vec::new() }
    }

    /// Data as it lies, in order.
    pub(super) fn data(mut data: Vec<Bytes>) -> Self {
        if data.len() >= SEGMENTS_MAX {
            data = vec![Bytes::from(data.concat())];
        }
        Self { head: Vec::new(), data }
    }
}
