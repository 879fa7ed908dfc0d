//! Copying between open files without going through the application.

use bytes::Bytes;
use nacre_model::Errno;

use crate::handle::OpenFile;
use crate::types::WriteFlags;
use crate::{Client, ClientError, Result};

/// Bytes read while those before are being written.
const STEP_BYTES: u64 = 4 << 20;

impl Client {
    /// Copies up to `len` bytes; returns how many, fewer only at the end of the source.
    ///
    /// # Errors
    /// EINVAL when the ranges overlap in one file.
    pub async fn copy_file_range(
        &self,
        from: (&OpenFile, u64),
        to: (&OpenFile, u64),
        len: u64,
    ) -> Result<u64> {
        let ((source, from), (target, to)) = (from, to);
        source.must_read()?;
        target.must_write()?;
        if source.fid() == target.fid()
            && from < to.saturating_add(len)
            && to < from.saturating_add(len)
        {
            return Err(ClientError::refused(Errno::EINVAL, "the ranges overlap"));
        }
        // The source ends where it ended before: the copy itself may make the file longer.
        let size = self.getattr(source.fid()).await?.size;
        let len = len.min(size.saturating_sub(from));
        let mut done: u64 = 0;
        let mut ready: Vec<Bytes> = self.read(source, from, len.min(STEP_BYTES)).await?;
        loop {
            let got: u64 = ready.iter().map(|segment| segment.len() as u64).sum();
            if got == 0 {
                return Ok(done);
            }
            let next = done.saturating_add(got);
            let ahead = async {
                let want = len.saturating_sub(next).min(STEP_BYTES);
                self.read(source, from.saturating_add(next), want).await
            };
            let write = self.write_segments(target, to.saturating_add(done), &ready);
            let (written, read) = tokio::join!(write, ahead);
            match written {
                Ok(()) => done = next,
                Err(error) if done == 0 => return Err(error),
                // What was copied is told first; the rest fails when it is asked for.
                Err(_) => return Ok(done),
            }
            match read {
                Ok(segments) => ready = segments,
                Err(_) => return Ok(done),
            }
        }
    }

    async fn write_segments(&self, file: &OpenFile, at: u64, segments: &[Bytes]) -> Result<()> {
        let mut at = at;
        for segment in segments {
            let len = segment.len() as u64;
            self.write(file, at, segment.clone(), WriteFlags::default()).await?;
            at = at.saturating_add(len);
        }
        Ok(())
    }
}
