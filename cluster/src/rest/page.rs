//! `/{offset}/{size}`: a part of a list, as AMS's paths name it.

use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::http::StatusCode;
use axum::http::request::Parts;
use std::collections::HashMap;

use super::RestError;

/// The most items of one answer; AMS cuts there too.
const SIZE_MAX: usize = 250;

/// The part that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    offset: usize,
    size: usize,
}

impl Page {
    fn read(offset: Option<&String>, size: Option<&String>) -> Result<Self, RestError> {
        let number = |name: &str, text: Option<&String>| {
            let wrong =
                || RestError::new(StatusCode::BAD_REQUEST, format!("{name} is not a number of items"));
            text.and_then(|t| t.parse::<usize>().ok()).ok_or_else(wrong)
        };
        Ok(Self { offset: number("offset", offset)?, size: number("size", size)?.min(SIZE_MAX) })
    }

    /// That part of `items`.
    pub(super) fn of<T>(self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        items.into_iter().skip(self.offset).take(self.size).collect()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Page {
    type Rejection = RestError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, RestError> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let path = path.map_err(|e| RestError::new(StatusCode::BAD_REQUEST, e.body_text()))?;
        Self::read(path.get("offset"), path.get("size"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(offset: &str, size: &str) -> Option<Vec<usize>> {
        let page = Page::read(Some(&offset.to_owned()), Some(&size.to_owned())).ok()?;
        Some(page.of(0..1_000))
    }

    #[test]
    fn a_page_is_a_bounded_part_of_the_whole() {
        assert_eq!(page("2", "3"), Some(vec![2, 3, 4]));
        assert_eq!(page("999", "3"), Some(vec![999]));
        assert_eq!(page("5000", "3"), Some(vec![]));
        assert_eq!(page("0", "100000").map(|p| p.len()), Some(SIZE_MAX));
        assert_eq!((page("-1", "3"), page("0", "x")), (None, None));
    }
}
