//! oss.
