//! Shared mappings, read without a fault that would kill the test.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;

/// The first bytes of a file, mapped shared for reading.
#[derive(Debug)]
pub(crate) struct Map {
    address: *mut libc::c_void,
    len: usize,
}

impl Map {
    #[expect(unsafe_code, reason = "there is no safe mmap")]
    pub(crate) fn new(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory in use.
        let address = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { address, len })
    }

    /// What is mapped, up to `len`. A page that is not there is EIO, where an access would be
    /// SIGBUS.
    pub(crate) fn read(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len.min(self.len)];
        let address = self.address.expose_provenance() as u64;
        File::open("/proc/self/mem")?.read_exact_at(&mut bytes, address)?;
        Ok(bytes)
    }
}

impl Drop for Map {
    #[expect(unsafe_code, reason = "there is no safe munmap")]
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing points into it.
        unsafe { libc::munmap(self.address, self.len) };
    }
}
