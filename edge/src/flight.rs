//! One fetch for each object, whoever asks and however many: the table of fills under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::fill::{Fill, Writer};
use crate::object::Object;

/// The fills under way.
pub(crate) struct Flights {
    table: Mutex<HashMap<Arc<str>, Fill>>,
    most: usize,
}

/// How a request gets its object.
pub(crate) enum Boarding {
    /// It came in the meantime.
    Landed(Arc<Object>),
    /// It is on its way.
    Joined(Fill),
    /// It has to be fetched, and the caller is the one to see to it.
    Lead(Fill, Writer, Seat),
    /// As many are on their way as may be.
    Full,
}

/// A place in the table. It is given back when it is dropped.
pub(crate) struct Seat {
    flights: Arc<Flights>,
    name: Arc<str>,
}

impl Flights {
    /// A table of `most` places.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), most })
    }

    /// Joins the fill `name`d by what it fetches and from which claim, or begins one at `now`. `cached` is asked under the table's lock: a fill
    /// puts its object into the cache before it gives its place back, so nothing is fetched twice.
    pub(crate) fn board(
        self: &Arc<Self>,
        name: &Arc<str>,
        now: Instant,
        cached: impl FnOnce() -> Option<Arc<Object>>,
    ) -> Boarding {
        let mut table = self.table();
        if let Some(fill) = table.get(name) {
            return Boarding::Joined(fill.clone());
        }
        if let Some(object) = cached() {
            return Boarding::Landed(object);
        }
        if table.len() >= self.most {
            return Boarding::Full;
        }
        let (writer, fill) = Fill::new(now);
        table.insert(Arc::clone(name), fill.clone());
        Boarding::Lead(fill, writer, Seat { flights: Arc::clone(self), name: Arc::clone(name) })
    }

    fn table(&self) -> MutexGuard<'_, HashMap<Arc<str>, Fill>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flights.table().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock;

    use super::*;

    #[test]
    fn the_first_leads_the_others_join_and_a_full_table_takes_no_more() {
        let (flights, now) = (Flights::new(1), clock::now());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let Boarding::Lead(_, writer, seat) = flights.board(&a, now, || None) else {
            panic!("not the leader")
        };
        assert!(matches!(flights.board(&a, now, || None), Boarding::Joined(_)));
        assert!(matches!(flights.board(&b, now, || None), Boarding::Full));
        drop((writer, seat));
        assert!(matches!(flights.board(&b, now, || None), Boarding::Lead(..)));
    }
}
