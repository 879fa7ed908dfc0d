//! Which objects there are: in memory, and in a file that every change is appended to.
//!
//! The file has one line of JSON for each change, the last one of a key counting. It is rewritten
//! when it is opened. A line without its end is a write that nobody was told had succeeded.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use nacre_model::Timestamp;
use serde::{Deserialize, Serialize};

use super::blobs::Blob;

/// An object, its bytes in blobs one after the other.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Object {
    pub(super) blobs: Vec<Blob>,
    pub(super) etag: String,
    /// Base64 of the CRC-32C, for an object that was written in one piece.
    pub(super) crc32c: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) user: BTreeMap<String, String>,
    seconds: i64,
    nanoseconds: u32,
}

impl Object {
    pub(super) fn bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.bytes).sum()
    }

    pub(super) fn modified(&self) -> Timestamp {
        Timestamp { secs: self.seconds, nanos: self.nanoseconds }
    }

    pub(super) fn set_modified(&mut self, time: Timestamp) {
        self.seconds = time.secs;
        self.nanoseconds = time.nanos;
    }
}

/// What a client sends along with an object's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) content_type: Option<String>,
    pub(super) user: BTreeMap<String, String>,
}

impl Attributes {
    pub(super) fn object(self, blobs: Vec<Blob>, etag: String, crc32c: Option<String>) -> Object {
        let Self { content_type, user } = self;
        Object { blobs, etag, crc32c, content_type, user, seconds: 0, nanoseconds: 0 }
    }
}

/// A line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    key: String,
    /// `None`: the key was deleted.
    object: Option<Object>,
}

/// All objects by key, in the order of the keys' bytes.
#[derive(Debug)]
pub(super) struct Catalogue {
    objects: BTreeMap<String, Object>,
    file: File,
}

impl Catalogue {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join("catalogue");
        let objects = match fs::read_to_string(&path) {
            Ok(text) => replay(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        let rewritten = dir.join("catalogue.new");
        let mut file = File::create(&rewritten)?;
        for (key, object) in &objects {
            file.write_all(&line(key, Some(object))?)?;
        }
        fs::rename(&rewritten, &path)?;
        Ok(Self { objects, file })
    }

    pub(super) fn objects(&self) -> &BTreeMap<String, Object> {
        &self.objects
    }

    /// Puts or, with `None`, removes an object. What had the key before is the result.
    pub(super) fn change(
        &mut self,
        key: &str,
        object: Option<Object>,
    ) -> io::Result<Option<Object>> {
        self.file.write_all(&line(key, object.as_ref())?)?;
        Ok(match object {
            Some(object) => self.objects.insert(key.to_owned(), object),
            None => self.objects.remove(key),
        })
    }
}

fn line(key: &str, object: Option<&Object>) -> io::Result<Vec<u8>> {
    let change = Change { key: key.to_owned(), object: object.cloned() };
    let mut line = serde_json::to_vec(&change)?;
    line.push(b'\n');
    Ok(line)
}

fn replay(text: &str) -> io::Result<BTreeMap<String, Object>> {
    let mut objects = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let Change { key, object } = serde_json::from_str(line)?;
        match object {
            Some(object) => objects.insert(key, object),
            None => objects.remove(&key),
        };
    }
    Ok(objects)
}
