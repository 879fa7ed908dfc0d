//! File handles: inodes opened by number, as NFS servers do.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::harness::Mounted;

/// `struct file_handle` with room for what FUSE puts there.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    data: [u8; 128],
}

#[expect(unsafe_code, reason = "nothing wraps this system call")]
fn handle_of(path: &Path) -> Handle {
    let mut handle = Handle { bytes: 128, kind: 0, data: [0; 128] };
    let mut mount_id = 0;
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: `name` ends in NUL; `handle` has the layout of `struct file_handle` and says how much
    // room it has; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount_id,
            0,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    handle
}

#[expect(unsafe_code, reason = "nothing wraps this system call")]
fn open_handle(mount: &File, handle: &mut Handle) -> std::io::Result<File> {
    let handle = std::ptr::from_mut(handle);
    // SAFETY: the descriptor is open and the handle came from the kernel.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), handle, libc::O_RDONLY)
    };
    let fd = i32::try_from(fd).unwrap();
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel just opened it for us, and nobody else knows of it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[test]
fn a_file_opens_by_its_handle_after_the_kernel_forgot_it() {
    let Some(mount) = Mounted::new() else { return };
    if !rustix::process::geteuid().is_root() {
        return;
    }
    fs::create_dir_all(mount.path("one/two")).unwrap();
    fs::write(mount.path("one/two/file"), b"found by number").unwrap();
    let mut file = handle_of(&mount.path("one/two/file"));
    let mut folder = handle_of(&mount.path("one/two"));
    fs::write("/proc/sys/vm/drop_caches", "2").unwrap();

    let root = File::open(mount.root()).unwrap();
    let mut text = String::new();
    open_handle(&root, &mut file).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "found by number");
    let folder = open_handle(&root, &mut folder).unwrap();
    let path = fs::read_link(format!("/proc/self/fd/{}", folder.as_raw_fd())).unwrap();
    assert_eq!(path, mount.path("one/two"), "its parents were found too");

    // The inode number is all that the handle says: nobody is there by this one.
    file.data[2] ^= 0x40;
    let error = open_handle(&root, &mut file).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE));
}
