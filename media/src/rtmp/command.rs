//! Commands (7.1.1): a name, a transaction that an answer repeats, and arguments.

use bytes::{Bytes, BytesMut};

use super::RtmpError;
use super::amf::AmfValue;

/// A command as it arrived.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) name: String,
    /// Zero when no answer is wanted.
    pub(super) transaction: f64,
    /// What follows; the first is the command object, null in most.
    pub(super) arguments: Vec<AmfValue>,
}

impl Command {
    pub(super) fn decode(mut payload: &[u8], depth: usize) -> Result<Self, RtmpError> {
        let AmfValue::String(name) = AmfValue::decode(&mut payload, depth)? else {
            return Err(RtmpError::IncompleteCommand);
        };
        // ffmpeg as a server sends `onFCPublish` without one.
        let transaction = match payload {
            [] => 0.0,
            _ => AmfValue::decode(&mut payload, depth)?.as_number().ok_or(RtmpError::IncompleteCommand)?,
        };
        let mut arguments = Vec::new();
        while !payload.is_empty() {
            arguments.push(AmfValue::decode(&mut payload, depth)?);
        }
        Ok(Self { name, transaction, arguments })
    }

    /// An argument that is text.
    pub(super) fn text(&self, at: usize) -> Option<&str> {
        self.arguments.get(at).and_then(AmfValue::as_str)
    }

    /// The information object of `onStatus`, `_error` and the `_result` of `connect`.
    pub(super) fn status(&self, field: &str) -> &str {
        let value = self.arguments.get(1).and_then(|info| info.get(field));
        value.and_then(AmfValue::as_str).unwrap_or_default()
    }
}

/// The body of a command message.
pub(super) fn encode(name: &str, transaction: f64, arguments: &[AmfValue]) -> Bytes {
    let mut payload = BytesMut::with_capacity(256);
    AmfValue::from(name).encode(&mut payload);
    AmfValue::Number(transaction).encode(&mut payload);
    arguments.iter().for_each(|argument| argument.encode(&mut payload));
    payload.freeze()
}

/// An object of named values.
pub(super) fn object<const N: usize>(properties: [(&str, AmfValue); N]) -> AmfValue {
    AmfValue::Object(properties.map(|(name, value)| (name.to_owned(), value)).into())
}

/// The information object that says what became of something; `level` is "status" or "error".
pub(super) fn status(level: &str, code: &str, description: &str) -> AmfValue {
    object([("level", level.into()), ("code", code.into()), ("description", description.into())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let info = status("error", "NetStream.Publish.BadName", "taken");
        let command = Command::decode(&encode("onStatus", 0.0, &[AmfValue::Null, info]), 4).unwrap();
        assert_eq!((command.name.as_str(), command.arguments.len()), ("onStatus", 2));
        assert_eq!(command.status("code"), "NetStream.Publish.BadName");
        assert_eq!(command.status("level"), "error");
        assert_eq!(command.status("absent"), "");
    }

    #[test]
    fn a_command_without_a_name_or_with_a_strange_transaction_is_refused() {
        let mut number_first = BytesMut::new();
        AmfValue::Number(1.0).encode(&mut number_first);
        assert_eq!(Command::decode(&number_first, 4).unwrap_err(), RtmpError::IncompleteCommand);
        let mut two_names = BytesMut::new();
        AmfValue::from("publish").encode(&mut two_names);
        AmfValue::from("publish").encode(&mut two_names);
        assert_eq!(Command::decode(&two_names, 4).unwrap_err(), RtmpError::IncompleteCommand);
    }

    #[test]
    fn a_name_alone_is_a_command() {
        let mut name = BytesMut::new();
        AmfValue::from("onFCPublish").encode(&mut name);
        let command = Command::decode(&name, 4).unwrap();
        assert_eq!((command.name.as_str(), command.transaction.to_bits()), ("onFCPublish", 0));
    }
}
