//! The driver's errors, made into the store's. The driver's own text carries whole replies and topologies;
//! what is passed on is one short line.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::store::{MongoAddress, StoreError};

/// The longest text of an error that is passed on, bytes.
const TEXT_BYTES_MAX: usize = 300;

/// Codes by which a server says that a login is wrong or may not do this: `Unauthorized`,
/// `AuthenticationFailed` and Atlas's own.
const REFUSAL_CODES: [i32; 3] = [13, 18, 8000];

const DUPLICATE_KEY: i32 = 11_000;
const COMMAND_NOT_FOUND: i32 = 59;

pub(super) fn store_error(error: &Error) -> StoreError {
    let text = text(error);
    match error.kind.as_ref() {
        ErrorKind::Authentication { .. } => StoreError::Refused(text),
        ErrorKind::Command(reply) if REFUSAL_CODES.contains(&reply.code) => StoreError::Refused(text),
        ErrorKind::InvalidArgument { .. } | ErrorKind::InvalidTlsConfig { .. } => StoreError::Address(text),
        _ => StoreError::Unavailable(text),
    }
}

/// Why the servers of `address` cannot be found. What the DNS has answered is the address's fault: asking again
/// brings the same. The driver tells it from a DNS that does not answer by its text only.
pub(super) fn looked_up(error: &Error, address: &MongoAddress) -> StoreError {
    let ErrorKind::DnsResolve { message, .. } = error.kind.as_ref() else { return store_error(error) };
    if message.contains("no records found") {
        let bare = address.to_string();
        let host = bare.trim_start_matches("mongodb+srv://").split('/').next().unwrap_or_default();
        return StoreError::Address(format!("the DNS has no SRV record _mongodb._tcp.{host}"));
    }
    let is_answer = ["SRV lookup for", "TXT "].iter().any(|said| message.starts_with(said));
    if is_answer { StoreError::Address(short(message)) } else { store_error(error) }
}

/// What went wrong, in one short line.
pub(super) fn text(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::Write(WriteFailure::WriteError(e)) => short(&e.message),
        ErrorKind::Write(WriteFailure::WriteConcernError(e)) => short(&e.message),
        kind => short(&kind.to_string()),
    }
}

/// `text` cut at [`TEXT_BYTES_MAX`].
pub(super) fn short(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

pub(super) fn is_duplicate_key(error: &Error) -> bool {
    matches!(error.kind.as_ref(),
        ErrorKind::Write(WriteFailure::WriteError(e)) if e.code == DUPLICATE_KEY)
}

pub(super) fn is_command_not_found(error: &Error) -> bool {
    matches!(error.kind.as_ref(), ErrorKind::Command(e) if e.code == COMMAND_NOT_FOUND)
}
