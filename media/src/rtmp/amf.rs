//! The part of AMF0 (Adobe's "Action Message Format" specification) that commands and metadata use, read
//! with bounds: nesting is limited, and memory grows with the bytes that are there, not with counts that
//! a peer names.

use bytes::{Buf, BufMut, BytesMut};

const NUMBER: u8 = 0x00;
const BOOLEAN: u8 = 0x01;
const STRING: u8 = 0x02;
const OBJECT: u8 = 0x03;
const NULL: u8 = 0x05;
const UNDEFINED: u8 = 0x06;
const ECMA_ARRAY: u8 = 0x08;
const OBJECT_END: u8 = 0x09;
const STRICT_ARRAY: u8 = 0x0A;
const DATE: u8 = 0x0B;
const LONG_STRING: u8 = 0x0C;

/// Why bytes are no AMF0 value that we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmfError {
    /// The bytes end inside a value.
    #[error("a value is cut short")]
    Truncated,
    /// Objects or arrays nest deeper than allowed.
    #[error("values nest too deep")]
    TooDeep,
    /// A type that commands do not use: references, XML, typed objects, AMF3.
    #[error("a value has the unknown type {0:#04x}")]
    Marker(u8),
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
}

impl AmfError {
    /// A short constant name, for a metric's label.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Truncated => "amf_truncated",
            Self::TooDeep => "amf_too_deep",
            Self::Marker(_) => "amf_marker",
            Self::Utf8 => "amf_utf8",
        }
    }
}

/// One AMF0 value. Properties keep their order, and may repeat a name.
#[derive(Debug, Clone, PartialEq)]
pub enum AmfValue {
    /// A double, AMF0's only number.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Text, short or long.
    String(String),
    /// An anonymous object.
    Object(Vec<(String, Self)>),
    /// An associative array: an object in all but name.
    EcmaArray(Vec<(String, Self)>),
    /// A list.
    StrictArray(Vec<Self>),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// Milliseconds since 1970 in UTC; the zone that AMF0 reserves is written as zero and not read.
    Date(f64),
}

impl AmfValue {
    /// Takes one value from the front of `input`. `depth` levels of objects and arrays are allowed.
    ///
    /// # Errors
    /// [`AmfError`] says what is wrong; how much of `input` was taken by then is not defined.
    pub fn decode(input: &mut &[u8], depth: usize) -> Result<Self, AmfError> {
        let inner = || depth.checked_sub(1).ok_or(AmfError::TooDeep);
        match input.try_get_u8().map_err(truncated)? {
            NUMBER => Ok(Self::Number(input.try_get_f64().map_err(truncated)?)),
            BOOLEAN => Ok(Self::Boolean(input.try_get_u8().map_err(truncated)? != 0)),
            STRING => Ok(Self::String(short_text(input)?)),
            LONG_STRING => {
                let length = input.try_get_u32().map_err(truncated)?;
                Ok(Self::String(text(input, usize::try_from(length).unwrap_or(usize::MAX))?))
            }
            OBJECT => Ok(Self::Object(properties(input, inner()?)?)),
            ECMA_ARRAY => {
                // The count is a hint and encoders get it wrong: the end marker decides.
                input.try_get_u32().map_err(truncated)?;
                Ok(Self::EcmaArray(properties(input, inner()?)?))
            }
            STRICT_ARRAY => {
                let (count, depth) = (input.try_get_u32().map_err(truncated)?, inner()?);
                let values = (0..count).map(|_| Self::decode(input, depth)).collect::<Result<_, _>>()?;
                Ok(Self::StrictArray(values))
            }
            NULL => Ok(Self::Null),
            UNDEFINED => Ok(Self::Undefined),
            DATE => {
                let unix_ms = input.try_get_f64().map_err(truncated)?;
                input.try_get_i16().map_err(truncated)?;
                Ok(Self::Date(unix_ms))
            }
            marker => Err(AmfError::Marker(marker)),
        }
    }

    /// Appends the value to `out`. A property's name is cut at AMF0's 65,535 bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Number(number) => {
                out.put_u8(NUMBER);
                out.put_f64(*number);
            }
            Self::Boolean(yes) => out.put_slice(&[BOOLEAN, u8::from(*yes)]),
            Self::String(text) => encode_text(text, out),
            Self::Object(properties) => {
                out.put_u8(OBJECT);
                put_properties(properties, out);
            }
            Self::EcmaArray(properties) => {
                out.put_u8(ECMA_ARRAY);
                out.put_u32(count(properties.len()));
                put_properties(properties, out);
            }
            Self::StrictArray(values) => {
                out.put_u8(STRICT_ARRAY);
                out.put_u32(count(values.len()));
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Null => out.put_u8(NULL),
            Self::Undefined => out.put_u8(UNDEFINED),
            Self::Date(unix_ms) => {
                out.put_u8(DATE);
                out.put_f64(*unix_ms);
                out.put_i16(0);
            }
        }
    }

    /// The text, if it is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    #[must_use]
    pub const fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// A property of an object or an associative array.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(properties) | Self::EcmaArray(properties) => {
                properties.iter().find(|(key, _)| key == name).map(|(_, value)| value)
            }
            _ => None,
        }
    }
}

impl From<&str> for AmfValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<f64> for AmfValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

fn truncated(_: bytes::TryGetError) -> AmfError {
    AmfError::Truncated
}

fn text(input: &mut &[u8], length: usize) -> Result<String, AmfError> {
    let (head, rest) = input.split_at_checked(length).ok_or(AmfError::Truncated)?;
    *input = rest;
    std::str::from_utf8(head).map(str::to_owned).map_err(|_| AmfError::Utf8)
}

fn short_text(input: &mut &[u8]) -> Result<String, AmfError> {
    let length = input.try_get_u16().map_err(truncated)?;
    text(input, usize::from(length))
}

fn properties(input: &mut &[u8], depth: usize) -> Result<Vec<(String, AmfValue)>, AmfError> {
    let mut properties = Vec::new();
    loop {
        let name = short_text(input)?;
        if name.is_empty() && input.first() == Some(&OBJECT_END) {
            input.advance(1);
            return Ok(properties);
        }
        properties.push((name, AmfValue::decode(input, depth)?));
    }
}

fn encode_text(text: &str, out: &mut BytesMut) {
    match u16::try_from(text.len()) {
        Ok(length) => {
            out.put_u8(STRING);
            out.put_u16(length);
        }
        Err(_) => {
            out.put_u8(LONG_STRING);
            out.put_u32(count(text.len()));
        }
    }
    out.put_slice(text.as_bytes());
}

fn put_properties(properties: &[(String, AmfValue)], out: &mut BytesMut) {
    for (name, value) in properties {
        let (name, _) = name.split_at(name.floor_char_boundary(usize::from(u16::MAX)));
        out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
        out.put_slice(name.as_bytes());
        value.encode(out);
    }
    out.put_slice(&[0, 0, OBJECT_END]);
}

/// AMF0 counts in 32 bits; what is written here never comes near.
fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rtmp::limits::AMF_DEPTH;

    fn round_trip(value: &AmfValue) -> Result<AmfValue, AmfError> {
        let mut bytes = BytesMut::new();
        value.encode(&mut bytes);
        let mut input = &bytes[..];
        let decoded = AmfValue::decode(&mut input, AMF_DEPTH)?;
        assert!(input.is_empty(), "all bytes belong to the value");
        Ok(decoded)
    }

    fn any_value() -> impl Strategy<Value = AmfValue> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(|n| AmfValue::Number(n as f64)),
            any::<bool>().prop_map(AmfValue::Boolean),
            "\\PC{0,20}".prop_map(AmfValue::String),
            Just(AmfValue::Null),
            Just(AmfValue::Undefined),
            any::<u32>().prop_map(|ms| AmfValue::Date(f64::from(ms))),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            let named = prop::collection::vec(("\\PC{0,8}", inner.clone()), 0..6);
            prop_oneof![
                named.clone().prop_map(AmfValue::Object),
                named.prop_map(AmfValue::EcmaArray),
                prop::collection::vec(inner, 0..6).prop_map(AmfValue::StrictArray),
            ]
        })
    }

    fn nested(levels: usize) -> AmfValue {
        (0..levels).fold(AmfValue::Null, |inner, _| AmfValue::StrictArray(vec![inner]))
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(value in any_value()) {
            prop_assert_eq!(round_trip(&value).unwrap(), value);
        }

        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut input = &bytes[..];
            while !input.is_empty() && AmfValue::decode(&mut input, AMF_DEPTH).is_ok() {}
        }

        #[test]
        fn every_cut_of_a_value_is_refused(value in any_value(), at in any::<prop::sample::Index>()) {
            let mut bytes = BytesMut::new();
            value.encode(&mut bytes);
            let mut input = &bytes[..at.index(bytes.len())];
            prop_assert!(AmfValue::decode(&mut input, AMF_DEPTH).is_err());
        }
    }

    #[test]
    fn text_of_more_than_65535_bytes_is_a_long_string() {
        let long = AmfValue::String("ü".repeat(40_000));
        assert_eq!(round_trip(&long), Ok(long));
    }

    #[test]
    fn nesting_is_refused_past_its_limit() {
        assert!(round_trip(&nested(AMF_DEPTH)).is_ok());
        assert_eq!(round_trip(&nested(AMF_DEPTH + 1)), Err(AmfError::TooDeep));
    }

    #[test]
    fn a_lying_count_takes_no_memory() {
        let mut input = &[STRICT_ARRAY, 0xFF, 0xFF, 0xFF, 0xFF, NULL][..];
        assert_eq!(AmfValue::decode(&mut input, 1), Err(AmfError::Truncated));
        let mut input = &[LONG_STRING, 0xFF, 0xFF, 0xFF, 0xFF, b'a'][..];
        assert_eq!(AmfValue::decode(&mut input, 1), Err(AmfError::Truncated));
    }

    #[test]
    fn types_outside_commands_are_refused() {
        assert_eq!(AmfValue::decode(&mut &[0x11][..], 1), Err(AmfError::Marker(0x11)));
        assert_eq!(AmfValue::decode(&mut &[STRING, 0, 1, 0xFF][..], 1), Err(AmfError::Utf8));
    }

    #[test]
    fn properties_are_found_by_name() {
        let object = AmfValue::Object(vec![("app".to_owned(), "live".into())]);
        assert_eq!(object.get("app").and_then(AmfValue::as_str), Some("live"));
        assert_eq!(object.get("tcUrl"), None);
    }
}
