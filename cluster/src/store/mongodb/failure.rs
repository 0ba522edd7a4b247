//! The driver's errors, made into the store's. The driver's own text carries whole replies and topologies;
//! what is passed on is one short line.

use mongodb::error::{Error, ErrorKind, WriteFailure};

use crate::store::StoreError;

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
