//! The habits that a machine can check. Each failure says what to do.

mod docs;
mod edges;
mod ratchet;
mod tree;
