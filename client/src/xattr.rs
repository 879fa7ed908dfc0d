//! Extended attributes, and the virtual ones through which tools ask what POSIX has no call for.
//!
//! Virtual attributes are not listed. Any inode of the mount will do to ask.
//!
//! | Name | Value |
//! |---|---|
//! | `nacre.fid` | fid of the inode, `[0xseq:0xoid:0xver]` |
//! | `nacre.layout` | layout of a file, default of a directory: [`crate::layout_json`]. May be set on directories and on files without data, and removed from directories |
//! | `nacre.fid2path.[0xseq:0xoid:0xver]` | all paths of that inode from the root of the file system, each ended by a NUL |
//! | `nacre.hsm` | of a file: what the archive has to do with it, [`crate::hsm_json`]. May be set: that asks for something |
//! | `nacre.mgs` | `host:port[,host:port…]:/fsname` of the mount |

use bytes::Bytes;
use nacre_model::{Errno, Fid, FileKind, LayoutTemplate, ServiceError};
use nacre_node::register::Chain;
use nacre_proto::XATTR_BYTES_MAX;
use nacre_proto::v1;
use nacre_proto::v1::change_request::Op;

use crate::cache::Xattr;
use crate::hsm_json::{HsmDoc, HsmWish, XATTR_HSM};
use crate::layout_json::{LayoutDoc, XATTR_FID, XATTR_LAYOUT};
use crate::types::{Caller, XattrSet};
use crate::{Client, ClientError, Result};

const PREFIX: &[u8] = b"nacre.";
const FID2PATH: &[u8] = b"nacre.fid2path.";
const MGS: &[u8] = b"nacre.mgs";

impl Client {
    /// Value of an extended attribute; ENODATA if it is not there. Full names
    /// (`user.x`, `system.posix_acl_access`); virtual names are listed in [`crate::xattr`].
    pub async fn getxattr(&self, fid: Fid, name: &[u8]) -> Result<Bytes> {
        if name.starts_with(PREFIX) {
            return self.get_virtual(fid, name).await;
        }
        match self.inner.cache.xattr(fid, name) {
            Xattr::Is(value) => return Ok(value),
            Xattr::Absent => return Err(no_data()),
            Xattr::Unknown => {}
        }
        let asked = self.asked();
        let name = Bytes::copy_from_slice(name);
        let call = self.inner.mdc.call("getxattr", |mut mds, session| {
            let (fid, name) = (Some(fid.into()), name.clone());
            let request = v1::GetxattrRequest { fid, name, session: session.id };
            async move { mds.getxattr(request).await }
        });
        let answer = call.await.map(|answer| answer.value);
        match &answer {
            Ok(value) => self.inner.cache.learn_xattr(asked, fid, name, Some(value.clone())),
            Err(error) if error.errno() == Errno::ENODATA => {
                self.inner.cache.learn_xattr(asked, fid, name, None);
            }
            Err(_) => {}
        }
        answer
    }

    async fn get_virtual(&self, fid: Fid, name: &[u8]) -> Result<Bytes> {
        if name == XATTR_FID.as_bytes() {
            return Ok(fid.to_string().into());
        }
        if name == MGS {
            let config = &self.inner.config;
            return Ok(format!("{}:/{}", config.mgs.join(","), config.fsname).into());
        }
        if name == XATTR_LAYOUT.as_bytes() {
            return self.layout_text(fid).await;
        }
        if name == XATTR_HSM.as_bytes() {
            return Ok(HsmDoc::from(self.hsm_state(fid).await?).to_json().into());
        }
        let wanted = name.strip_prefix(FID2PATH).and_then(|text| std::str::from_utf8(text).ok());
        let Some(wanted) = wanted.and_then(|text| text.parse().ok()) else {
            return Err(ClientError::refused(Errno::ENODATA, "no such virtual attribute"));
        };
        let mut all = Vec::new();
        for path in self.fid2path(wanted).await? {
            all.extend_from_slice(&path);
            all.push(0);
        }
        if all.len() > XATTR_BYTES_MAX {
            return Err(ClientError::refused(Errno::E2BIG, "too many paths for one attribute"));
        }
        Ok(all.into())
    }

    async fn layout_text(&self, fid: Fid) -> Result<Bytes> {
        if let Some(inode) = self.inner.inodes.get(fid) {
            self.write_out(&inode).await;
        }
        let placed = self.get_layout(fid).await?;
        let doc = match placed.attr.kind {
            FileKind::Regular => {
                LayoutDoc::of_file(fid, &placed.layout()?, placed.inline.is_some())
            }
            FileKind::Directory => LayoutDoc::of_directory(fid, placed.directory_default.as_ref()),
            FileKind::Symlink
            | FileKind::Fifo
            | FileKind::Socket
            | FileKind::CharDevice
            | FileKind::BlockDevice => {
                return Err(ClientError::refused(Errno::ENODATA, "only files have layouts"));
            }
        };
        Ok(doc.to_json().into())
    }

    /// Sets an extended attribute. `kill_sgid`: an ACL set by somebody outside the group.
    pub async fn setxattr(
        &self,
        caller: Caller,
        fid: Fid,
        name: &[u8],
        value: Bytes,
        how: XattrSet,
        kill_sgid: bool,
    ) -> Result<()> {
        self.must_change()?;
        if name == XATTR_LAYOUT.as_bytes() {
            let template = LayoutDoc::parse(&value).and_then(|doc| doc.template());
            let template = template.map_err(|error| {
                tracing::info!(%fid, error = %Chain(&error), "layout refused");
                ClientError::refused(Errno::EINVAL, "not a layout document")
            })?;
            return self.set_layout(caller, fid, Some(template)).await;
        }
        if name == XATTR_HSM.as_bytes() {
            let wish = HsmWish::parse(&value);
            let wish = wish.map_err(|_| ClientError::refused(Errno::EINVAL, "not an HSM wish"))?;
            return self.hsm_request(caller, fid, wish).await.map(drop);
        }
        must_be_real(name)?;
        if value.len() > XATTR_BYTES_MAX {
            return Err(ClientError::refused(Errno::E2BIG, "value is longer than 64 KiB"));
        }
        let op = Op::Setxattr(v1::SetxattrOp {
            fid: Some(fid.into()),
            name: Bytes::copy_from_slice(name),
            value,
            create: how == XattrSet::Create,
            replace: how == XattrSet::Replace,
            kill_sgid,
        });
        self.change_inode(caller, fid, "setxattr", false, op).await.map(|_| ())
    }

    async fn set_layout(
        &self,
        caller: Caller,
        fid: Fid,
        layout: Option<LayoutTemplate>,
    ) -> Result<()> {
        let inode = self.inner.inodes.get(fid);
        if let Some(inode) = &inode {
            self.write_out(inode).await;
        }
        let layout = layout.map(Into::into);
        let op = Op::SetLayout(v1::SetLayoutOp { fid: Some(fid.into()), layout });
        self.change_inode(caller, fid, "set layout", false, op).await?;
        if let Some(inode) = inode {
            inode.state.lock().layout_stale = true;
        }
        Ok(())
    }

    /// Names of all extended attributes.
    pub async fn listxattr(&self, fid: Fid) -> Result<Vec<Bytes>> {
        if self.inner.cache.attr(fid).is_some_and(|attr| attr.xattr_count == 0) {
            return Ok(Vec::new());
        }
        let call = self.inner.mdc.call("listxattr", |mut mds, session| async move {
            let fid = Some(fid.into());
            mds.listxattr(v1::ListxattrRequest { fid, session: session.id }).await
        });
        Ok(call.await?.names)
    }

    /// Removes an extended attribute; ENODATA if it is not there.
    pub async fn removexattr(&self, caller: Caller, fid: Fid, name: &[u8]) -> Result<()> {
        self.must_change()?;
        if name == XATTR_LAYOUT.as_bytes() {
            return self.set_layout(caller, fid, None).await;
        }
        must_be_real(name)?;
        let name = Bytes::copy_from_slice(name);
        let op = Op::Removexattr(v1::RemovexattrOp { fid: Some(fid.into()), name });
        self.change_inode(caller, fid, "removexattr", false, op).await.map(|_| ())
    }
}

fn no_data() -> ClientError {
    ClientError::refused(Errno::ENODATA, "no such attribute")
}

fn must_be_real(name: &[u8]) -> Result<()> {
    if name.starts_with(PREFIX) {
        return Err(ClientError::refused(Errno::EPERM, "this virtual attribute is read-only"));
    }
    Ok(())
}
