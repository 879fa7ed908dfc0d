//! Extended attributes.

use bytes::Bytes;
use nacre_model::Errno;

use super::super::abi::output::GetxattrOut;
use super::super::answer::{Answer, Body};
use super::super::fs::Filesystem;
use super::super::session::{Call, Session};
use crate::types::XattrSet;

/// ACLs: the kernel reads these for itself, and keeps them.
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// Answers with `value`, or with its length when the caller's buffer has no bytes.
fn sized(value: Bytes, size: u32) -> Result<Body, Errno> {
    let len = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    if size == 0 {
        return Ok(Body::of(&GetxattrOut { size: len, padding: 0 }));
    }
    if len > size { Err(Errno::ERANGE) } else { Ok(Body::data(vec![value])) }
}

impl<F: Filesystem> Session<F> {
    pub(in super::super) async fn getxattr(
        &self,
        call: &Call,
        name: &[u8],
        size: u32,
    ) -> Result<Answer, Errno> {
        let value = self.fs.getxattr(call.fid, name).await;
        if !ACLS.contains(&name) {
            return Ok(Answer::Plain(sized(value?, size)?));
        }
        // That there is none is kept too.
        let acl = value.and_then(|value| sized(value, size));
        Ok(Answer::Acl { fid: call.fid, acl })
    }

    pub(in super::super) async fn listxattr(
        &self,
        call: &Call,
        size: u32,
    ) -> Result<Answer, Errno> {
        let names = self.fs.listxattr(call.fid).await?;
        let mut list = Vec::new();
        for name in names {
            list.extend_from_slice(&name);
            list.push(0);
        }
        Ok(Answer::Plain(sized(list.into(), size)?))
    }

    pub(in super::super) async fn setxattr(
        &self,
        call: &Call,
        name: &[u8],
        value: Bytes,
        flags: u32,
        kill_sgid: bool,
    ) -> Result<Answer, Errno> {
        let how = match flags.cast_signed() {
            0 => XattrSet::Any,
            libc::XATTR_CREATE => XattrSet::Create,
            libc::XATTR_REPLACE => XattrSet::Replace,
            _ => return Err(Errno::EINVAL),
        };
        self.fs.setxattr(call.caller, call.fid, name, value, how, kill_sgid).await?;
        self.changed(&[call.fid]);
        Ok(Answer::empty())
    }

    pub(in super::super) async fn removexattr(
        &self,
        call: &Call,
        name: &[u8],
    ) -> Result<Answer, Errno> {
        self.fs.removexattr(call.caller, call.fid, name).await?;
        self.changed(&[call.fid]);
        Ok(Answer::empty())
    }
}
