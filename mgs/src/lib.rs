//! mgs.
