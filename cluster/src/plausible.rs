//! Whether what a document says can be true. Anybody may have written into the database: a number that cannot be is
//! told by its field's name, like one of a wrong type, and that document is not gone by.

use std::time::Duration;

use crate::clock::UnixMs;
use crate::ids::Epoch;
use crate::limits::NAME_BYTES;
use crate::node::{Gpu, NodeRecord, Reservation};
use crate::stream::{PictureSize, StreamFigures, StreamRecord};

/// What no machine encodes: 16,000 streams of 1080p30, Mpx/s.
const CAPACITY_MPX_MAX: f64 = 1e6;
/// By how much a node may say that it has more free than it can encode, for sums of fractions: Mpx/s.
const MPX_SLACK: f64 = 1.0;
/// Percent of all processors together, with what sampling makes of it.
const CPU_PERCENT_MAX: f64 = 200.0;
/// A pebibyte.
const MEMORY_BYTES_MAX: u64 = 1 << 50;
/// 10 Tbit/s.
const BPS_MAX: u64 = 10_000_000_000_000;
/// Viewers of a node or a stream.
const VIEWERS_MAX: u64 = 1_000_000_000;
/// Streams published to a node.
const PUBLISHES_MAX: u64 = 1_000_000;
/// Cards in one machine.
const GPUS_MAX: usize = 64;
/// Reservations on one origin.
const RESERVATIONS_MAX: usize = 100_000;
/// Renditions of a stream, its source among them.
const RENDITIONS_MAX: usize = 64;
/// Pixels on a side, and frames a second.
const SIDE_MAX: u32 = 65_536;
const FPS_MAX: f64 = 1_000.0;
/// Claims on a stream and writes of a document, both counted from one on.
const COUNT_MAX: i64 = 1 << 53;
/// Media sequence numbers: a segment each half second for ten thousand years.
const SEQUENCE_MAX: i64 = 1_000_000_000_000;
/// How far in the future a time may lie: the store's clock may have been set back since.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// A field that says what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value} cannot be")]
pub struct Implausible {
    /// The field's name, as stored.
    pub field: &'static str,
    /// What it says.
    pub value: String,
}

/// Looks through fields until one cannot be.
struct Fields {
    now: UnixMs,
}

type Looked = Result<(), Implausible>;

/// Whether a node's document can be true at `now` (database time).
///
/// # Errors
/// The first field that cannot.
pub fn node(node: &NodeRecord, now: UnixMs) -> Looked {
    let (fields, load) = (Fields { now }, &node.load);
    fields.count("rev", node.rev)?;
    fields.time("heartbeat", node.heartbeat)?;
    fields.time("servingSince", node.serving_since)?;
    fields.number("capacityMpx", node.capacity_mpx, 0.0, CAPACITY_MPX_MAX)?;
    fields.number("freeMpx", node.free_mpx, -MPX_SLACK, node.capacity_mpx + MPX_SLACK)?;
    fields.length("reservations", node.reservations.len(), RESERVATIONS_MAX)?;
    node.reservations.iter().try_for_each(|reservation| fields.reservation(reservation))?;
    fields.number("cpu", load.cpu, 0.0, CPU_PERCENT_MAX)?;
    fields.most("memory.usedBytes", load.memory.used_bytes, MEMORY_BYTES_MAX)?;
    fields.most("memory.totalBytes", load.memory.total_bytes, MEMORY_BYTES_MAX)?;
    fields.length("gpus", load.gpus.len(), GPUS_MAX)?;
    load.gpus.iter().try_for_each(|gpu| fields.gpu(gpu))?;
    fields.most("egressBps", load.egress_bps, BPS_MAX)?;
    fields.most("viewers", load.viewers, VIEWERS_MAX)?;
    fields.most("publishes", load.publishes, PUBLISHES_MAX)
}

/// Whether a stream's document can be true at `now` (database time).
///
/// # Errors
/// The first field that cannot.
pub fn stream(stream: &StreamRecord, now: UnixMs) -> Looked {
    let fields = Fields { now };
    fields.epoch(stream.epoch)?;
    fields.count("rev", stream.rev)?;
    fields.count("claims", stream.claims)?;
    fields.range("sequence", stream.sequence, 0, SEQUENCE_MAX)?;
    fields.time("sequenceAt", stream.sequence_at)?;
    fields.time("startedAt", stream.started_at)?;
    fields.time("changed", stream.changed)?;
    stream.ended_at.map_or(Ok(()), |at| fields.time("endedAt", at))?;
    fields.most("bitrateBps", stream.bitrate_bps, BPS_MAX)?;
    fields.most("viewers", stream.viewers, VIEWERS_MAX)?;
    fields.length("renditions", stream.renditions.len(), RENDITIONS_MAX)?;
    let longest = stream.renditions.iter().map(String::len).max().unwrap_or(0);
    fields.length("renditions", longest, NAME_BYTES)?;
    stream.size.map_or(Ok(()), |size| fields.size(size))
}

/// Whether a stream's figures can be true at `now` (database time).
///
/// # Errors
/// The first field that cannot.
pub fn figures(figures: &StreamFigures, now: UnixMs) -> Looked {
    let fields = Fields { now };
    fields.time("sequenceAt", figures.sequence_at)?;
    fields.most("bitrateBps", figures.bitrate_bps, BPS_MAX)?;
    fields.most("viewers", figures.viewers, VIEWERS_MAX)
}

impl Fields {
    fn number(&self, field: &'static str, value: f64, least: f64, most: f64) -> Looked {
        let can_be = (least..=most).contains(&value);
        // Three hundred digits are no help.
        if value.abs() > 1e15 {
            check(field, format_args!("{value:e}"), can_be)
        } else {
            check(field, value, can_be)
        }
    }

    fn range(&self, field: &'static str, value: i64, least: i64, most: i64) -> Looked {
        check(field, value, (least..=most).contains(&value))
    }

    fn count(&self, field: &'static str, value: i64) -> Looked {
        self.range(field, value, 0, COUNT_MAX)
    }

    fn most(&self, field: &'static str, value: u64, most: u64) -> Looked {
        check(field, value, value <= most)
    }

    fn length(&self, field: &'static str, length: usize, most: usize) -> Looked {
        check(field, format_args!("a length of {length}"), length <= most)
    }

    fn time(&self, field: &'static str, at: UnixMs) -> Looked {
        self.range(field, at.0, 0, self.now.plus(AHEAD_MAX).0)
    }

    /// Epochs are times, or a little later ones.
    fn epoch(&self, epoch: Epoch) -> Looked {
        self.time("epoch", UnixMs(epoch.0))
    }

    fn reservation(&self, reservation: &Reservation) -> Looked {
        self.number("reservations.mpx", reservation.mpx, 0.0, CAPACITY_MPX_MAX)?;
        self.time("reservations.expiresAt", reservation.expires_at)
    }

    fn gpu(&self, gpu: &Gpu) -> Looked {
        let percent = gpu.gpu.max(gpu.encoder).max(gpu.decoder);
        check("gpus", format_args!("{percent} percent"), percent <= 100)?;
        self.most("gpus.memoryTotal", gpu.memory_total, MEMORY_BYTES_MAX)?;
        self.most("gpus.memoryUsed", gpu.memory_used, MEMORY_BYTES_MAX)
    }

    fn size(&self, size: PictureSize) -> Looked {
        self.most("size.width", size.width.into(), SIDE_MAX.into())?;
        self.most("size.height", size.height.into(), SIDE_MAX.into())?;
        self.number("size.fps", size.fps, 0.0, FPS_MAX)
    }
}

fn check(field: &'static str, value: impl std::fmt::Display, can_be: bool) -> Looked {
    if can_be { Ok(()) } else { Err(Implausible { field, value: value.to_string() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    const NOW: UnixMs = UnixMs(1_760_000_000_000);
    const DAYS_AHEAD: UnixMs = UnixMs(NOW.0 + 3 * 86_400_000);

    fn a_node(change: impl FnOnce(&mut NodeRecord)) -> NodeRecord {
        let mut record = testing::node("o1", NOW);
        change(&mut record);
        record
    }

    fn a_stream(change: impl FnOnce(&mut StreamRecord)) -> StreamRecord {
        let mut record = testing::stream_held_by("live/a", "o1", "s", NOW);
        change(&mut record);
        record
    }

    fn of_node(change: impl FnOnce(&mut NodeRecord)) -> Option<&'static str> {
        node(&a_node(change), NOW).err().map(|why| why.field)
    }

    fn of_stream(change: impl FnOnce(&mut StreamRecord)) -> Option<&'static str> {
        stream(&a_stream(change), NOW).err().map(|why| why.field)
    }

    #[test]
    fn what_can_be_is_left_alone() {
        assert_eq!(of_node(|_| {}), None);
        assert_eq!(of_node(|n| n.heartbeat = UnixMs(0)), None, "it is dead, which is another matter");
        assert_eq!(of_node(|n| n.heartbeat = NOW.plus(Duration::from_secs(3_600))), None);
        assert_eq!(of_stream(|_| {}), None);
        assert_eq!(of_stream(|s| s.size = Some(PictureSize { width: 7680, height: 4320, fps: 120.0 })), None);
    }

    #[test]
    fn a_nodes_absurd_number_is_told_by_its_field() {
        for mpx in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(of_node(|n| n.capacity_mpx = mpx), Some("capacityMpx"), "{mpx}");
            assert_eq!(of_node(|n| n.free_mpx = mpx - 1.0), Some("freeMpx"), "{mpx}");
            assert_eq!(of_node(|n| n.load.cpu = mpx), Some("cpu"), "{mpx}");
            let id = "r".into();
            let reservation = Reservation { id, stream: "live/a".parse().unwrap(), mpx, expires_at: NOW };
            assert_eq!(of_node(|n| n.reservations.push(reservation)), Some("reservations.mpx"), "{mpx}");
        }
        assert_eq!(of_node(|n| n.free_mpx = n.capacity_mpx + 2.0), Some("freeMpx"));
        assert_eq!(of_node(|n| n.load.viewers = 1 << 60), Some("viewers"));
        assert_eq!(of_node(|n| n.load.egress_bps = u64::MAX), Some("egressBps"));
        assert_eq!(of_node(|n| n.load.publishes = u64::MAX), Some("publishes"));
        assert_eq!(of_node(|n| n.load.memory.total_bytes = u64::MAX), Some("memory.totalBytes"));
        assert_eq!(of_node(|n| n.heartbeat = DAYS_AHEAD), Some("heartbeat"));
        assert_eq!(of_node(|n| n.heartbeat = UnixMs(-1)), Some("heartbeat"));
        assert_eq!(of_node(|n| n.serving_since = UnixMs(i64::MAX)), Some("servingSince"));
        assert_eq!(of_node(|n| n.rev = i64::MAX), Some("rev"));
        let card = Gpu { encoder: 101, ..Gpu::default() };
        assert_eq!(of_node(|n| n.load.gpus.push(card)), Some("gpus"));
    }

    #[test]
    fn a_streams_absurd_number_is_told_by_its_field() {
        assert_eq!(of_stream(|s| s.epoch = Epoch(i64::MAX)), Some("epoch"));
        assert_eq!(of_stream(|s| s.claims = -1), Some("claims"));
        assert_eq!(of_stream(|s| s.sequence = i64::MAX), Some("sequence"));
        assert_eq!(of_stream(|s| s.changed = DAYS_AHEAD), Some("changed"));
        assert_eq!(of_stream(|s| s.ended_at = Some(UnixMs(i64::MIN))), Some("endedAt"));
        assert_eq!(of_stream(|s| s.viewers = 1 << 60), Some("viewers"));
        assert_eq!(of_stream(|s| s.bitrate_bps = u64::MAX), Some("bitrateBps"));
        assert_eq!(of_stream(|s| s.renditions = vec![String::new(); 65]), Some("renditions"));
        assert_eq!(of_stream(|s| s.renditions = vec!["x".repeat(1_000)]), Some("renditions"));
        for fps in [-1.0, f64::NAN, 1e300] {
            let size = Some(PictureSize { width: 1, height: 1, fps });
            assert_eq!(of_stream(|s| s.size = size), Some("size.fps"), "{fps}");
        }
    }
}
