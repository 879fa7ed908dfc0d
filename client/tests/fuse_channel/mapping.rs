//! A file in memory.

use std::fs::File;
use std::os::fd::AsRawFd;

/// A shared mapping of a file's first bytes.
pub(crate) struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
impl Mapping {
    pub(crate) fn of(file: &File, len: usize) -> Self {
        let (protection, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        // SAFETY: a fresh mapping, at an address that the kernel chooses.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { start, len }
    }

    pub(crate) fn write(&self, at: usize, byte: u8) -> &Self {
        assert!(at < self.len);
        // SAFETY: within the mapping, which lives as long as `self`.
        unsafe { self.start.cast::<u8>().add(at).write_volatile(byte) };
        self
    }

    pub(crate) fn read(&self, at: usize) -> u8 {
        assert!(at < self.len);
        // SAFETY: within the mapping, which lives as long as `self`.
        unsafe { self.start.cast::<u8>().add(at).read_volatile() }
    }

    pub(crate) fn sync(&self) {
        // SAFETY: exactly the mapping.
        assert_eq!(unsafe { libc::msync(self.start, self.len, libc::MS_SYNC) }, 0);
    }
}

#[expect(unsafe_code, reason = "unmapping a file is unsafe by nature")]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping, and nobody has a reference into it.
        assert_eq!(unsafe { libc::munmap(self.start, self.len) }, 0);
    }
}
