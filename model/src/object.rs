//! Identity of the objects that hold file data.

use std::fmt;

use crate::Fid;

/// One object on an OST. Implied by the layout: nobody allocates it, its first write creates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// The inode whose data it holds.
    pub fid: Fid,
    /// Component of the layout.
    pub component: u16,
    /// Stripe within the component.
    pub stripe: u16,
    /// Generation of the component's object set: a late destroy can never hit newer data.
    pub generation: u32,
}

impl ObjectId {
    /// Twenty-four bytes, big endian: fid, component, stripe, generation. Sorts as the id does.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut out = [0; 24];
        let tail = (u64::from(self.component) << 48)
            | (u64::from(self.stripe) << 32)
            | u64::from(self.generation);
        let (head, rest) = out.split_at_mut(16);
        head.copy_from_slice(&self.fid.to_bytes());
        rest.copy_from_slice(&tail.to_be_bytes());
        out
    }
}

/// `seq-oid-ver.component.stripe.generation`, in hexadecimal without prefixes: a legal file name.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fid { seq, oid, ver } = self.fid;
        let Self { component, stripe, generation, .. } = self;
        write!(f, "{seq:x}-{oid:x}-{ver:x}.{component:x}.{stripe:x}.{generation:x}")
    }
}

/// The text is not an object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an object id")]
pub struct BadObjectId(pub String);

impl std::str::FromStr for ObjectId {
    type Err = BadObjectId;

    fn from_str(text: &str) -> Result<Self, BadObjectId> {
        fn hex<T: TryFrom<u64>>(part: Option<&str>) -> Option<T> {
            u64::from_str_radix(part?, 16).ok()?.try_into().ok()
        }
        fn parse(text: &str) -> Option<ObjectId> {
            let mut parts = text.split(['-', '.']);
            let fid =
                Fid { seq: hex(parts.next())?, oid: hex(parts.next())?, ver: hex(parts.next())? };
            let id = ObjectId {
                fid,
                component: hex(parts.next())?,
                stripe: hex(parts.next())?,
                generation: hex(parts.next())?,
            };
            // One spelling each: what prints differently is not an id.
            (parts.next().is_none() && id.to_string() == text).then_some(id)
        }
        parse(text).ok_or_else(|| BadObjectId(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_has_one_spelling() {
        let id = ObjectId {
            fid: Fid { seq: 0x2_0000_0400, oid: 7, ver: 0 },
            component: 1,
            stripe: 3,
            generation: 0xab,
        };
        assert_eq!(id.to_string(), "200000400-7-0.1.3.ab");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("200000400-07-0.1.3.ab".parse::<ObjectId>().is_err());
        assert!("200000400-7-0.1.3".parse::<ObjectId>().is_err());
    }
}
