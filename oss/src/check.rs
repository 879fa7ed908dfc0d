//! The offline check of an OST's folder. Changes nothing; nobody may serve the folder meanwhile.

use std::collections::BTreeSet;
use std::path::Path;

use nacre_model::ObjectId;
use nacre_model::checksum::{BLOCK_BYTES, Crc32c};
use nacre_node::Disk;

use crate::error::OssError;
use crate::object::files::{Files, folder, folder_path};
use crate::object::graves::{Fate, Graves};
use crate::object::intent::leftovers;
use crate::object::ranges::RangeSet;
use crate::object::{BLOCK, block_end};

/// Bytes read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// What the check tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// An object, be it well or not.
    Object(CheckedObject),
    /// Checksums without data: a crash cut a destroy or a creation short. Harmless; removed at
    /// the next start.
    Leftover(String),
    /// A file that no OST makes, or one that is not in its folder.
    Stranger(String),
}

/// An object as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedObject {
    /// Whose data it is.
    pub id: ObjectId,
    /// In bytes.
    pub size: u64,
    /// Allocated, in 512-byte units.
    pub blocks: u64,
    /// Whether some of it is in doubt, to be checked anew at the next start.
    pub doubtful: bool,
    /// Blocks that were not in doubt and do not match their checksums, as byte ranges.
    pub corrupt: Vec<(u64, u64)>,
    /// It was destroyed, and a crash came before its files were removed.
    pub destroyed: bool,
}

/// Counts of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Objects.
    pub objects: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Objects in doubt.
    pub doubtful: u64,
    /// Objects with a block that does not match its checksum.
    pub corrupt: u64,
    /// Objects destroyed of which files are left.
    pub destroyed: u64,
    /// Files without data.
    pub leftovers: u64,
    /// Files that do not belong.
    pub strangers: u64,
    /// Destroyed objects that are remembered: gone with their inode.
    pub gone: u64,
    /// Destroyed objects that are remembered: replaced by others of the same inode.
    pub replaced: u64,
}

impl Summary {
    /// Whether nothing is wrong. Doubt and leftovers are what a crash leaves, not damage.
    pub fn is_sound(&self) -> bool {
        self.corrupt == 0 && self.strangers == 0
    }
}

/// Goes through all objects of a folder; reads and verifies their data if `verify`. Each finding
/// is told as it is made.
///
/// # Errors
/// When the folder's own files cannot be read.
pub fn check(
    disk: &dyn Disk,
    verify: bool,
    mut tell: impl FnMut(Finding),
) -> Result<Summary, OssError> {
    let doubts = leftovers(disk)?;
    let graves = Graves::read(disk)?;
    let (gone, replaced) = graves.counts();
    let mut summary = Summary { gone, replaced, ..Summary::default() };
    for number in 0..=u8::MAX {
        let names = names(disk, number)?;
        for (path, kind) in classify(number, &names) {
            let finding = match kind {
                Kind::Object(id) => {
                    let doubt = doubts.get(&id).cloned().unwrap_or_default();
                    let fate = graves.fate(id);
                    Finding::Object(check_object(disk, id, doubt, fate, verify)?)
                }
                Kind::Leftover => Finding::Leftover(path),
                Kind::Stranger => Finding::Stranger(path),
            };
            summary.count(&finding);
            tell(finding);
        }
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, finding: &Finding) {
        match finding {
            Finding::Object(object) => {
                self.objects += 1;
                self.bytes = self.bytes.saturating_add(object.size);
                self.doubtful += u64::from(object.doubtful);
                self.corrupt += u64::from(!object.corrupt.is_empty());
                self.destroyed += u64::from(object.destroyed);
            }
            Finding::Leftover(_) => self.leftovers += 1,
            Finding::Stranger(_) => self.strangers += 1,
        }
    }
}

enum Kind {
    Object(ObjectId),
    Leftover,
    Stranger,
}

fn names(disk: &dyn Disk, number: u8) -> Result<Vec<String>, OssError> {
    let path = folder_path(number);
    if !disk.exists(&path).map_err(OssError::disk("look for folder"))? {
        return Ok(Vec::new());
    }
    disk.list(&path).map_err(OssError::disk("list folder of objects"))
}

fn classify(number: u8, names: &[String]) -> Vec<(String, Kind)> {
    let have: BTreeSet<_> = names.iter().map(String::as_str).collect();
    let kind = |name: &str| {
        let (stem, ending) = name.rsplit_once('.')?;
        let id = stem.parse::<ObjectId>().ok().filter(|&id| folder(id) == number);
        match (id, ending) {
            (Some(id), "d") => Some(Kind::Object(id)),
            // Told of with its data.
            (Some(_), "m") if have.contains(format!("{stem}.d").as_str()) => None,
            (Some(_), "m") => Some(Kind::Leftover),
            (_, _) => Some(Kind::Stranger),
        }
    };
    let path = |name: &str| folder_path(number).join(name).display().to_string();
    let dotless = |name: &str| !name.contains('.');
    let of = |name: &String| {
        let kind = if dotless(name) { Some(Kind::Stranger) } else { kind(name) };
        Some((path(name), kind?))
    };
    names.iter().filter_map(of).collect()
}

fn check_object(
    disk: &dyn Disk,
    id: ObjectId,
    mut doubt: RangeSet,
    fate: Option<Fate>,
    verify: bool,
) -> Result<CheckedObject, OssError> {
    let at = || OssError::at("check object", id);
    let (files, summed) = Files::look(disk, id).map_err(at())?;
    let (header, _) = if summed { files.header(id).map_err(at())? } else { (None, false) };
    let len = files.len().map_err(at())?;
    let clean_end = header.map_or(0, |header| header.clean_end);
    let mut size = len;
    if doubt.is_empty() {
        // Bytes that were there when the object was clean: if they are gone, that is damage.
        size = size.max(header.map_or(0, |header| header.size.min(clean_end)));
    }
    doubt.insert(clean_end, u64::MAX);
    let doubtful = doubt.overlaps(0, size);
    let corrupt = if verify { bad_blocks(&files, size, &doubt, id)? } else { Vec::new() };
    let blocks = files.blocks().map_err(at())?;
    Ok(CheckedObject { id, size, blocks, doubtful, corrupt, destroyed: fate.is_some() })
}

fn bad_blocks(
    files: &Files,
    size: u64,
    doubt: &RangeSet,
    id: ObjectId,
) -> Result<Vec<(u64, u64)>, OssError> {
    let at = || OssError::at("check object", id);
    let mut bad = RangeSet::default();
    let mut start = 0;
    while start < size {
        let end = start.saturating_add(STEP_BYTES).min(block_end(size));
        if !doubt.covers(start, end) {
            let count = usize::try_from((end - start) / BLOCK).expect("a step fits");
            let mut bytes = vec![0; count * BLOCK_BYTES];
            files.read(&mut bytes, start).map_err(at())?;
            let sums = files.sums(start / BLOCK, count).map_err(at())?;
            let blocks = bytes.as_chunks::<BLOCK_BYTES>().0.iter().zip(sums);
            for ((block, sum), offset) in blocks.zip((start..).step_by(BLOCK_BYTES)) {
                let known = !doubt.overlaps(offset, offset + BLOCK);
                if known && Crc32c::of(block) != sum {
                    bad.insert(offset, offset + BLOCK);
                }
            }
        }
        start = end;
    }
    Ok(bad.iter().collect())
}

/// Whether a folder has been served at all.
pub fn is_initialised(disk: &dyn Disk) -> Result<bool, OssError> {
    disk.exists(Path::new(crate::object::intent::FILE)).map_err(OssError::disk("look for ost"))
}

#[cfg(test)]
mod tests;
