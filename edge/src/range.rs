//! The conditions of a request: `Range` with `If-Range`, and `If-None-Match` (RFC 9110 13 and 14).

use std::ops::Range;

use http::HeaderMap;
use http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};

/// What of an object a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// These bytes: never empty, and within the object.
    Part(Range<usize>),
    /// A range that the object does not reach.
    Unsatisfiable,
}

/// Which bytes of an object of `length` bytes with the strong tag `etag` a GET asks for. A `Range` that is
/// malformed or names several ranges is ignored, as RFC 9110 14.2 allows.
#[must_use]
pub fn wanted(headers: &HeaderMap, etag: &[u8], length: usize) -> Wanted {
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::Whole;
    };
    if headers.get(IF_RANGE).is_some_and(|tag| tag.as_bytes() != etag) {
        return Wanted::Whole;
    }
    match Bounds::parse(range) {
        None => Wanted::Whole,
        Some(bounds) => bounds.within(length).map_or(Wanted::Unsatisfiable, Wanted::Part),
    }
}

/// Whether the answer depends on the object: then it is given when all of it is here.
#[must_use]
pub fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(RANGE) || headers.contains_key(IF_NONE_MATCH)
}

/// Whether the client already has the object with the tag `etag` (weak comparison, RFC 9110 13.1.2).
#[must_use]
pub fn is_unchanged(headers: &HeaderMap, etag: &[u8]) -> bool {
    let etag = etag.strip_prefix(b"W/").unwrap_or(etag);
    let matches = |candidate: &[u8]| {
        let candidate = candidate.trim_ascii();
        candidate == b"*" || candidate.strip_prefix(b"W/").unwrap_or(candidate) == etag
    };
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .any(|value| value.as_bytes().split(|byte| *byte == b',').any(matches))
}

/// Where the 206 that continues a body begins, and how long the whole is when it says so:
/// `bytes 100-199/200` or `bytes 100-199/*` (RFC 9110 14.4).
#[must_use]
pub fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let whole = if whole == "*" { None } else { Some(number(whole)?) };
    let fits = first <= last && whole.is_none_or(|whole| last < whole);
    fits.then_some((first, whole))
}

enum Bounds {
    FromTo(usize, usize),
    From(usize),
    Last(usize),
}

impl Bounds {
    fn parse(value: &str) -> Option<Self> {
        let (unit, range) = value.split_once('=')?;
        if !unit.trim().eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = range.trim().split_once('-')?;
        let place = |digits: &str| number(digits).map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        match (first, last) {
            ("", last) => place(last).map(Self::Last),
            (first, "") => place(first).map(Self::From),
            (first, last) => {
                let (first, last) = (place(first)?, place(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }

    fn within(self, length: usize) -> Option<Range<usize>> {
        let range = match self {
            Self::FromTo(first, last) => first..last.saturating_add(1).min(length),
            Self::From(first) => first..length,
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

/// Digits only: `str::parse` would take a sign as well.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const TAG: &[u8] = b"\"a\"";

    #[track_caller]
    fn check(range: &str, expect: Wanted) {
        let headers = HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
        assert_eq!(wanted(&headers, TAG, 10), expect, "{range:?}");
    }

    #[test]
    fn ranges_of_ten_bytes() {
        check("bytes=0-3", Wanted::Part(0..4));
        check("bytes=4-", Wanted::Part(4..10));
        check("bytes=-3", Wanted::Part(7..10));
        check("bytes=-30", Wanted::Part(0..10));
        check("bytes=2-99999999999999999999", Wanted::Whole);
        check("bytes=2-18446744073709551615", Wanted::Part(2..10));
        check("bytes=10-", Wanted::Unsatisfiable);
        check("bytes=-0", Wanted::Unsatisfiable);
        check("bytes=3-2", Wanted::Whole);
        check("bytes=0-1,4-5", Wanted::Whole);
        check("bytes=+1-2", Wanted::Whole);
        check("seconds=0-1", Wanted::Whole);
    }

    #[test]
    fn a_range_of_another_version_is_ignored() {
        let with = |tag: &'static str| {
            HeaderMap::from_iter([
                (RANGE, HeaderValue::from_static("bytes=0-3")),
                (IF_RANGE, HeaderValue::from_static(tag)),
            ])
        };
        assert_eq!(wanted(&with("\"a\""), TAG, 10), Wanted::Part(0..4));
        assert_eq!(wanted(&with("\"b\""), TAG, 10), Wanted::Whole);
        assert_eq!(wanted(&with("W/\"a\""), TAG, 10), Wanted::Whole);
    }

    #[test]
    fn tags_are_compared_weakly_for_unchanged() {
        let with =
            |tags: &'static str| HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(tags))]);
        assert!(is_unchanged(&with("\"x\", W/\"a\""), TAG));
        assert!(is_unchanged(&with("*"), TAG));
        assert!(!is_unchanged(&with("\"x\""), TAG));
        assert!(!is_unchanged(&HeaderMap::new(), TAG));
    }

    #[test]
    fn content_ranges() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes 5-10/10"), None);
        assert_eq!(content_range("bytes */10"), None);
        assert_eq!(content_range("items 5-9/10"), None);
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_lies_within_the_object(range in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0_usize..400) {
            let headers = HeaderMap::from_iter([(RANGE, range.parse().unwrap())]);
            if let Wanted::Part(part) = wanted(&headers, TAG, length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }
    }
}
