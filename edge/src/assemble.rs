//! A segment from its parts: who plays with low latency has had all of them fetched by the time that others ask
//! for the segment, and a segment is its parts, one after the other.

use std::sync::Arc;

use bytes::BytesMut;
use sluicegate_media::names::{self, FileName};

use crate::fetch::Fetcher;
use crate::object::{Head, Object};
use crate::playlist;
use crate::reply;
use crate::route::FileRole;

impl Fetcher {
    /// The segment at `path`, if its playlist tells its parts and all of them are in the cache. It is kept.
    pub(crate) fn assembled(&self, path: &str, role: FileRole) -> Option<Arc<Object>> {
        let FileRole::Segment(_) = role else { return None };
        let (folder, file) = path.rsplit_once('/')?;
        let FileName::Segment { stream, rung, .. } = names::parse(file)? else { return None };
        let list = self.cache.get(&format!("{folder}/{}", FileName::MediaPlaylist { stream, rung }))?;
        let parts: Option<Vec<Arc<Object>>> = playlist::parts_of(&list.body, file)?
            .into_iter()
            .map(|part| self.cache.get(&format!("{folder}/{part}")))
            .collect();
        let parts = parts?;
        let last = parts.last()?;
        let bytes = parts.iter().map(|part| part.body.len()).sum();
        if bytes > self.object_bytes {
            return None;
        }
        let mut body = BytesMut::with_capacity(bytes);
        parts.iter().for_each(|part| body.extend_from_slice(&part.body));
        let head = Head { etag: reply::name_tag(path), ..last.head.clone() };
        let segment = Arc::new(Object::new(head, body.freeze(), None));
        self.cache.put(&path.into(), Arc::clone(&segment));
        Some(segment)
    }
}
