//! The edge's Pingora front door: answers a viewer from the edge in this very process, with no network hop.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use http::header::CONTENT_LENGTH;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use sluicegate_cluster::viewer::{BrokenOff, ViewerBody, ViewerDoor, ViewerRequest, ViewerResponse};

/// What was sent.
pub(super) struct Sent {
    /// The status.
    pub(super) status: u16,
    /// Bytes of the body.
    pub(super) body_bytes: u64,
}

/// Answers the request in `session` from `door`.
///
/// # Errors
/// When the viewer leaves, or the body breaks off: the connection then must not end as if it were complete.
pub(super) async fn serve(session: &mut Session, door: &dyn ViewerDoor) -> Result<Sent> {
    // A body on a GET is legal and meaningless. Left unread, it would be taken for the next request
    // (CVE-2025-4366 was that).
    session.as_downstream_mut().drain_request_body().await?;
    let request = viewer_request(session);
    let answer = tokio::select! {
        answer = door.answer(request) => answer,
        left = viewer_leaves(session) => return Err(left),
    };
    write(session, answer).await
}

fn viewer_request(session: &Session) -> ViewerRequest {
    let head = session.req_header();
    ViewerRequest {
        method: head.method.clone(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().map(ToOwned::to_owned),
        headers: head.headers.clone(),
    }
}

/// Resolves when the viewer closes or resets.
async fn viewer_leaves(session: &mut Session) -> Box<Error> {
    let downstream = session.as_downstream_mut();
    let done = downstream.is_body_done();
    match downstream.read_body_or_idle(done).await {
        Err(left) => left,
        Ok(_) => Error::explain(ErrorType::InvalidHTTPHeader, "bytes after the request's end"),
    }
}

/// Sends `answer`.
///
/// # Errors
/// As [`serve`].
pub(super) async fn write(session: &mut Session, answer: ViewerResponse) -> Result<Sent> {
    let status = answer.status.as_u16();
    let mut head = ResponseHeader::build(answer.status, Some(answer.headers.len()))?;
    for (name, value) in &answer.headers {
        head.append_header(name, value)?;
    }
    let body_bytes = match answer.body {
        ViewerBody::Empty => {
            session.write_response_header(Box::new(head), true).await?;
            0
        }
        ViewerBody::Whole(body) => {
            let length = body.len() as u64;
            session.write_response_header(Box::new(head), false).await?;
            session.write_response_body(Some(body), true).await?;
            length
        }
        ViewerBody::Pieces(pieces) => {
            let length = answer.headers.get(CONTENT_LENGTH).and_then(|n| n.to_str().ok()?.parse().ok());
            session.write_response_header(Box::new(head), false).await?;
            write_pieces(session, pieces, length).await?
        }
    };
    Ok(Sent { status, body_bytes })
}

async fn write_pieces(
    session: &mut Session,
    mut pieces: BoxStream<'static, std::result::Result<Bytes, BrokenOff>>,
    length: Option<u64>,
) -> Result<u64> {
    let mut sent = 0;
    loop {
        let piece = tokio::select! {
            piece = pieces.next() => piece,
            // Whoever has all of a body may ask for the next file before the body has been seen to end here.
            left = viewer_leaves(session), if length != Some(sent) => return Err(left),
        };
        match piece {
            Some(Ok(bytes)) => {
                sent += bytes.len() as u64;
                session.write_response_body(Some(bytes), false).await?;
            }
            Some(Err(broken)) => {
                return Err(Error::because(ErrorType::InternalError, "the fill broke off", broken));
            }
            None => {
                session.write_response_body(None, true).await?;
                return Ok(sent);
            }
        }
    }
}
