//! Frames: what goes over the wire.
//!
//! ```text
//! 0..4    length of what follows the header      little endian
//! 4..12   number of the call                     little endian
//! 12      kind: 1 call, 2 answer, 3 failure, 4 cancel, 5 ping, 6 pong
//! 13..    call:    length of the path (1 byte), path, message
//!         answer:  message
//!         failure: gRPC code (4 bytes), length of the text (4 bytes), text, details
//! ```
//! Messages are as gRPC frames them: a byte that says whether they are compressed (they never
//! are), four with the length, the message.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use nacre_proto::MESSAGE_BYTES_MAX;
use tonic::{Code, Status};

const HEADER: usize = 13;
/// Room for the path, or for what is wrong.
const FRAME_MAX: usize = MESSAGE_BYTES_MAX + (64 << 10);

/// One frame.
#[derive(Debug)]
pub(super) enum Frame {
    Call { id: u64, path: Bytes, message: Bytes },
    Answer { id: u64, message: Bytes },
    Failure { id: u64, status: Status },
    Cancel { id: u64 },
    Ping,
    Pong,
}

/// What no peer sends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum FrameError {
    /// The header says so.
    #[error("a frame of {0} bytes is longer than any message")]
    TooLong(usize),
    /// It speaks something else, or a later version.
    #[error("a frame of kind {0}, which there is not")]
    Kind(u8),
    /// Its parts do not fit into it.
    #[error("a frame of kind {0} is cut off")]
    Short(u8),
}

impl Frame {
    const fn kind(&self) -> u8 {
        match self {
            Self::Call { .. } => 1,
            Self::Answer { .. } => 2,
            Self::Failure { .. } => 3,
            Self::Cancel { .. } => 4,
            Self::Ping => 5,
            Self::Pong => 6,
        }
    }

    /// The bytes of the frame: two parts, so that the message need not be copied.
    pub(super) fn encode(self) -> (Bytes, Bytes) {
        let kind = self.kind();
        let mut head = BytesMut::with_capacity(HEADER + 64);
        head.put_bytes(0, HEADER);
        let (id, message) = match self {
            Self::Call { id, path, message } => {
                head.put_u8(u8::try_from(path.len()).unwrap_or(u8::MAX));
                head.put(path);
                (id, message)
            }
            Self::Answer { id, message } => (id, message),
            Self::Failure { id, status } => {
                let text = status.message().as_bytes();
                head.put_u32_le(u32::try_from(i32::from(status.code())).unwrap_or_default());
                head.put_u32_le(u32::try_from(text.len()).unwrap_or(u32::MAX));
                head.put(text);
                (id, Bytes::copy_from_slice(status.details()))
            }
            Self::Cancel { id } => (id, Bytes::new()),
            Self::Ping | Self::Pong => (0, Bytes::new()),
        };
        let len = head.len().saturating_sub(HEADER).saturating_add(message.len());
        let mut header = head.get_mut(..HEADER).expect("it was put there");
        header.put_u32_le(u32::try_from(len).unwrap_or(u32::MAX));
        header.put_u64_le(id);
        header.put_u8(kind);
        (head.freeze(), message)
    }

    /// Takes one frame from the front of what was received, if it is there whole. Makes room for
    /// the rest if it is not.
    pub(super) fn take(received: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(mut header) = received.get(..HEADER) else {
            return Ok(None);
        };
        let len = usize::try_from(header.get_u32_le()).unwrap_or(usize::MAX);
        let (id, kind) = (header.get_u64_le(), header.get_u8());
        if len > FRAME_MAX {
            return Err(FrameError::TooLong(len));
        }
        let whole = HEADER.saturating_add(len);
        if received.len() < whole {
            received.reserve(whole.saturating_sub(received.len()));
            return Ok(None);
        }
        let mut rest = received.split_to(whole).freeze();
        rest.advance(HEADER);
        Self::parse(id, kind, rest).map(Some)
    }

    fn parse(id: u64, kind: u8, mut rest: Bytes) -> Result<Self, FrameError> {
        let short = FrameError::Short(kind);
        match kind {
            1 => {
                let len = usize::from(rest.try_get_u8().map_err(|_| short)?);
                if rest.len() < len {
                    return Err(FrameError::Short(kind));
                }
                let path = rest.split_to(len);
                Ok(Self::Call { id, path, message: rest })
            }
            2 => Ok(Self::Answer { id, message: rest }),
            3 => {
                if rest.len() < 8 {
                    return Err(short);
                }
                let code = Code::from_i32(rest.get_u32_le().cast_signed());
                let len = usize::try_from(rest.get_u32_le()).unwrap_or(usize::MAX);
                if rest.len() < len {
                    return Err(short);
                }
                let text = String::from_utf8_lossy(&rest.split_to(len)).into_owned();
                Ok(Self::Failure { id, status: Status::with_details(code, text, rest) })
            }
            4 => Ok(Self::Cancel { id }),
            5 => Ok(Self::Ping),
            6 => Ok(Self::Pong),
            other => Err(FrameError::Kind(other)),
        }
    }
}
