//! Mounting without being root, by the set-uid helper `fusermount3`.
//!
//! The helper opens `/dev/fuse`, mounts, and passes the descriptor back through a socket whose
//! number it finds in `_FUSE_COMMFD`.

use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::mount::MountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
};

use super::device::Device;
use super::mount::MountError;
use super::options::MountOptions;

const HELPER: &str = "fusermount3";

pub(super) fn mount(options: &MountOptions) -> Result<Device, MountError> {
    let failed = |error: io::Error| MountError::Helper { said: error.to_string() };
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::empty(),
        None,
    )
    .map_err(|error| failed(error.into()))?;
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| failed(error.into()))?;
    let child = Command::new(HELPER)
        .arg("-o")
        .arg(option_list(options))
        .arg("--")
        .arg(&options.target)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    drop(theirs);
    let received = receive_descriptor(&ours);
    let output = child.wait_with_output().map_err(failed)?;
    match received {
        Ok(Some(fd)) if output.status.success() => Ok(Device::from_fd(fd)),
        Ok(_) => {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(MountError::Helper { said })
        }
        Err(error) => Err(failed(error)),
    }
}

/// What the helper understands; commas in a value would begin another option.
fn option_list(options: &MountOptions) -> OsString {
    let source = options.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut list = format!("fsname={source},subtype=nacre,default_permissions");
    let words = [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
        (MountFlags::NOATIME, "noatime"),
    ];
    for (_, word) in words.into_iter().filter(|(flag, _)| options.flags.contains(*flag)) {
        list.push(',');
        list.push_str(word);
    }
    if options.allow_other {
        list.push_str(",allow_other");
    }
    list.into()
}

/// One byte comes with the descriptor; none at all when the helper gave up.
fn receive_descriptor(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut found = None;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
            found = descriptors.next().or(found);
        }
    }
    Ok(found)
}

/// Lazily: the helper cannot tell busy from gone.
pub(super) fn unmount(target: &Path) -> io::Result<()> {
    let output = Command::new(HELPER).args(["-u", "-z", "--"]).arg(target).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
