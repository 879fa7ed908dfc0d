//! mds.
