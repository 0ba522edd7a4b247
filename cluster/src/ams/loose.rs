//! Fields as AMS's versions and tools store them: a number may be an integer, a double or text, and what is
//! neither is taken to be missing, so that one odd field does not hide a document.

use serde::{Deserialize as _, Deserializer};
use serde_json::Value;

/// A whole number, from any number or from text that is one.
pub(super) fn integer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    let value = Value::deserialize(from)?;
    let cut = |float: f64| (float.abs() < 9e15).then_some(float as i64);
    Ok(match &value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().and_then(cut)),
        Value::String(text) => text.trim().parse().ok().or_else(|| text.trim().parse().ok().and_then(cut)),
        _ => None,
    })
}

/// A number, from any number or from text that is one.
pub(super) fn float<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok().filter(|n: &f64| n.is_finite()),
        _ => None,
    })
}

/// Text, from text or from a number.
pub(super) fn text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(from)? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}
