//! The lane: the same services and messages as gRPC, in frames of our own over one connection.
//!
//! HTTP/2 brings flow control, header tables and priorities that nobody here needs, and a task of
//! its own for each connection, through which every message passes on both sides. In the lane who
//! calls writes to the socket itself, and one task reads. Calls with one request and one answer go
//! this way; those that stream go over gRPC, on the same port.
//!
//! ```text
//! generated client ─► Channel ─► frames ─► Routes ─► generated server
//!                        └─ streams ─► gRPC ─┘
//! ```
//!
//! A client that speaks the lane says so with its first bytes, and the server repeats them. A
//! server that does not is spoken to by gRPC.

mod call;
mod channel;
mod frame;
mod serve;
mod sink;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use channel::Channel;
pub(crate) use serve::serve;

/// What both ends begin with. gRPC begins with `PRI * HTTP/2.0`.
const MAGIC: [u8; 8] = *b"NACRE\r\n1";
/// How long the first bytes of the other end are waited for.
const HELLO: Duration = Duration::from_secs(2);
/// A client that hears nothing for so long asks whether the server is there.
const PING: Duration = Duration::from_secs(1);
/// And gives it up when it hears nothing for so long.
const SILENCE: Duration = Duration::from_secs(3);
/// A server gives a client up that is silent for so long.
const CLIENT_SILENCE: Duration = Duration::from_secs(10);
