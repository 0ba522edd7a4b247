//! One file on its way from its origin: what has come, and who reads it meanwhile. One [`Writer`] fills, any
//! number of [`Fill`]s watch. Only `Complete` ends a body; a writer that goes away in any other state
//! breaks its followers off.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use sluicegate_cluster::viewer::BrokenOff;
use tokio::sync::watch;

use crate::failure::Failure;
use crate::limits;
use crate::object::{Head, Object};

/// How far it is.
#[derive(Debug)]
enum State {
    /// The origin has not answered yet.
    Asking,
    /// The body is coming.
    Writing(Head, Growing),
    /// It is all here.
    Complete(Arc<Object>),
    /// It will never be.
    Aborted(Failure),
}

/// A body that is coming, in the pieces it came in.
#[derive(Debug)]
pub(crate) struct Growing {
    chunks: Vec<Bytes>,
    received: usize,
    expected: Option<usize>,
    most: usize,
}

impl Growing {
    /// None of it yet, `expected` bytes in all when that is known, never more than `most`.
    pub(crate) fn new(expected: Option<u64>, most: usize) -> Result<Self, Failure> {
        let expected = expected.map(usize::try_from).transpose().map_err(|_| Failure::TooLarge)?;
        if expected.is_some_and(|bytes| bytes > most) {
            return Err(Failure::TooLarge);
        }
        Ok(Self { chunks: Vec::new(), received: 0, expected, most })
    }

    fn push(&mut self, chunk: Bytes) -> Result<(), Failure> {
        if chunk.is_empty() {
            return Ok(());
        }
        let received = self.received.saturating_add(chunk.len());
        if received > self.most {
            return Err(Failure::TooLarge);
        }
        if self.expected.is_some_and(|bytes| received > bytes) || self.chunks.len() >= limits::FILL_CHUNKS {
            return Err(Failure::Malformed);
        }
        self.received = received;
        self.chunks.push(chunk);
        Ok(())
    }

    fn is_short(&self) -> bool {
        self.expected.is_some_and(|bytes| self.received < bytes)
    }

    fn whole(&self) -> Bytes {
        if let [only] = self.chunks.as_slice() {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(self.received);
        self.chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }
}

/// The side that fills.
pub(crate) struct Writer {
    state: watch::Sender<State>,
}

impl Writer {
    /// The origin's answer has begun.
    pub(crate) fn start(&self, head: Head, body: Growing) {
        self.state.send_replace(State::Writing(head, body));
    }

    /// A piece of the body has come.
    ///
    /// # Errors
    /// [`Failure::TooLarge`] or [`Failure::Malformed`] when it is more than was agreed.
    pub(crate) fn push(&self, chunk: Bytes) -> Result<(), Failure> {
        let mut pushed = Err(Failure::Malformed);
        self.state.send_modify(|state| {
            if let State::Writing(_, body) = state {
                pushed = body.push(chunk);
            }
        });
        pushed
    }

    /// Bytes that have come.
    pub(crate) fn received(&self) -> u64 {
        match &*self.state.borrow() {
            State::Writing(_, body) => u64::try_from(body.received).unwrap_or(u64::MAX),
            _ => 0,
        }
    }

    /// Whether fewer bytes have come than the origin announced.
    pub(crate) fn is_short(&self) -> bool {
        matches!(&*self.state.borrow(), State::Writing(_, body) if body.is_short())
    }

    /// What has come, in one piece.
    ///
    /// # Errors
    /// [`Failure::BrokeOff`] when that is not all of it.
    pub(crate) fn whole(&self) -> Result<(Head, Bytes), Failure> {
        match &*self.state.borrow() {
            State::Writing(head, body) if !body.is_short() => Ok((head.clone(), body.whole())),
            _ => Err(Failure::BrokeOff),
        }
    }

    /// It is all here: `object` holds the same bytes as the pieces.
    pub(crate) fn complete(self, object: Arc<Object>) {
        self.state.send_replace(State::Complete(object));
    }

    /// It will never be here.
    pub(crate) fn abort(self, failure: Failure) {
        self.state.send_replace(State::Aborted(failure));
    }
}

/// What a follower can begin with.
pub(crate) enum Started {
    /// All of it.
    Whole(Arc<Object>),
    /// The head, the length when it is known, and the body as it comes.
    Coming(Head, Option<usize>),
}

/// The side that watches. Dropping one never stops the fill.
#[derive(Clone)]
pub(crate) struct Fill {
    state: watch::Receiver<State>,
    /// When it was begun.
    pub(crate) begun: Instant,
}

impl Fill {
    /// A fill that begins at `now`.
    pub(crate) fn new(now: Instant) -> (Writer, Self) {
        let (sender, state) = watch::channel(State::Asking);
        (Writer { state: sender }, Self { state, begun: now })
    }

    /// Waits for the origin's answer to begin.
    pub(crate) async fn started(&mut self) -> Result<Started, Failure> {
        let answered = self.state.wait_for(|state| !matches!(state, State::Asking)).await;
        match answered.as_deref() {
            Ok(State::Writing(head, body)) => Ok(Started::Coming(head.clone(), body.expected)),
            Ok(State::Complete(object)) => Ok(Started::Whole(Arc::clone(object))),
            Ok(State::Aborted(failure)) => Err(*failure),
            Ok(State::Asking) | Err(_) => Err(Failure::BrokeOff),
        }
    }

    /// Waits for all of it.
    pub(crate) async fn whole(&mut self) -> Result<Arc<Object>, Failure> {
        let is_over = |state: &State| matches!(state, State::Complete(_) | State::Aborted(_));
        match self.state.wait_for(is_over).await.as_deref() {
            Ok(State::Complete(object)) => Ok(Arc::clone(object)),
            Ok(State::Aborted(failure)) => Err(*failure),
            Ok(State::Asking | State::Writing(..)) | Err(_) => Err(Failure::BrokeOff),
        }
    }

    /// The body: at once what is here, then the rest as it comes.
    pub(crate) fn pieces(self) -> BoxStream<'static, Result<Bytes, BrokenOff>> {
        let reader = Reader { state: self.state, chunk: 0, bytes: 0, is_over: false };
        stream::unfold(reader, |mut reader| async move {
            let piece = reader.next().await?;
            Some((piece, reader))
        })
        .boxed()
    }
}

struct Reader {
    state: watch::Receiver<State>,
    /// The next piece, as long as the body is in pieces.
    chunk: usize,
    /// Bytes handed on: where the rest begins when it is whole.
    bytes: usize,
    is_over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        while !self.is_over {
            if let Some(piece) = self.take() {
                return Some(piece);
            }
            if !self.is_over && self.state.changed().await.is_err() {
                self.is_over = true;
                return Some(Err(BrokenOff));
            }
        }
        None
    }

    /// What there is to hand on now.
    fn take(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        let piece = match &*self.state.borrow_and_update() {
            State::Asking => None,
            State::Writing(_, body) => body.chunks.get(self.chunk).cloned().map(Ok),
            State::Complete(object) => {
                self.is_over = true;
                let rest = object.body.slice(self.bytes.min(object.body.len())..);
                (!rest.is_empty()).then_some(Ok(rest))
            }
            State::Aborted(_) => {
                self.is_over = true;
                Some(Err(BrokenOff))
            }
        };
        if let Some(Ok(bytes)) = &piece {
            self.chunk = self.chunk.saturating_add(1);
            self.bytes = self.bytes.saturating_add(bytes.len());
        }
        piece
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;
    use sluicegate_cluster::clock;

    use super::*;
    use crate::object::Format;
    use crate::range::{Wanted, wanted};

    fn head() -> Head {
        let text = HeaderValue::from_static("\"a\"");
        Head { etag: text.clone(), date: text, asked: clock::now(), format: Format::Cmaf }
    }

    fn fill(expected: Option<u64>) -> (Writer, Fill) {
        let (writer, fill) = Fill::new(clock::now());
        writer.start(head(), Growing::new(expected, 1_000).unwrap());
        (writer, fill)
    }

    fn land(writer: Writer) -> Arc<Object> {
        let (head, body) = writer.whole().unwrap();
        let object = Arc::new(Object::new(head, body, None));
        writer.complete(Arc::clone(&object));
        object
    }

    #[test]
    fn a_follower_gets_what_is_here_then_the_rest_then_the_end() {
        let (writer, fill) = fill(Some(4));
        writer.push(Bytes::from_static(b"ab")).unwrap();
        let mut pieces = fill.pieces();
        assert_eq!(pieces.next().now_or_never(), Some(Some(Ok(Bytes::from_static(b"ab")))));
        assert_eq!(pieces.next().now_or_never(), None, "there is no more yet");
        writer.push(Bytes::from_static(b"cd")).unwrap();
        land(writer);
        assert_eq!(pieces.next().now_or_never(), Some(Some(Ok(Bytes::from_static(b"cd")))));
        assert_eq!(pieces.next().now_or_never(), Some(None));
    }

    #[test]
    fn followers_of_an_aborted_or_forsaken_fill_break_off() {
        let (aborted, first) = fill(None);
        let (forsaken, second) = fill(None);
        aborted.abort(Failure::BrokeOff);
        drop(forsaken);
        for fill in [first, second] {
            assert_eq!(fill.clone().whole().now_or_never().unwrap().err(), Some(Failure::BrokeOff));
            let mut pieces = fill.pieces();
            assert_eq!(pieces.next().now_or_never(), Some(Some(Err(BrokenOff))));
            assert_eq!(pieces.next().now_or_never(), Some(None));
        }
    }

    #[test]
    fn a_short_body_is_never_whole() {
        let (writer, _fill) = fill(Some(4));
        writer.push(Bytes::from_static(b"ab")).unwrap();
        assert!(writer.is_short());
        assert_eq!(writer.whole().err(), Some(Failure::BrokeOff));
    }

    #[test]
    fn a_body_never_grows_past_what_was_agreed() {
        assert_eq!(Growing::new(Some(1_001), 1_000).err(), Some(Failure::TooLarge));
        let (writer, _fill) = fill(None);
        assert_eq!(writer.push(Bytes::from(vec![0; 1_001])), Err(Failure::TooLarge));
        let (writer, _fill) = fill(Some(2));
        assert_eq!(writer.push(Bytes::from_static(b"abc")), Err(Failure::Malformed));
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_body_to_whoever_joins_whenever(
            sizes in proptest::collection::vec(0_usize..40, 0..20),
            join_at in 0_usize..21,
            range in "bytes=[0-9]{1,3}-[0-9]{0,3}",
        ) {
            let total: usize = sizes.iter().sum();
            let body: Vec<u8> = (0..total).map(|n| n as u8).collect();
            let (writer, fill) = fill(Some(total as u64));
            let (mut at, mut got, mut follower) = (0, Vec::new(), None);
            for (n, size) in sizes.iter().enumerate() {
                if n == join_at {
                    follower = Some(fill.clone().pieces());
                }
                writer.push(Bytes::copy_from_slice(&body[at..at + size])).unwrap();
                at += size;
                if let Some(Some(Some(piece))) = follower.as_mut().map(|f| f.next().now_or_never()) {
                    got.extend_from_slice(&piece.unwrap());
                }
            }
            let object = land(writer);
            let mut follower = follower.unwrap_or_else(|| fill.pieces());
            while let Some(piece) = follower.next().now_or_never().unwrap() {
                got.extend_from_slice(&piece.unwrap());
            }
            prop_assert_eq!(&got, &body);
            let headers = HeaderMap::from_iter([(http::header::RANGE, range.parse().unwrap())]);
            if let Wanted::Part(part) = wanted(&headers, b"", total) {
                prop_assert_eq!(&object.body.slice(part.clone())[..], &body[part]);
            }
        }
    }
}
