//! What the kernel may keep of an answer: judged at the moment when it is sent.
//!
//! | Answer | Names for ever | Attributes for ever | Pages |
//! |---|---|---|---|
//! | LOOKUP, READDIRPLUS | directory's lease | inode's lease | |
//! | LOOKUP of what is not there | directory's lease | | |
//! | CREATE, MKNOD, LINK … | directory's lease | never | |
//! | GETATTR, STATX | | inode's lease | |
//! | SETATTR | | never | |
//! | OPEN, CREATE, OPENDIR | | | kept under a lease, else not used |
//! | READ, WRITE | | | dropped again without a lease |
//!
//! "Never": the kernel takes these attributes without checking whether it was told to forget them
//! after it asked. It asks again when it needs them.

use std::time::Instant;

use nacre_model::{Attr, Errno, Fid};

use super::abi::flags::{Fopen, Init};
use super::abi::output::{EntryOut, OpenOut};
use super::answer::{Answer, Body, Found, Handle};
use super::encode;
use super::fs::Filesystem;
use super::lease::{Grants, Leases, NoLeases, Stamp, Validity};
use super::reply::Reply;
use super::session::Session;

/// An answer with all that was judged.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) body: Result<Body, Errno>,
    pub(super) told: Told,
}

/// What the kernel learns from an answer; void when the answer does not reach it.
#[derive(Debug)]
pub(super) enum Told {
    Nothing,
    /// An inode, and how long it is.
    Inode(Fid, u64),
    /// How long an inode is.
    Size(Fid, u64),
    /// That it reaches so far.
    Reaches(Fid, u64),
    /// Where it ends.
    Ends(Fid, u64),
    /// Of a listing, and the number that it bears.
    Listing(Vec<Fid>, Option<u64>),
}

/// A request at the moment when it was begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    stamp: Stamp,
    known: u64,
}

impl Judged {
    const fn of(body: Body) -> Self {
        Self { body: Ok(body), told: Told::Nothing }
    }

    fn inode(attr: &Attr, body: Body) -> Self {
        Self { body: Ok(body), told: Told::Inode(attr.fid, attr.size) }
    }

    fn attr(attr: &Attr, body: Body) -> Self {
        Self { body: Ok(body), told: Told::Size(attr.fid, attr.size) }
    }
}

impl<F: Filesystem> Session<F> {
    /// To be called before a request is carried out.
    pub(super) fn begin(&self) -> Begun {
        Begun { stamp: self.fs.stamp(), known: self.kept.known.now() }
    }

    /// Answers, and grants what may be granted at this moment to what was begun at `begun`.
    pub(super) fn finish(&self, reply: Reply, begun: Begun, answer: Result<Answer, Errno>) {
        let answer = match answer {
            Ok(Answer::Plain(body)) => {
                reply.send(Ok(body));
                return;
            }
            Ok(answer) => answer,
            Err(errno) => {
                reply.send(Err(errno));
                return;
            }
        };
        if self.grants == Grants::Nothing {
            reply.send(self.judge(answer, &NoLeases).body);
            return;
        }
        let lost = self.fs.pinned(begun.stamp, |leases| {
            let Judged { body, told } = self.judge(answer, leases);
            self.learn(&told, begun.known);
            (!reply.send(body)).then_some(told)
        });
        if let Some(told) = lost {
            self.unlearn(told);
        }
    }

    fn learn(&self, told: &Told, asked: u64) {
        let known = &self.kept.known;
        match told {
            Told::Nothing => {}
            Told::Inode(fid, size) => {
                known.learn(*fid);
                known.told(*fid, asked, *size);
            }
            Told::Size(fid, size) => known.told(*fid, asked, *size),
            Told::Reaches(fid, end) => known.grown(*fid, *end),
            Told::Ends(fid, end) => known.ended(*fid, *end),
            Told::Listing(fids, _) => {
                for fid in fids {
                    known.learn(*fid);
                    known.overtaken(*fid);
                }
            }
        }
    }

    /// The kernel did not take it: whoever asked is gone.
    fn unlearn(&self, told: Told) {
        match told {
            Told::Nothing => {}
            Told::Inode(fid, _) => {
                self.kept.known.overtaken(fid);
                self.forget(fid, 1);
            }
            Told::Size(fid, _) | Told::Reaches(fid, _) | Told::Ends(fid, _) => {
                self.kept.known.overtaken(fid);
            }
            Told::Listing(fids, number) => {
                for fid in fids {
                    self.forget(fid, 1);
                }
                if let Some(number) = number {
                    self.linked(number);
                }
            }
        }
    }

    fn judge(&self, answer: Answer, leases: &dyn Leases) -> Judged {
        match answer {
            Answer::Plain(body) => Judged::of(body),
            Answer::Entry { dir, attr, how } => {
                Judged::inode(&attr, Body::of(&self.entry(dir, &attr, how, leases)))
            }
            Answer::Absent { dir } if self.keeps_names(dir, leases) => {
                Judged::of(Body::of(&encode::absent(Validity::of(true, false))))
            }
            Answer::Absent { .. } => Judged { body: Err(Errno::ENOENT), told: Told::Nothing },
            Answer::Attr(attr) => {
                let validity = Validity::of(false, self.keeps_attr(&attr, leases));
                Judged::attr(&attr, Body::of(&encode::attr_out(&attr, validity)))
            }
            Answer::Statx(attr) => {
                let validity = Validity::of(false, self.keeps_attr(&attr, leases));
                Judged::attr(&attr, Body::of(&encode::statx_out(&attr, validity)))
            }
            Answer::Set(attr) => {
                Judged::attr(&attr, Body::of(&encode::attr_out(&attr, Validity::NONE)))
            }
            Answer::Opened { fid, file } => Judged::of(Body::of(&self.opened(fid, file, leases))),
            Answer::Created { dir, attr, file } => {
                let entry = self.entry(dir, &attr, Found::Made, leases);
                let opened = self.opened(attr.fid, file, leases);
                Judged::inode(&attr, Body::both(&entry, &opened))
            }
            Answer::OpenedDir { dir, fh } => {
                let keep = self.grants != Grants::Nothing && leases.names(dir);
                let flags =
                    if keep { Fopen::CACHE_DIR | Fopen::KEEP_CACHE } else { Fopen::empty() };
                Judged::of(Body::of(&OpenOut { fh, open_flags: flags.bits(), padding: 0 }))
            }
            Answer::Pages { fid, data, end } => {
                self.mark_unleased(fid, leases);
                let told = end.map_or(Told::Nothing, |end| Told::Ends(fid, end));
                Judged { body: Ok(Body::data(data)), told }
            }
            Answer::Written { fid, end, body } => {
                self.mark_unleased(fid, leases);
                Judged { body: Ok(body), told: Told::Reaches(fid, end) }
            }
            Answer::Acl { fid, acl } => {
                self.mark_unleased(fid, leases);
                Judged { body: acl, told: Told::Nothing }
            }
            Answer::Listing(listing) => self.list(listing, leases),
        }
    }

    pub(super) fn keeps_names(&self, dir: Fid, leases: &dyn Leases) -> bool {
        self.grants == Grants::All && leases.names(dir) && self.kept.names.grant(Instant::now())
    }

    /// Attributes that count as valid keep the kernel from asking before it uses pages.
    pub(super) fn keeps_attr(&self, attr: &Attr, leases: &dyn Leases) -> bool {
        self.grants != Grants::Nothing && leases.attr(attr) && !self.unleased.has(attr.fid)
    }

    fn entry(&self, dir: Fid, attr: &Attr, how: Found, leases: &dyn Leases) -> EntryOut {
        let attr_kept = how == Found::Looked && self.keeps_attr(attr, leases);
        let validity = Validity::of(self.keeps_names(dir, leases), attr_kept);
        encode::entry_out(self.nodes, attr, validity)
    }

    /// Without a lease past the page cache, if the file can be mapped nevertheless.
    fn opened(&self, fid: Fid, file: Handle, leases: &dyn Leases) -> OpenOut {
        let mut flags = Fopen::empty();
        if self.grants != Grants::Nothing {
            if !leases.data(fid) {
                if self.negotiated.flags.contains(Init::DIRECT_IO_ALLOW_MMAP) {
                    flags |= Fopen::DIRECT_IO;
                }
            } else if !self.unleased.has(fid) {
                flags |= Fopen::KEEP_CACHE;
            }
        }
        if file.direct {
            flags |= Fopen::DIRECT_IO | Fopen::PARALLEL_DIRECT_WRITES;
        }
        OpenOut { fh: file.fh, open_flags: flags.bits(), padding: 0 }
    }

    fn mark_unleased(&self, fid: Fid, leases: &dyn Leases) {
        if self.grants != Grants::Nothing && !leases.pages(fid) {
            self.unleased.mark(fid);
        }
    }
}
