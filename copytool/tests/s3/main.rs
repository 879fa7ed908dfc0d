//! The copytool's S3 half against a server in this process, and against one that misbehaves.

mod faults;
mod moving;
mod objects;
mod proxy;
mod world;
