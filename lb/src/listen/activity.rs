//! What a connection of HTTP is doing, as far as it decides how long it may go on: Pingora waits for each read of a
//! request's head anew, and somebody who sends a byte now and then would hold a connection for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use pingora::http::ResponseHeader;
use pingora::protocols::Digest;
use pingora::protocols::raw_connect::ProxyDigest;

/// Looks within the time that a connection may be idle.
const LOOKS: u32 = 4;

/// The requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    running: AtomicUsize,
    begun: AtomicU64,
    /// Whether something has come since the last request.
    has_heard: AtomicBool,
}

impl Activity {
    /// What a request's session is reached by: the one thing of ours that Pingora hands through.
    pub(crate) fn digest(self: &Arc<Self>) -> pingora::Result<ProxyDigest> {
        let none = ResponseHeader::build(200, Some(0))?;
        Ok(ProxyDigest::new(Box::new(none), Some(Box::new(Arc::clone(self)))))
    }

    /// The one that a request belongs to.
    pub(crate) fn of(digest: Option<&Digest>) -> Option<&Self> {
        let ours = digest?.proxy_digest.as_ref()?.user_data.as_ref()?;
        ours.downcast_ref::<Arc<Self>>().map(AsRef::as_ref)
    }

    /// A request's head has come.
    pub(crate) fn begins(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A request is over.
    pub(crate) fn ends(&self) {
        self.has_heard.store(false, Ordering::Relaxed);
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Something has come.
    pub(crate) fn hears(&self) {
        self.has_heard.store(true, Ordering::Relaxed);
    }

    /// Whether a part of a request has come that is not all there.
    pub(crate) fn is_within_a_head(&self) -> bool {
        self.has_heard.load(Ordering::Relaxed) && self.running.load(Ordering::Relaxed) == 0
    }

    /// Whether it rests after a request: its client holds nothing back.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > 0 && !self.is_within_a_head()
    }

    /// Resolves when the connection has gone on for long enough without a request: `head` after its start, or
    /// `idle`, and not more than half of that over it, after its last one.
    pub(crate) async fn overdue(&self, head: Duration, idle: Duration) {
        tokio::time::sleep(head).await;
        let mut looks = Looks::default();
        while !looks.is_overdue(self.running.load(Ordering::Relaxed), self.begun.load(Ordering::Relaxed)) {
            tokio::time::sleep(idle / LOOKS).await;
        }
    }
}

/// What was seen of a connection.
#[derive(Debug, Default)]
struct Looks {
    begun: u64,
    quiet: u32,
}

impl Looks {
    fn is_overdue(&mut self, running: usize, begun: u64) -> bool {
        let is_quiet = running == 0 && begun == self.begun;
        self.quiet = if is_quiet { self.quiet + 1 } else { 0 };
        self.begun = begun;
        begun == 0 || self.quiet > LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(seen: &[(usize, u64)], expect: bool) {
        let mut looks = Looks::default();
        let overdue =
            seen.iter().map(|(running, begun)| looks.is_overdue(*running, *begun)).collect::<Vec<_>>();
        assert!(overdue.iter().rev().skip(1).all(|is_overdue| !is_overdue), "{overdue:?}");
        assert_eq!(overdue.last(), Some(&expect), "{seen:?}");
    }

    #[test]
    fn a_connection_without_a_request_is_overdue() {
        check(&[(0, 0)], true);
        check(&[(1, 1); 20], false);
        check(&[(0, 1), (0, 1), (0, 1), (0, 1), (0, 1)], false);
        check(&[(0, 1), (0, 1), (0, 1), (0, 1), (0, 1), (0, 1)], true);
        check(&[(0, 1), (0, 1), (0, 1), (0, 2), (0, 2), (0, 2), (0, 2)], false);
        check(&[(0, 1), (0, 1), (1, 1), (0, 1), (0, 1), (0, 1), (0, 1)], false);
    }
}
