//! Packing a directory's entries into the kernel's buffer.

use nacre_model::{Fid, FileKind};

use super::abi::output::EntryOut;
use super::answer::{Body, Listing};
use super::dirents::{Packer, Record};
use super::encode;
use super::fs::Filesystem;
use super::judge::{Judged, Told};
use super::lease::{Leases, Validity};
use super::session::Session;
use crate::types::DirEntry;

/// Behind `..`.
const OFFSET_ENTRIES: u64 = 2;

/// The server's cookie for a place in the kernel's listing.
pub(super) const fn cookie(at: u64) -> u64 {
    if at <= OFFSET_ENTRIES { 0 } else { at }
}

/// Whether there is room for more.
fn pack_dots(packer: &mut Packer, listing: &Listing) -> bool {
    let above = listing.window.parent();
    let dots = [(&b"."[..], listing.dir, 1), (&b".."[..], above, OFFSET_ENTRIES)];
    let entry = listing.plus.then(encode::no_entry);
    let kind = encode::dirent_kind(FileKind::Directory);
    dots.into_iter()
        .filter(|(_, _, next)| *next > listing.at)
        .all(|(name, fid, next)| packer.push(&Record { name, ino: fid.ino(), kind, next, entry }))
}

impl<F: Filesystem> Session<F> {
    /// Packs what fits, and puts the window back.
    pub(super) fn list(&self, listing: Listing, leases: &dyn Leases) -> Judged {
        let mut packer = Packer::new(listing.bytes_max);
        let mut fids = Vec::new();
        if pack_dots(&mut packer, &listing) {
            self.pack_entries(&mut packer, &listing, leases, &mut fids);
        }
        let Listing { window, stream, .. } = listing;
        if let Some(stream) = stream {
            stream.put(window);
        }
        let number = self.number(&mut packer, &mut fids);
        let body = Ok(Body::packed(packer.into_bytes()));
        Judged { body, told: Told::Listing(fids, number) }
    }

    /// Collects the inodes that the kernel learns.
    fn pack_entries(
        &self,
        packer: &mut Packer,
        listing: &Listing,
        leases: &dyn Leases,
        fids: &mut Vec<Fid>,
    ) {
        let names = listing.plus && self.keeps_names(listing.dir, leases);
        for listed in listing.window.behind(cookie(listing.at)) {
            let full = if names { self.plus_entry(listed, leases) } else { None };
            let record = Record {
                name: listed.name.as_bytes(),
                ino: listed.fid.ino(),
                kind: encode::dirent_kind(listed.kind),
                next: listed.cookie,
                entry: listing.plus.then(|| full.unwrap_or_else(encode::no_entry)),
            };
            if !packer.push(&record) {
                return;
            }
            if full.is_some() {
                fids.push(listed.fid);
                packer.last_is_full();
            }
        }
    }

    /// With attributes only when the kernel may keep them, and when their size is certain: taking
    /// a lower bound for the size would make the kernel cut what it has cached of the file.
    fn plus_entry(&self, listed: &DirEntry, leases: &dyn Leases) -> Option<EntryOut> {
        let attr = listed.attr.as_ref()?;
        let keeps = !attr.size_lazy && self.keeps_attr(attr, leases);
        keeps.then(|| encode::entry_out(self.nodes, attr, Validity::of(true, true)))
    }

    /// Gives the listing a number, in the place of the last entry's inode, if the kernel learns
    /// any name by it.
    fn number(&self, packer: &mut Packer, fids: &mut Vec<Fid>) -> Option<u64> {
        if fids.is_empty() {
            return None;
        }
        if packer.is_last_full() {
            fids.pop();
        }
        if fids.is_empty() {
            packer.replace_last(&encode::no_entry());
            return None;
        }
        let number = self.kept.linking.begin();
        packer.replace_last(&encode::listing_entry(number));
        Some(number)
    }
}
