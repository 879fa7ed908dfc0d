//! The wire: generated messages and services, and their conversion to and from [`nacre_model`].
//!
//! Nothing here decides anything. What comes from a peer is validated once, in [`convert`].

pub mod convert;
pub mod status;

/// Generated from `proto/nacre/v1`. The `.proto` files are the documentation.
#[expect(
    missing_docs,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("nacre.v1");
}

/// Most bytes of file data in one request or reply.
pub const DATA_BYTES_MAX: usize = 4 << 20;
/// Most bytes of any message: data and room for the rest.
pub const MESSAGE_BYTES_MAX: usize = DATA_BYTES_MAX + (64 << 10);
/// Most bytes of one extended attribute. Linux: `XATTR_SIZE_MAX`.
pub const XATTR_BYTES_MAX: usize = 64 << 10;
/// Most bytes of a symbolic link's target: `PATH_MAX` without the NUL.
pub const SYMLINK_BYTES_MAX: usize = 4095;
