//! Content codings: which one a request accepts (RFC 9110, 8.4 and 12.5.3).

use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue};
use sluicegate_web::Asset;

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// By gzip (RFC 1952).
    Gzip,
    /// By Brotli (RFC 7932).
    Brotli,
}

impl Coding {
    /// The value of `Content-Encoding`; none of a body that is written as it is.
    #[must_use]
    pub fn header(self) -> Option<HeaderValue> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some(HeaderValue::from_static("gzip")),
            Self::Brotli => Some(HeaderValue::from_static("br")),
        }
    }

    /// The entity tag of what has `tag` as it is: bodies that differ have tags that differ.
    #[must_use]
    pub fn tag(self, tag: &HeaderValue) -> HeaderValue {
        let suffix = match self {
            Self::Identity => return tag.clone(),
            Self::Gzip => "-gzip\"",
            Self::Brotli => "-br\"",
        };
        let bare = tag.to_str().ok().and_then(|tag| tag.strip_suffix('"'));
        let coded = bare.and_then(|bare| HeaderValue::from_str(&format!("{bare}{suffix}")).ok());
        coded.unwrap_or_else(|| tag.clone())
    }

    fn is_named(self, name: &str) -> bool {
        let names: &[&str] = match self {
            Self::Identity => &["identity"],
            Self::Gzip => &["gzip", "x-gzip"],
            Self::Brotli => &["br"],
        };
        names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// The coding of `offered`, the best first, that a request with these headers likes most. One that names none of
/// them, or names nothing, gets the body as it is.
#[must_use]
pub fn choose(asked: &HeaderMap, offered: &[Coding]) -> Coding {
    let lines = asked.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    let named: Vec<(&str, u16)> = lines.flat_map(|line| line.split(',')).filter_map(weighed).collect();
    let weight = |coding: Coding| {
        let own = named.iter().find(|(name, _)| coding.is_named(name));
        let any = || named.iter().find(|(name, _)| *name == "*").filter(|_| coding != Coding::Identity);
        own.or_else(any).map_or(0, |(_, weight)| *weight)
    };
    let mut best = (Coding::Identity, weight(Coding::Identity));
    for coding in offered.iter().copied() {
        let weight = weight(coding);
        if weight > best.1 || (weight == best.1 && weight > 0 && best.0 == Coding::Identity) {
            best = (coding, weight);
        }
    }
    best.0
}

/// The body of `asset` that a request with these headers likes most.
#[must_use]
pub fn of_asset(asked: &HeaderMap, asset: &Asset) -> (Coding, &'static [u8]) {
    let bodies = [(Coding::Brotli, asset.brotli), (Coding::Gzip, asset.gzip)];
    let there = bodies.iter().filter_map(|(coding, body)| Some((*coding, (*body)?)));
    let offered: Vec<Coding> = there.clone().map(|(coding, _)| coding).collect();
    let chosen = choose(asked, &offered);
    there.clone().find(|(coding, _)| *coding == chosen).unwrap_or((Coding::Identity, asset.body))
}

/// A name of `Accept-Encoding` and its weight in thousandths; none where it is malformed.
fn weighed(item: &str) -> Option<(&str, u16)> {
    let (name, weight) = item.split_once(';').map_or((item, None), |(name, rest)| (name, Some(rest)));
    let thousandths = match weight {
        None => 1_000,
        Some(weight) => {
            let value = weight.trim().strip_prefix(['q', 'Q'])?.trim_start().strip_prefix('=')?.trim();
            let value: f32 = value.parse().ok().filter(|value| (0.0..=1.0).contains(value))?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
            let thousandths = (value * 1_000.0).round() as u16;
            thousandths
        }
    };
    Some((name.trim(), thousandths))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Coding; 2] = [Coding::Brotli, Coding::Gzip];

    fn asked(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (ACCEPT_ENCODING, HeaderValue::from_str(line).unwrap())).collect()
    }

    #[test]
    fn what_a_request_likes_most_is_chosen() {
        for (lines, expect) in [
            (&[][..], Coding::Identity),
            (&[""], Coding::Identity),
            (&["gzip, deflate, br, zstd"], Coding::Brotli),
            (&["gzip, deflate"], Coding::Gzip),
            (&["deflate", "X-GZIP"], Coding::Gzip),
            (&["br;q=0.2, gzip;q=0.8"], Coding::Gzip),
            (&["br;q=0, gzip ; q = 0.000"], Coding::Identity),
            (&["gzip;q=0.5, identity"], Coding::Identity),
            (&["gzip, identity"], Coding::Gzip),
            (&["*"], Coding::Brotli),
            (&["*;q=0.1, br;q=0"], Coding::Gzip),
            (&["*;q=0"], Coding::Identity),
            (&["gzip;q=2, br;q=x, gzip;level=9"], Coding::Identity),
        ] {
            assert_eq!(choose(&asked(lines), &ALL), expect, "{lines:?}");
        }
        assert_eq!(choose(&asked(&["br, gzip;q=0.1"]), &[Coding::Gzip]), Coding::Gzip);
    }

    #[test]
    fn bodies_that_differ_have_tags_that_differ() {
        let tag = HeaderValue::from_static("\"abc\"");
        assert_eq!(Coding::Gzip.tag(&tag), "\"abc-gzip\"");
        assert_eq!(Coding::Brotli.tag(&tag), "\"abc-br\"");
        assert_eq!(Coding::Identity.tag(&tag), tag);
    }

    proptest! {
        /// Whatever is sent: nothing is chosen that was not named, by itself or by `*`, with a weight.
        #[test]
        fn only_what_is_accepted_is_chosen(
            names in proptest::collection::vec(
                ("(br|gzip|deflate|identity|\\*)", proptest::option::of(0..=10_u8)),
                0..6,
            ),
            noise in "[ -~]{0,30}",
        ) {
            let item = |(name, weight): &(String, Option<u8>)| match weight {
                Some(tenths) => format!("{name};q={}.{}", tenths / 10, tenths % 10),
                None => name.clone(),
            };
            let line = names.iter().map(item).collect::<Vec<_>>().join(", ");
            let chosen = choose(&asked(&[&line]), &ALL);
            let first = |wanted: &str| names.iter().find(|(name, _)| name == wanted);
            let accepts = |name| first(name).or_else(|| first("*")).is_some_and(|(_, weight)| *weight != Some(0));
            match chosen {
                Coding::Identity => {
                    prop_assert!(first("identity").is_some() || !accepts("br") && !accepts("gzip"), "{}", line);
                }
                Coding::Gzip => prop_assert!(accepts("gzip"), "{}", line),
                Coding::Brotli => prop_assert!(accepts("br"), "{}", line),
            }
            // Anything else is read without harm.
            let _ = choose(&asked(&[&noise]), &ALL);
        }
    }
}
