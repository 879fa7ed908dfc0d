//! Patience: how long one attempt may take, how often a call is repeated, how long the pauses are.

use std::time::Duration;

use rand::Rng;

use crate::error::{Call, S3Error, Trouble};

/// Limits of every call of S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patience {
    /// For a connection to stand.
    pub connect: Duration,
    /// For the answer to one attempt, beside the time that its bytes may take.
    pub answer: Duration,
    /// What a slow but living connection moves at least, in bytes per second.
    pub rate_min: u32,
    /// How often a call is made at most, the first time included.
    pub attempts: u32,
    /// Longest pause before the second attempt; it doubles with each further one.
    pub pause_first: Duration,
    /// Longest pause before any attempt.
    pub pause_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            rate_min: 64 << 10,
            attempts: 6,
            pause_first: Duration::from_millis(200),
            pause_max: Duration::from_secs(10),
        }
    }
}

impl Patience {
    /// How long an attempt may take that moves so many bytes.
    pub fn limit(&self, bytes: u64) -> Duration {
        let seconds = bytes.div_ceil(u64::from(self.rate_min.max(1)));
        self.answer.saturating_add(Duration::from_secs(seconds))
    }

    /// Longest pause after so many failed attempts.
    fn pause_longest(&self, failed: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
        self.pause_first.saturating_mul(doubled).min(self.pause_max)
    }

    /// Drawn evenly from nothing to the longest: a thousand transfers that were refused together
    /// do not come back together.
    fn pause(&self, failed: u32) -> Duration {
        self.pause_longest(failed).mul_f64(rand::rng().random())
    }

    /// Makes the call until it succeeds, fails for good, or was made often enough; then the last
    /// error is the result. `attempt` is told how often the call has failed before.
    ///
    /// # Cancel safety
    /// S3 may or may not have done what the attempt under way asked for.
    pub(crate) async fn ask<T, F>(
        &self,
        call: &Call,
        bytes: u64,
        mut attempt: impl FnMut(u32) -> F,
    ) -> Result<T, S3Error>
    where
        F: Future<Output = Result<T, S3Error>>,
    {
        let mut failed = 0;
        loop {
            let limit = self.limit(bytes);
            // The SDK's futures have many kilobytes, which callers would carry along.
            let made = Box::pin(attempt(failed));
            let result = match tokio::time::timeout(limit, made).await {
                Ok(result) => result,
                Err(_) => Err(timeout(call, limit)),
            };
            failed = failed.saturating_add(1);
            match result {
                Err(error) if error.is_transient() && failed < self.attempts => {
                    tracing::debug!(%error, failed, "asking S3 again");
                    tokio::time::sleep(self.pause(failed)).await;
                }
                result => return result,
            }
        }
    }
}

fn timeout(call: &Call, limit: Duration) -> S3Error {
    S3Error::Transient { call: call.clone(), trouble: Trouble::Timeout(limit), source: None }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::error::Operation;

    fn call() -> Call {
        Call { operation: Operation::GetObject, bucket: "data".into(), key: "a".into() }
    }

    fn slow_down() -> S3Error {
        S3Error::Transient { call: call(), trouble: Trouble::SlowDown, source: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_is_repeated_until_it_succeeds() {
        let (patience, call) = (Patience::default(), call());
        let result = patience.ask(&call, 0, |failed| async move {
            if failed < 3 { Err(slow_down()) } else { Ok(failed) }
        });
        assert_eq!(result.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_are_counted_and_the_last_error_is_told() {
        let made = Cell::new(0);
        let patience = Patience::default();
        let call = call();
        let result = patience.ask(&call, 0, |_| {
            made.set(made.get() + 1);
            std::future::ready(Err::<(), _>(slow_down()))
        });
        assert!(matches!(result.await, Err(S3Error::Transient { .. })));
        assert_eq!(made.get(), patience.attempts);
    }

    #[tokio::test(start_paused = true)]
    async fn what_will_not_change_is_not_asked_again() {
        let made = Cell::new(0);
        let (patience, call) = (Patience::default(), call());
        let result = patience.ask(&call, 0, |_| {
            made.set(made.get() + 1);
            std::future::ready(Err::<(), _>(S3Error::NotFound { call: call.clone() }))
        });
        assert!(matches!(result.await, Err(S3Error::NotFound { .. })));
        assert_eq!(made.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_limited_for_each_attempt() {
        let patience = Patience { attempts: 2, ..Patience::default() };
        let begun = tokio::time::Instant::now();
        let call = call();
        let result = patience.ask(&call, 128 << 10, |_| std::future::pending::<Result<(), _>>());
        let limit = Duration::from_secs(22);
        let trouble = match result.await {
            Err(S3Error::Transient { trouble, .. }) => trouble,
            other => panic!("{other:?}"),
        };
        assert_eq!(trouble, Trouble::Timeout(limit));
        assert!(begun.elapsed() <= limit * 2 + patience.pause_first);
    }

    #[test]
    fn pauses_double_up_to_their_limit() {
        let patience = Patience::default();
        let pauses: Vec<_> =
            (1..=8).map(|failed| patience.pause_longest(failed).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(patience.pause_longest(u32::MAX), patience.pause_max);
    }
}
