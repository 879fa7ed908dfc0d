//! Inodes.

use std::num::NonZeroU16;

use bytes::Bytes;
use nacre_model::attr::PERM_MASK;
use nacre_model::layout::{ComponentTemplate, STRIPE_COUNT_ALL};
use nacre_model::{Attr, Component, Fid, FileKind, Layout, LayoutTemplate, Name, OstIndex};
use nacre_proto::convert::{BadMessage, required};
use nacre_proto::v1;

use super::{BadRecord, HsmFlags, decode_message, encode_message, osts, wire_osts};

/// Everything about an inode but its inline bytes and extended attributes, which are other rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inode {
    /// Attributes; `blocks` of an inline file is of its inline bytes.
    pub attr: Attr,
    /// Names that point here: all of them unless `links_overflow`.
    pub links: Vec<Link>,
    /// More names than `links` holds have pointed here since it last held all of them.
    pub links_overflow: bool,
    /// Made by `O_TMPFILE` and not linked yet: `link` may give it a first name.
    pub tmpfile: bool,
    /// Extended attributes.
    pub xattrs: XattrUse,
    /// What only its kind has.
    pub body: Body,
}

/// A name of an inode. Lustre: linkEA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The directory.
    pub parent: Fid,
    /// The name there.
    pub name: Bytes,
}

/// Extended attributes of an inode, summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct XattrUse {
    /// How many.
    pub count: u32,
    /// Of all values.
    pub value_bytes: u32,
    /// Of all names, each with a NUL: what `listxattr` returns.
    pub name_bytes: u32,
}

/// What only one kind of inode has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Regular file.
    File(FileBody),
    /// Directory: the layout of files made in it.
    Directory(Option<LayoutTemplate>),
    /// Symbolic link: where to.
    Symlink(Bytes),
    /// Device, fifo or socket.
    Special,
}

/// Where a regular file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileBody {
    /// By extent, ascending.
    pub components: Vec<FileComponent>,
    /// The inline row is the content, with zeros up to the size; no component has objects.
    pub is_inline: bool,
    /// Length of the inline row; 0 when there is none.
    pub inline_bytes: u32,
    /// The highest object generation that was ever given out.
    pub object_generation: u32,
    /// Objects that `promote` reserved.
    pub pending: Option<Pending>,
    /// Raised by whatever may change bytes.
    pub data_version: u64,
    /// What the archive has to do with it; [`Attr::released`] says the same of `RELEASED`.
    pub hsm: HsmFlags,
}

/// One component of a file's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileComponent {
    /// What was wished for; kept when it has OSTs, for the next object set.
    pub template: ComponentTemplate,
    /// By stripe; empty until instantiated.
    pub osts: Vec<OstIndex>,
    /// Generation of its objects.
    pub object_generation: u32,
}

/// Objects for component 0 that `promote` reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Their generation.
    pub object_generation: u32,
    /// By stripe.
    pub osts: Vec<OstIndex>,
}

impl FileBody {
    /// Of a new, empty file.
    pub fn new(template: LayoutTemplate) -> Self {
        let components = template.components.into_iter();
        Self {
            components: components
                .map(|template| FileComponent { template, osts: Vec::new(), object_generation: 0 })
                .collect(),
            is_inline: true,
            inline_bytes: 0,
            object_generation: 0,
            pending: None,
            data_version: 0,
            hsm: HsmFlags::empty(),
        }
    }

    /// As clients see it.
    pub fn layout(&self, generation: u32) -> Layout {
        let mut start = 0;
        let mut components = Vec::with_capacity(self.components.len());
        for component in &self.components {
            let FileComponent { template, osts, object_generation } = component;
            let placed = u16::try_from(osts.len()).ok().and_then(NonZeroU16::new);
            components.push(Component {
                start,
                end: template.end,
                stripe_size: template.stripe_size,
                stripe_count: placed.or(template.stripe_count).unwrap_or(STRIPE_COUNT_ALL),
                pool: template.pool.clone(),
                stripe_index: template.stripe_index,
                osts: osts.clone(),
                object_generation: *object_generation,
            });
            start = template.end;
        }
        Layout { generation, components }
    }

    /// What was wished for.
    pub fn template(&self) -> LayoutTemplate {
        LayoutTemplate { components: self.components.iter().map(|c| c.template.clone()).collect() }
    }

    fn to_wire(&self, attr: &Attr) -> v1::FileRecord {
        let template = v1::LayoutTemplate::from(self.template());
        let components = template.components.into_iter().zip(&self.components);
        v1::FileRecord {
            layout_gen: attr.layout_gen,
            components: components
                .map(|(template, component)| v1::FileComponentRecord {
                    template: Some(template),
                    osts: wire_osts(&component.osts),
                    object_generation: component.object_generation,
                })
                .collect(),
            is_inline: self.is_inline,
            inline_bytes: self.inline_bytes,
            size_lazy: attr.size_lazy,
            object_generation: self.object_generation,
            pending: self.pending.as_ref().map(|pending| v1::PendingRecord {
                object_generation: pending.object_generation,
                osts: wire_osts(&pending.osts),
            }),
            data_version: self.data_version,
            hsm_flags: self.hsm.bits(),
        }
    }

    fn from_wire(wire: v1::FileRecord) -> Result<Self, BadMessage> {
        let value = wire.hsm_flags.into();
        let hsm = HsmFlags::from_bits(wire.hsm_flags)
            .ok_or(BadMessage::Range { field: "hsm_flags", value })?;
        let mut wishes = Vec::with_capacity(wire.components.len());
        let mut placed = Vec::with_capacity(wire.components.len());
        for component in wire.components {
            wishes.push(required("template", component.template)?);
            placed.push((osts(component.osts)?, component.object_generation));
        }
        let template = LayoutTemplate::try_from(v1::LayoutTemplate { components: wishes })?;
        let components = template.components.into_iter().zip(placed);
        Ok(Self {
            components: components
                .map(|(template, (osts, object_generation))| FileComponent {
                    template,
                    osts,
                    object_generation,
                })
                .collect(),
            is_inline: wire.is_inline,
            inline_bytes: wire.inline_bytes,
            object_generation: wire.object_generation,
            pending: match wire.pending {
                None => None,
                Some(p) => {
                    Some(Pending { object_generation: p.object_generation, osts: osts(p.osts)? })
                }
            },
            data_version: wire.data_version,
            hsm,
        })
    }
}

impl Inode {
    /// The attributes as they are shown.
    pub fn shown(&self) -> v1::Attr {
        let attr = v1::Attr::from(self.attr.clone());
        v1::Attr { xattr_count: self.xattrs.count, ..attr }
    }

    /// A regular file's layout as it is shown.
    pub fn shown_layout(&self) -> Option<v1::Layout> {
        match &self.body {
            Body::File(file) => Some(file.layout(self.attr.layout_gen).into()),
            Body::Directory(_) | Body::Symlink(_) | Body::Special => None,
        }
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.attr.kind == FileKind::Directory
    }

    /// To bytes. The fid is the key's.
    pub fn encode(&self) -> Vec<u8> {
        let attr = &self.attr;
        let links = self.links.iter();
        let mut wire = v1::InodeRecord {
            mode: attr.kind.mode_bits() | attr.perm,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: attr.rdev,
            size: attr.size,
            blocks: attr.blocks,
            atime: Some(attr.atime.into()),
            mtime: Some(attr.mtime.into()),
            ctime: Some(attr.ctime.into()),
            btime: Some(attr.btime.into()),
            links: links
                .map(|link| v1::LinkRecord {
                    parent: Some(link.parent.into()),
                    name: link.name.clone(),
                })
                .collect(),
            links_overflow: self.links_overflow,
            tmpfile: self.tmpfile,
            xattr_count: self.xattrs.count,
            xattr_value_bytes: self.xattrs.value_bytes,
            xattr_name_bytes: self.xattrs.name_bytes,
            file: None,
            directory_default: None,
            target: Bytes::new(),
        };
        match &self.body {
            Body::File(file) => wire.file = Some(file.to_wire(attr)),
            Body::Directory(default) => wire.directory_default = default.clone().map(Into::into),
            Body::Symlink(target) => wire.target = target.clone(),
            Body::Special => {}
        }
        encode_message(&wire)
    }

    /// From bytes, and the fid of the key.
    pub fn decode(fid: Fid, bytes: Vec<u8>) -> Result<Self, BadRecord> {
        let mut wire: v1::InodeRecord = decode_message(bytes)?;
        let value = wire.mode.into();
        let kind =
            FileKind::from_mode(wire.mode).ok_or(BadMessage::Range { field: "mode", value })?;
        let file = wire.file.take();
        let (layout_gen, size_lazy) =
            file.as_ref().map_or((0, false), |file| (file.layout_gen, file.size_lazy));
        let body = match kind {
            FileKind::Regular => Body::File(FileBody::from_wire(required("file", file)?)?),
            FileKind::Directory => {
                let default = wire.directory_default.take();
                Body::Directory(default.map(TryInto::try_into).transpose()?)
            }
            FileKind::Symlink => Body::Symlink(std::mem::take(&mut wire.target)),
            FileKind::Fifo | FileKind::Socket | FileKind::CharDevice | FileKind::BlockDevice => {
                Body::Special
            }
        };
        let attr = Attr {
            fid,
            kind,
            perm: wire.mode & PERM_MASK,
            nlink: wire.nlink,
            uid: wire.uid,
            gid: wire.gid,
            rdev: wire.rdev,
            size: wire.size,
            blocks: wire.blocks,
            atime: required("atime", wire.atime)?.try_into()?,
            mtime: required("mtime", wire.mtime)?.try_into()?,
            ctime: required("ctime", wire.ctime)?.try_into()?,
            btime: required("btime", wire.btime)?.try_into()?,
            size_lazy,
            layout_gen,
            xattr_count: wire.xattr_count,
            released: matches!(&body, Body::File(file) if file.hsm.contains(HsmFlags::RELEASED)),
        };
        let mut links = Vec::with_capacity(wire.links.len());
        for link in wire.links {
            Name::new(&link.name).map_err(BadMessage::from)?;
            let parent = required("parent", link.parent)?.into();
            links.push(Link { parent, name: link.name });
        }
        Ok(Self {
            attr,
            links,
            links_overflow: wire.links_overflow,
            tmpfile: wire.tmpfile,
            xattrs: XattrUse {
                count: wire.xattr_count,
                value_bytes: wire.xattr_value_bytes,
                name_bytes: wire.xattr_name_bytes,
            },
            body,
        })
    }
}
