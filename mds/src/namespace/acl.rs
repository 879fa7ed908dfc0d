//! POSIX ACLs, in the form that Linux gives extended attributes.
//!
//! | offset | width | meaning (little endian) |
//! |---|---|---|
//! | 0 | 4 | version, 2 |
//! | 4 + 8 n | 2 | tag |
//! | 6 + 8 n | 2 | permissions, at most 7 |
//! | 8 + 8 n | 4 | user or group, else 0xffffffff |
//!
//! Source: the withdrawn POSIX.1e draft 17, and Linux `include/uapi/linux/posix_acl_xattr.h`.

use super::NsError;

/// Attribute that holds the access ACL, when it says more than the mode.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute that holds the ACL that a directory's new inodes get.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const NO_ID: u32 = u32::MAX;
const RWX: u32 = 7;
/// The nine permission bits.
const RWX_ALL: u32 = 0o777;

/// Whom an entry is about. Order is the order that entries stand in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Owner,
    User(u32),
    OwningGroup,
    Group(u32),
    Mask,
    Other,
}

impl Tag {
    fn code(self) -> (u16, u32) {
        match self {
            Self::Owner => (0x01, NO_ID),
            Self::User(id) => (0x02, id),
            Self::OwningGroup => (0x04, NO_ID),
            Self::Group(id) => (0x08, id),
            Self::Mask => (0x10, NO_ID),
            Self::Other => (0x20, NO_ID),
        }
    }

    fn from_code(code: u16, id: u32) -> Option<Self> {
        Some(match code {
            0x01 => Self::Owner,
            0x02 if id != NO_ID => Self::User(id),
            0x04 => Self::OwningGroup,
            0x08 if id != NO_ID => Self::Group(id),
            0x10 => Self::Mask,
            0x20 => Self::Other,
            _ => return None,
        })
    }

    /// 0 owner, 1 users, 2 owning group, 3 groups, 4 mask, 5 other.
    fn class(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::User(_) => 1,
            Self::OwningGroup => 2,
            Self::Group(_) => 3,
            Self::Mask => 4,
            Self::Other => 5,
        }
    }
}

/// A valid ACL: exactly one owner, owning group and other; users and groups only with a mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl {
    entries: Vec<(Tag, u32)>,
}

const BAD: NsError = NsError::Invalid("malformed ACL");

impl Acl {
    /// From an attribute's value. `None`: it holds no entries, which removes the ACL.
    pub(super) fn parse(value: &[u8]) -> Result<Option<Self>, NsError> {
        if value.is_empty() {
            return Ok(None);
        }
        let (version, rest) = value.split_first_chunk::<4>().ok_or(BAD)?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(BAD);
        }
        let (rows, tail) = rest.as_chunks::<8>();
        if !tail.is_empty() {
            return Err(BAD);
        }
        let mut entries = Vec::with_capacity(rows.len());
        for [t0, t1, p0, p1, id @ ..] in rows {
            let perm = u32::from(u16::from_le_bytes([*p0, *p1]));
            let code = u16::from_le_bytes([*t0, *t1]);
            let tag = Tag::from_code(code, u32::from_le_bytes(*id)).ok_or(BAD)?;
            if perm > RWX {
                return Err(BAD);
            }
            entries.push((tag, perm));
        }
        let acl = Self { entries };
        if acl.entries.is_empty() { Ok(None) } else { acl.validated().map(Some) }
    }

    fn validated(self) -> Result<Self, NsError> {
        let classes = || self.entries.iter().map(|(tag, _)| tag.class());
        let count = |class: u8| classes().filter(|of| *of == class).count();
        let named = count(1).saturating_add(count(3));
        let right = classes().is_sorted()
            && count(0) == 1
            && count(2) == 1
            && count(5) == 1
            && (count(4) == 1 || (count(4) == 0 && named == 0));
        if right { Ok(self) } else { Err(BAD) }
    }

    /// To an attribute's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for (tag, perm) in &self.entries {
            let (code, id) = tag.code();
            out.extend_from_slice(&code.to_le_bytes());
            let [p0, p1, ..] = perm.to_le_bytes();
            out.extend_from_slice(&[p0, p1]);
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    /// Whether the mode says it all.
    pub(super) fn is_mode(&self) -> bool {
        self.entries.iter().all(|(tag, _)| matches!(tag.class(), 0 | 2 | 5))
    }

    fn has_mask(&self) -> bool {
        self.entries.iter().any(|(tag, _)| *tag == Tag::Mask)
    }

    /// The permission bits that go with it: the group's are the mask's, where there is one.
    pub(super) fn mode(&self) -> u32 {
        let has_mask = self.has_mask();
        self.entries.iter().fold(0, |mode, (tag, perm)| match shift(*tag, has_mask) {
            Some(shift) => mode | (perm << shift),
            None => mode,
        })
    }

    /// What `chmod` makes of an access ACL.
    pub(super) fn set_mode(&mut self, mode: u32) {
        let has_mask = self.has_mask();
        for (tag, perm) in &mut self.entries {
            if let Some(shift) = shift(*tag, has_mask) {
                *perm = (mode >> shift) & RWX;
            }
        }
    }

    /// The access ACL of an inode made in a directory with this default ACL, and the permission
    /// bits of its mode: each class loses what `mode` does not grant it.
    pub(super) fn inherit(&self, mode: u32) -> (Self, u32) {
        let mut acl = self.clone();
        acl.set_mode(mode & self.mode());
        let mode = (mode & !RWX_ALL) | acl.mode();
        (acl, mode)
    }
}

/// Which bits of the mode an entry stands for.
fn shift(tag: Tag, has_mask: bool) -> Option<u32> {
    match tag {
        Tag::Owner => Some(6),
        Tag::Mask => Some(3),
        Tag::OwningGroup if !has_mask => Some(3),
        Tag::Other => Some(0),
        Tag::OwningGroup | Tag::User(_) | Tag::Group(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn acl(rows: &[(u16, u16, u32)]) -> Vec<u8> {
        let mut out = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in rows {
            out.extend_from_slice(&tag.to_le_bytes());
            out.extend_from_slice(&perm.to_le_bytes());
            out.extend_from_slice(&id.to_le_bytes());
        }
        out
    }

    #[test]
    fn mask_stands_for_the_group_in_the_mode() {
        let bytes =
            acl(&[(1, 7, NO_ID), (2, 6, 1000), (4, 7, NO_ID), (16, 5, NO_ID), (32, 4, NO_ID)]);
        let parsed = Acl::parse(&bytes).unwrap().unwrap();
        assert_eq!(parsed.mode(), 0o754);
        assert!(!parsed.is_mode());
        assert_eq!(parsed.encode(), bytes);
    }

    #[test]
    fn inheriting_narrows_mask_but_keeps_named_entries() {
        let bytes =
            acl(&[(1, 7, NO_ID), (2, 7, 1000), (4, 5, NO_ID), (16, 7, NO_ID), (32, 5, NO_ID)]);
        let (child, mode) = Acl::parse(&bytes).unwrap().unwrap().inherit(0o640);
        assert_eq!(mode, 0o640);
        let expect =
            acl(&[(1, 6, NO_ID), (2, 7, 1000), (4, 5, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID)]);
        assert_eq!(child.encode(), expect);
    }

    #[test]
    fn malformed_acls_are_refused() {
        let minimal = [(1, 7, NO_ID), (4, 5, NO_ID), (32, 5, NO_ID)];
        assert!(Acl::parse(&acl(&minimal)).unwrap().unwrap().is_mode());
        assert_eq!(Acl::parse(&acl(&[])).unwrap(), None);
        for rows in [
            &[(1, 7, NO_ID), (32, 5, NO_ID)][..],
            &[(4, 7, NO_ID), (1, 5, NO_ID), (32, 5, NO_ID)],
            &[(1, 7, NO_ID), (2, 7, 5), (4, 5, NO_ID), (32, 5, NO_ID)],
            &[(1, 8, NO_ID), (4, 5, NO_ID), (32, 5, NO_ID)],
            &[(1, 7, NO_ID), (4, 5, NO_ID), (32, 5, NO_ID), (32, 5, NO_ID)],
            &[(1, 7, NO_ID), (2, 7, NO_ID), (4, 5, NO_ID), (16, 7, NO_ID), (32, 5, NO_ID)],
            &[(3, 7, NO_ID), (4, 5, NO_ID), (32, 5, NO_ID)],
        ] {
            assert!(Acl::parse(&acl(rows)).is_err(), "{rows:?}");
        }
        let mut short = acl(&minimal);
        short.pop();
        assert!(Acl::parse(&short).is_err());
        assert!(Acl::parse(&[1, 0, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(Some(acl)) = Acl::parse(&bytes) {
                prop_assert_eq!(Acl::parse(&acl.encode()).unwrap(), Some(acl));
            }
        }
    }
}
