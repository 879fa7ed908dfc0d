//! Reading: ranges of an object, believed only if they are what was asked for.

use std::ops::Range;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};

use super::{Bucket, answer, crc32c, length};
use crate::error::{Call, Operation, S3Error, Trouble};
use crate::object::ETag;

/// Which bytes, and of which object.
#[derive(Debug, Clone)]
struct Question<'a> {
    range: Range<u64>,
    etag: Option<&'a ETag>,
    /// Whether the range is the object, so that it need not be named.
    whole: bool,
}

impl Bucket {
    /// Bytes of a range that lies within the object; of the object with that `ETag`, if one is
    /// given, else [`S3Error::Changed`].
    ///
    /// What the server ignores is checked here: the `ETag`, the range and the length.
    pub async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
        etag: Option<&ETag>,
    ) -> Result<Bytes, S3Error> {
        self.get(key, &Question { range, etag, whole: false }).await
    }

    /// All bytes of an object of that size. Servers send a checksum only with whole objects: it
    /// is checked if there is one.
    pub async fn get_whole(
        &self,
        key: &str,
        size: u64,
        etag: Option<&ETag>,
    ) -> Result<Bytes, S3Error> {
        self.get(key, &Question { range: 0..size, etag, whole: true }).await
    }

    async fn get(&self, key: &str, question: &Question<'_>) -> Result<Bytes, S3Error> {
        let call = self.call(Operation::GetObject, key);
        if question.range.is_empty() {
            return self.get_nothing(call, question).await;
        }
        let bytes = span(&question.range);
        let attempt = async |_| {
            let answer = self.ask_for(&call, question).await?;
            question.check(&call, &answer)?;
            let sum = answer.checksum_crc32_c().map(str::to_owned);
            let body = read(&call, answer.body, bytes).await?;
            // A dash in it: a sum of the sums of parts.
            let simple = sum.filter(|sum| question.whole && !sum.contains('-'));
            match simple {
                Some(sum) if sum != crc32c(&body) => {
                    Err(S3Error::WrongBytes { call: call.clone(), what: "CRC-32C" })
                }
                Some(_) | None => Ok(body),
            }
        };
        self.patience.ask(&call, bytes, attempt).await
    }

    async fn ask_for(
        &self,
        call: &Call,
        question: &Question<'_>,
    ) -> Result<GetObjectOutput, S3Error> {
        let last = question.range.end.saturating_sub(1);
        let range = (!question.whole).then(|| format!("bytes={}-{last}", question.range.start));
        let request = self.client.get_object().bucket(&call.bucket).key(&call.key);
        let request = request.set_range(range).set_if_match(question.etag.map(ETag::quoted));
        // Not by the SDK's own option, with which it would check, and hide what it found.
        let request = request.customize().mutate_request(|request| {
            request.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        });
        request.send().await.map_err(|error| answer::refused(call, error))
    }

    /// No range names no bytes: only whether the object is there, and is the right one.
    async fn get_nothing(&self, call: Call, question: &Question<'_>) -> Result<Bytes, S3Error> {
        let head = self.head(&call.key).await?;
        let other = question.etag.is_some_and(|etag| *etag != head.stored.etag);
        if other || (question.whole && head.stored.size != 0) {
            return Err(S3Error::Changed { call });
        }
        Ok(Bytes::new())
    }
}

impl Question<'_> {
    /// Whether the answer is to this question, as far as its head tells.
    fn check(&self, call: &Call, answer: &GetObjectOutput) -> Result<(), S3Error> {
        let etag = answer::etag(call, answer.e_tag())?;
        if self.etag.is_some_and(|expected| *expected != etag) {
            return Err(S3Error::Changed { call: call.clone() });
        }
        let sent = match answer.content_range() {
            Some(text) => content_range(text),
            // All of it, whatever was asked for.
            None => Some(0..answer::length(call, answer.content_length())?),
        };
        match sent {
            Some(sent) if sent == self.range => Ok(()),
            // The object ends elsewhere than it did.
            Some(sent) if sent.start == self.range.start && answer.content_range().is_some() => {
                Err(S3Error::Changed { call: call.clone() })
            }
            Some(_) if self.whole => Err(S3Error::Changed { call: call.clone() }),
            Some(_) | None => {
                Err(S3Error::WrongBytes { call: call.clone(), what: "another range" })
            }
        }
    }
}

/// `bytes FIRST-LAST/SIZE` as a range.
fn content_range(text: &str) -> Option<Range<u64>> {
    let (range, _) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

fn span(range: &Range<u64>) -> u64 {
    range.end.saturating_sub(range.start)
}

/// The body, which must be so long.
async fn read(call: &Call, mut body: ByteStream, expected: u64) -> Result<Bytes, S3Error> {
    let mut bytes = BytesMut::with_capacity(usize::try_from(expected).unwrap_or_default());
    loop {
        match body.next().await {
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            None if length(&bytes) == expected => return Ok(bytes.freeze()),
            ended => {
                let trouble = Trouble::Truncated { got: length(&bytes), expected };
                let source = ended.and_then(Result::err).map(Into::into);
                return Err(S3Error::Transient { call: call.clone(), trouble, source });
            }
        }
        if length(&bytes) > expected {
            return Err(S3Error::WrongBytes { call: call.clone(), what: "more than asked for" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_and_odd_ones_are_not() {
        assert_eq!(content_range("bytes 0-9/100"), Some(0..10));
        assert_eq!(content_range("bytes 5-5/*"), Some(5..6));
        for odd in ["", "bytes */100", "bytes 1-", "bytes a-b/c", "items 0-9/100"] {
            assert_eq!(content_range(odd), None, "{odd}");
        }
        assert_eq!(content_range("bytes 0-18446744073709551615/1"), None);
    }
}
