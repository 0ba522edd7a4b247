//! Which rendition a viewer is sent, by what its network carries: down at once when that falls short, up one at a
//! time and only when there has been room for a while.

use std::time::{Duration, Instant};

use sluicegate_cluster::stream::StreamRecord;
use sluicegate_media::names::Rung;

/// A lower rendition is chosen so that this much of the estimate stays free: sound, repeats, the estimate's error.
const HEADROOM: f64 = 0.85;
/// The estimate has to be this many times the next rendition's rate before that is tried.
const UP_FACTOR: f64 = 1.3;
/// And for this long.
const UP_AFTER: Duration = Duration::from_secs(5);
/// After a switch nothing is decided for this long: the next keyframe has to come, and the estimate to settle.
const SETTLE: Duration = Duration::from_secs(2);

/// A rendition that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Its name, as origins have it; `None` for the source.
    pub(crate) rendition: Option<String>,
    /// Lines of the picture, where they are known.
    pub(crate) height: Option<u32>,
    /// Bits a second.
    pub(crate) bps: u64,
}

/// The renditions of a stream, the smallest first.
pub(crate) fn layers(stream: &StreamRecord) -> Vec<Layer> {
    let encoded = stream.renditions.iter().filter_map(|name| match name.parse::<Rung>() {
        Ok(Rung::Encoded { height, kbps }) => {
            let bps = u64::from(kbps) * 1_000;
            Some(Layer { rendition: Some(name.clone()), height: Some(height), bps })
        }
        Ok(Rung::Source) | Err(_) => None,
    });
    let mut layers: Vec<Layer> = encoded.collect();
    layers.sort_by_key(|layer| layer.bps);
    let most = layers.last().map_or(0, |layer| layer.bps);
    let height = stream.size.map(|size| size.height);
    layers.push(Layer { rendition: None, height, bps: stream.bitrate_bps.max(most) });
    layers
}

/// One viewer's choice.
#[derive(Debug)]
pub(crate) struct Choice {
    current: usize,
    changed: Instant,
    room_since: Option<Instant>,
    /// The viewer has chosen for itself.
    is_fixed: bool,
}

impl Choice {
    /// One that begins with the source, the last of `layers`.
    pub(crate) fn new(layers: &[Layer], now: Instant) -> Self {
        Self { current: layers.len().saturating_sub(1), changed: now, room_since: None, is_fixed: false }
    }

    /// The rendition to go to, by an estimate of what can be sent. `None`: stay.
    pub(crate) fn by_estimate<'a>(
        &mut self,
        layers: &'a [Layer],
        estimate_bps: u64,
        now: Instant,
    ) -> Option<&'a Layer> {
        if self.is_fixed || now.saturating_duration_since(self.changed) < SETTLE {
            return None;
        }
        let estimate = estimate_bps as f64;
        let current = layers.get(self.current)?;
        if current.bps as f64 > estimate && self.current > 0 {
            let fits = |layer: &Layer| layer.bps as f64 <= estimate * HEADROOM;
            let below = layers.get(..self.current)?;
            return self.change(layers, below.iter().rposition(fits).unwrap_or(0), now);
        }
        let next = layers.get(self.current + 1)?;
        if (next.bps as f64) * UP_FACTOR > estimate {
            self.room_since = None;
            return None;
        }
        let room_for = now.saturating_duration_since(*self.room_since.get_or_insert(now));
        if room_for < UP_AFTER { None } else { self.change(layers, self.current + 1, now) }
    }

    /// The stream's renditions are other ones now.
    pub(crate) fn among(&mut self, before: &[Layer], after: &[Layer]) {
        let same = |layer: &Layer| before.get(self.current).is_some_and(|b| b.rendition == layer.rendition);
        // A rendition that is gone is taken for the source, which there always is.
        self.current = after.iter().position(same).unwrap_or_else(|| after.len().saturating_sub(1));
    }

    /// The rendition to go to because the viewer wants one of `lines`, or the next smaller one, whatever its network
    /// carries; 0 leaves it to the estimate again. `None`: stay.
    pub(crate) fn by_height<'a>(
        &mut self,
        layers: &'a [Layer],
        lines: u32,
        now: Instant,
    ) -> Option<&'a Layer> {
        self.is_fixed = lines > 0;
        if lines == 0 {
            return None;
        }
        let fits = |layer: &Layer| layer.height.is_some_and(|height| height <= lines);
        let to = layers.iter().rposition(fits).unwrap_or(0);
        if to == self.current { None } else { self.change(layers, to, now) }
    }

    fn change<'a>(&mut self, layers: &'a [Layer], to: usize, now: Instant) -> Option<&'a Layer> {
        *self = Self { current: to, changed: now, room_since: None, is_fixed: self.is_fixed };
        layers.get(to)
    }
}

#[cfg(test)]
mod tests {
    use sluicegate_cluster::clock::{self, UnixMs};
    use sluicegate_cluster::stream::PictureSize;
    use sluicegate_cluster::testing::stream_held_by;

    use super::*;

    fn of(renditions: &[&str], bitrate_bps: u64) -> Vec<Layer> {
        let size = Some(PictureSize { width: 1_920, height: 1_080, fps: 30.0 });
        let renditions = renditions.iter().map(|name| (*name).to_owned()).collect();
        let plain = stream_held_by("live/cam", "o1", "s", UnixMs(0));
        layers(&StreamRecord { renditions, bitrate_bps, size, ..plain })
    }

    fn ladder() -> Vec<Layer> {
        of(&["source", "720p2000kbps", "360p600kbps", "nonsense"], 4_000_000)
    }

    /// The rates that a viewer goes to, and when (s), as the estimate is told twice a second.
    fn run(estimate: impl Fn(u64) -> u64, seconds: u64) -> Vec<(u64, u64)> {
        let (layers, start) = (ladder(), clock::now());
        let mut choice = Choice::new(&layers, start);
        let mut went = Vec::new();
        for half in 0..seconds * 2 {
            let now = start + Duration::from_millis(500 * half);
            if let Some(layer) = choice.by_estimate(&layers, estimate(half / 2), now) {
                went.push((half / 2, layer.bps / 1_000));
            }
        }
        went
    }

    #[test]
    fn the_ladder_is_read_from_names_and_the_source_is_on_top() {
        let rates: Vec<u64> = ladder().iter().map(|layer| layer.bps / 1_000).collect();
        assert_eq!(rates, [600, 2_000, 4_000]);
        assert_eq!(of(&["720p2000kbps"], 0)[1].bps, 2_000_000, "unknown: no less than the best");
        assert_eq!(of(&[], 5).len(), 1);
    }

    #[test]
    fn a_viewer_that_chooses_stays_there_until_it_leaves_it_to_the_estimate() {
        let (layers, start) = (ladder(), clock::now());
        let mut choice = Choice::new(&layers, start);
        let mut wants = |lines| choice.by_height(&layers, lines, start).map(|layer| layer.bps / 1_000);
        assert_eq!(wants(1_080), None, "it is there already");
        assert_eq!(wants(480), Some(600), "the next smaller one");
        assert_eq!((wants(720), wants(100), wants(4_320)), (Some(2_000), Some(600), Some(4_000)));
        let later = start + SETTLE;
        assert_eq!(choice.by_estimate(&layers, 100_000, later), None);
        assert_eq!(choice.by_height(&layers, 0, start), None);
        assert_eq!(choice.by_estimate(&layers, 100_000, later).map(|layer| layer.bps), Some(600_000));
    }

    #[test]
    fn down_at_once_and_as_far_as_it_takes() {
        assert_eq!(run(|s| if s < 4 { 9_000_000 } else { 1_000_000 }, 8), [(4, 600)]);
        assert_eq!(run(|_| 3_000_000, 4), [(2, 2_000)]);
        assert_eq!(run(|_| 100_000, 4), [(2, 600)], "there is nothing smaller");
    }

    #[test]
    fn up_one_at_a_time_after_there_was_room_for_a_while() {
        let went = run(|s| if s < 3 { 500_000 } else { 9_000_000 }, 30);
        assert_eq!(went, [(2, 600), (9, 2_000), (16, 4_000)]);
    }

    #[test]
    fn renditions_that_come_later_can_be_chosen() {
        let (alone, all, start) = (of(&["source"], 4_000_000), ladder(), clock::now());
        let mut choice = Choice::new(&alone, start);
        assert_eq!(choice.by_height(&alone, 360, start), None);
        choice.among(&alone, &all);
        assert_eq!(choice.by_height(&all, 360, start).map(|layer| layer.bps), Some(600_000));
        choice.among(&all, &alone);
        assert_eq!(choice.by_height(&alone, 360, start), None);
    }

    #[test]
    fn an_estimate_that_swings_does_not_bring_it_up() {
        let went = run(|s| if s % 4 == 3 { 700_000 } else { 9_000_000 }, 40);
        assert_eq!(went, [(3, 600)]);
    }
}
