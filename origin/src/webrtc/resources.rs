//! The sessions that can be changed by HTTP. Their ids are random: to know one is to be allowed to change it
//! (RFC 9725 section 5).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_cluster::ids::StreamKey;
use sluicegate_cluster::signalling::Protocol;
use sluicegate_rtc::SessionId;
use tokio_util::sync::CancellationToken;

/// A session by HTTP.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) protocol: Protocol,
    pub(super) key: StreamKey,
    pub(super) session: SessionId,
    /// Names its ICE session.
    pub(super) etag: String,
    /// Cancelled by DELETE.
    pub(super) deleted: CancellationToken,
}

/// All of them; as many as there are sessions.
#[derive(Debug, Default)]
pub(super) struct Resources(Mutex<HashMap<String, Resource>>);

/// Keeps a session's address. Dropped, the address leads nowhere.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) id: String,
    resources: Arc<Resources>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.resources.lock().remove(&self.id);
    }
}

impl Resources {
    /// Gives a session an address.
    pub(super) fn add(self: &Arc<Self>, resource: Resource) -> Kept {
        let id = format!("{:032x}", rand::random::<u128>());
        self.lock().insert(id.clone(), resource);
        Kept { id, resources: Arc::clone(self) }
    }

    /// The session at `id`, if it is one of `protocol` and `key`.
    pub(super) fn get(&self, id: &str, protocol: Protocol, key: &StreamKey) -> Option<Resource> {
        let resources = self.lock();
        resources.get(id).filter(|r| r.protocol == protocol && r.key == *key).cloned()
    }

    /// A new ICE session runs in it.
    pub(super) fn restarted(&self, id: &str, etag: &str) {
        if let Some(resource) = self.lock().get_mut(id) {
            etag.clone_into(&mut resource.etag);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Resource>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
