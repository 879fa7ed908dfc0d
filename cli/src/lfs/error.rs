//! What went wrong, with the number that becomes the exit code, as Lustre's lfs has it.

use std::fmt;
use std::io;
use std::path::Path;

use nacre_model::{Errno, ServiceError};

/// A failed command.
#[derive(Debug)]
pub(crate) struct LfsError {
    errno: Errno,
    text: String,
}

impl LfsError {
    pub(crate) fn new(errno: Errno, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }

    /// A wrong argument.
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(Errno::EINVAL, text)
    }

    /// A system call on a file.
    pub(crate) fn at(path: &Path, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno);
        Self::new(errno, path.display().to_string())
    }

    /// What a server answered.
    pub(crate) fn remote(what: &str, status: &tonic::Status) -> Self {
        let error = nacre_proto::status::from_status(status);
        Self::new(error.errno(), format!("{what}: {error}"))
    }

    pub(crate) fn errno(&self) -> Errno {
        self.errno
    }

    pub(crate) fn exit_code(&self) -> u8 {
        u8::try_from(self.errno.0).unwrap_or(1)
    }
}

impl fmt::Display for LfsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.text, self.errno)
    }
}
