//! Viewers' sessions by the ids that their addresses have, for as long as they last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sluicegate_cluster::ids::StreamKey;
use sluicegate_rtc::SessionId;

/// All of them. Bounded by the sessions that there may be.
#[derive(Default)]
pub(crate) struct Doors(Mutex<HashMap<String, Entry>>);

struct Entry {
    key: StreamKey,
    session: Arc<OnceLock<SessionId>>,
}

/// A session's address, nobody's again when this is dropped.
pub(crate) struct Door {
    id: String,
    doors: Arc<Doors>,
}

/// The address of a session that is about to be made.
pub(crate) struct Plate {
    id: String,
    session: Arc<OnceLock<SessionId>>,
}

impl Doors {
    /// An address for a session of `key`, which leads nowhere until [`Plate::leads_to`].
    pub(crate) fn open(self: &Arc<Self>, key: &StreamKey) -> (Door, Plate) {
        // Whoever knows an address may end the session: it cannot be guessed (RFC 9725 section 5).
        let id = format!("{:032x}", rand::random::<u128>());
        let session = Arc::new(OnceLock::new());
        self.lock().insert(id.clone(), Entry { key: key.clone(), session: Arc::clone(&session) });
        (Door { id: id.clone(), doors: Arc::clone(self) }, Plate { id, session })
    }

    /// The session of `key` that has this id.
    pub(crate) fn find(&self, key: &StreamKey, id: &str) -> Option<SessionId> {
        self.lock().get(id).filter(|entry| entry.key == *key)?.session.get().copied()
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plate {
    /// The session was made. Returns its id.
    pub(crate) fn leads_to(self, session: SessionId) -> String {
        // Never twice: the plate is used up.
        let _ = self.session.set(session);
        self.id
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.doors.lock().remove(&self.id);
    }
}
