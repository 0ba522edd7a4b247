//! A cluster of several processes and a database: how soon a death is noticed and a publisher carried over, how a
//! storm of publishes is spread, and what all of it asks of the database.

use crate::Measurement;

mod carried;
mod death;
mod load;
mod size;
mod storm;

/// Everything that is measured.
pub(crate) const MEASUREMENTS: &[Measurement] = &[
    Measurement { title: "A node is killed, until its balancer does without it", measure: death::measure },
    Measurement { title: "An origin is killed under its publisher", measure: carried::measure },
    Measurement { title: "90 publishes at 20 a second over 16 unequal origins", measure: storm::measure },
    Measurement { title: "What the cluster asks of its database", measure: load::measure },
    Measurement { title: "A balancer before 1,000 nodes and 100,000 streams", measure: size::measure },
];
