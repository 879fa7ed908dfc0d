//! The operations: from the kernel's words to the file system's and back.

mod attrs;
mod dirs;
mod files;
mod locks;
mod names;
mod open;
mod xattrs;
