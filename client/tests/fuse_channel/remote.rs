//! What another machine does, and what this one is told of it.

use nacre_client::fuse::Filesystem;
use std::time::UNIX_EPOCH;

use nacre_client::{Caller, RenameFlags, SetAttr, SetTime, WriteFlags};
use nacre_model::{Fid, Name, Timestamp};

use crate::harness::Mounted;

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

/// What another machine does. It has its revocation first.
impl Mounted {
    /// Takes the leases of `fids` back, and all that the kernel kept under them.
    pub(crate) fn revoke(&self, fids: &[Fid]) {
        for fid in fids {
            self.fs.leases.lose(*fid);
        }
        self.tell_kernel(fids);
    }

    fn tell_kernel(&self, fids: &[Fid]) {
        let kernel = self.fs.leases.kernel();
        self.runtime.block_on(async {
            for fid in fids {
                kernel.inval_inode(*fid).await;
            }
            kernel.inval_names().await;
        });
    }

    pub(crate) fn chmod(&self, fid: Fid, perm: u32) {
        let set = SetAttr { perm: Some(perm), ..SetAttr::default() };
        let change = self.fs.setattr(Caller::default(), fid, set, None);
        self.runtime.block_on(change).unwrap();
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let (from, to) = (name(from), name(to));
        let (from, to) = ((Fid::ROOT, &from), (Fid::ROOT, &to));
        let change = self.fs.rename(Caller::default(), from, to, RenameFlags::empty());
        self.runtime.block_on(change).unwrap();
    }

    /// As many bytes as there were, and without a new time.
    pub(crate) fn overwrite(&self, fid: Fid, text: &'static [u8]) {
        let write = self.fs.write(&fid, 0, text.into(), WriteFlags::empty());
        self.runtime.block_on(write).unwrap();
        let now = UNIX_EPOCH.elapsed().unwrap();
        let now = Timestamp::new(now.as_secs().cast_signed(), now.subsec_nanos()).unwrap();
        let now = SetAttr { mtime: Some(SetTime::At(now)), ..SetAttr::default() };
        let set = self.fs.setattr(Caller::default(), fid, now, None);
        self.runtime.block_on(set).unwrap();
    }

    /// Does `work` and waits until its request to `op` is made up; then revokes `fids`, changes
    /// what it likes, and only then lets the answer go out. The kernel is told before, or not at
    /// all: then the answer alone must see to it that nothing is kept.
    pub(crate) fn overtake(
        &self,
        (op, tell): (&'static str, bool),
        work: impl FnOnce() + Send,
        fids: &[Fid],
        change: impl FnOnce(),
    ) {
        std::thread::scope(|scope| {
            let mut held = self.fs.leases.hold_back(op);
            let work = scope.spawn(work);
            held.wait();
            for fid in fids {
                self.fs.leases.lose(*fid);
            }
            // Pages of the very READ are locked until it is answered.
            let telling = tell.then(|| scope.spawn(|| self.tell_kernel(fids)));
            if op != "read"
                && let Some(telling) = telling
            {
                telling.join().unwrap();
            }
            change();
            for fid in fids {
                self.fs.leases.gain(*fid);
            }
            held.release();
            work.join().unwrap();
        });
    }
}
