//! Viewers' sessions by the ids that their addresses have, for as long as they last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_cluster::ids::StreamKey;
use sluicegate_rtc::SessionId;

/// All of them. Bounded by the sessions that there may be.
#[derive(Default)]
pub(crate) struct Doors(Mutex<HashMap<String, Entry>>);

struct Entry {
    key: StreamKey,
    made: Option<Made>,
}

/// A session that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) session: SessionId,
    /// The user name of this side of its ICE session, which names that.
    pub(crate) ufrag: String,
}

/// A session's address, nobody's again when this is dropped.
pub(crate) struct Door {
    id: String,
    doors: Arc<Doors>,
}

/// The address of a session that is about to be made.
pub(crate) struct Plate {
    id: String,
    doors: Arc<Doors>,
}

impl Doors {
    /// An address for a session of `key`, which leads nowhere until [`Plate::leads_to`].
    pub(crate) fn open(self: &Arc<Self>, key: &StreamKey) -> (Door, Plate) {
        // Whoever knows an address may end the session: it cannot be guessed (RFC 9725 section 5).
        let id = format!("{:032x}", rand::random::<u128>());
        self.lock().insert(id.clone(), Entry { key: key.clone(), made: None });
        (Door { id: id.clone(), doors: Arc::clone(self) }, Plate { id, doors: Arc::clone(self) })
    }

    /// The session of `key` that has this id.
    pub(crate) fn find(&self, key: &StreamKey, id: &str) -> Option<Made> {
        self.lock().get(id).filter(|entry| entry.key == *key)?.made.clone()
    }

    /// A new ICE session runs in it.
    pub(crate) fn restarted(&self, id: &str, ufrag: &str) {
        if let Some(made) = self.lock().get_mut(id).and_then(|entry| entry.made.as_mut()) {
            ufrag.clone_into(&mut made.ufrag);
        }
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
    pub(crate) fn leads_to(self, session: SessionId, ufrag: &str) -> String {
        // There is no entry any more when it has ended already.
        if let Some(entry) = self.doors.lock().get_mut(&self.id) {
            entry.made = Some(Made { session, ufrag: ufrag.to_owned() });
        }
        self.id
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.doors.lock().remove(&self.id);
    }
}
