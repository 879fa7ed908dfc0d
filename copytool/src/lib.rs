//! The S3 half of an HSM copytool: files to objects and back, with what POSIX knows of them.
//!
//! [`location`] and [`key`] name things, [`posix`] says what is stored beside the bytes,
//! [`bucket`] speaks to S3 and believes no answer unseen, [`mover`] moves bytes. [`intents`]
//! remembers what a crash would leave behind. [`embedded`] is an S3 server for one machine.
//!
//! It knows neither the metadata service nor the client: who calls it decides what is moved when,
//! and records what came of it.

pub mod agent;
pub mod bucket;
pub mod budget;
pub mod embedded;
pub mod error;
pub mod intents;
pub mod key;
pub mod location;
pub mod mover;
pub mod object;
pub mod posix;
pub mod report;
pub mod retry;
#[cfg(test)]
mod testing;

pub use bucket::{Bucket, Features};
pub use budget::MemoryBudget;
pub use error::S3Error;
pub use intents::{FileIntents, Intents};
pub use location::{BucketUrl, Endpoint};
pub use mover::{MoveError, Mover};
pub use object::{ETag, ObjectMeta, Precondition, Stored};
pub use report::ReportCode;
pub use retry::Patience;
