//! Where sound belongs among pictures that come out of a decoder later than they went in, and in another
//! order: the n-th picture out takes the place of the n-th in, and a keyframe its own. Segments that are cut
//! at keyframes then have the same sound in every rendition.

use std::collections::VecDeque;

use sluicegate_media::frame::{Frame, Unit};

/// Pictures that a decoder may hold back: 16 by H.264, and some for its threads.
const PICTURES_MAX: usize = 32;
/// Units that wait for pictures. A frame of sound has few bytes ([`sluicegate_media::limits::AUDIO_FRAME_BYTES`]).
const WAITING_MAX: usize = 1_024;
/// Sound waits so long for pictures, milliseconds of its own time: a decoder that holds some back while no more come is
/// not to hold the sound as well.
const WAIT_MS_MAX: i64 = 4_000;

/// What has gone in and not yet come out.
#[derive(Debug, Default)]
pub(super) struct Order {
    waiting: VecDeque<Waiting>,
    pictures: usize,
    /// When the newest frame that waits begins.
    newest_ms: i64,
}

#[derive(Debug)]
enum Waiting {
    Picture { pts_ms: i64, keyframe: bool },
    Other(Unit),
}

/// What a decoded picture lets go.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Released {
    /// What belongs before it.
    pub(super) before: Vec<Unit>,
    /// Whether it was a keyframe of the source.
    pub(super) keyframe: bool,
    /// What belongs after it.
    pub(super) after: Vec<Unit>,
}

impl Order {
    /// A picture went into the decoder. What waited behind pictures that seem to be lost is let go.
    pub(super) fn picture_in(&mut self, frame: &Frame) -> Vec<Unit> {
        self.waiting.push_back(Waiting::Picture { pts_ms: frame.pts_ms, keyframe: frame.keyframe });
        self.pictures += 1;
        self.let_go()
    }

    /// Something else came; what has waited long enough, which is itself if nothing is before it.
    pub(super) fn other_in(&mut self, unit: Unit) -> Vec<Unit> {
        if self.pictures == 0 {
            return vec![unit];
        }
        if let Unit::Frame(frame) = &unit {
            self.newest_ms = frame.dts_ms;
        }
        self.waiting.push_back(Waiting::Other(unit));
        self.let_go()
    }

    /// A picture came out of the decoder.
    pub(super) fn picture_out(&mut self, pts_ms: i64) -> Released {
        let is_it = |w: &Waiting| matches!(w, Waiting::Picture { pts_ms: at, .. } if *at == pts_ms);
        let mut released = Released::default();
        let place = self.waiting.iter().position(is_it);
        let keyframe = place.filter(|place| {
            matches!(self.waiting.get(*place), Some(Waiting::Picture { keyframe: true, .. }))
        });
        released.keyframe = keyframe.is_some();
        match keyframe {
            // Pictures before a keyframe that have not come out do not come any more.
            Some(place) => {
                let behind = self.waiting.len() - place - 1;
                while self.waiting.len() > behind {
                    self.take_to_picture(&mut released.before);
                }
            }
            None => self.take_to_picture(&mut released.before),
        }
        self.take_others(&mut released.after);
        released
    }

    /// All that waits, when the decoder has nothing more.
    pub(super) fn drain(&mut self) -> Vec<Unit> {
        self.pictures = 0;
        let others = self.waiting.drain(..).filter_map(|w| match w {
            Waiting::Other(unit) => Some(unit),
            Waiting::Picture { .. } => None,
        });
        others.collect()
    }

    fn let_go(&mut self) -> Vec<Unit> {
        let mut free = Vec::new();
        while self.pictures > PICTURES_MAX || self.waiting.len() > WAITING_MAX {
            self.take_to_picture(&mut free);
            self.take_others(&mut free);
        }
        // Pictures keep their places: they may still come.
        while let Some(place) = self.first_other().filter(|place| self.has_waited(*place)) {
            if let Some(Waiting::Other(unit)) = self.waiting.remove(place) {
                free.push(unit);
            }
        }
        free
    }

    fn first_other(&self) -> Option<usize> {
        self.waiting.iter().position(|waiting| matches!(waiting, Waiting::Other(_)))
    }

    /// Whether what waits there has waited for too long. A header goes with the frame that follows it.
    fn has_waited(&self, place: usize) -> bool {
        let first_ms = self.waiting.iter().skip(place).find_map(|waiting| match waiting {
            Waiting::Other(Unit::Frame(frame)) => Some(frame.dts_ms),
            _ => None,
        });
        first_ms.is_some_and(|first_ms| self.newest_ms.saturating_sub(first_ms) > WAIT_MS_MAX)
    }

    /// Takes everything up to the next place of a picture.
    fn take_to_picture(&mut self, others: &mut Vec<Unit>) {
        self.take_others(others);
        if self.waiting.pop_front().is_some() {
            self.pictures = self.pictures.saturating_sub(1);
        }
    }

    fn take_others(&mut self, others: &mut Vec<Unit>) {
        while let Some(Waiting::Other(_)) = self.waiting.front() {
            if let Some(Waiting::Other(unit)) = self.waiting.pop_front() {
                others.push(unit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluicegate_media::frame::Track;

    use super::*;

    fn frame(track: Track, pts_ms: i64, keyframe: bool) -> Frame {
        Frame { track, dts_ms: pts_ms, pts_ms, keyframe, payload: Bytes::new() }
    }

    fn sound(ms: i64) -> Unit {
        Unit::Frame(frame(Track::Audio, ms, true))
    }

    fn in_(order: &mut Order, pts_ms: i64, keyframe: bool) {
        assert!(order.picture_in(&frame(Track::Video, pts_ms, keyframe)).is_empty());
    }

    #[test]
    fn sound_keeps_its_place_among_reordered_pictures() {
        let mut order = Order::default();
        assert_eq!(order.other_in(sound(0)), [sound(0)], "nothing is before it");
        in_(&mut order, 80, true);
        assert_eq!(order.other_in(sound(20)), []);
        in_(&mut order, 200, false);
        in_(&mut order, 120, false);
        assert_eq!(order.other_in(sound(40)), []);
        let first = order.picture_out(80);
        assert_eq!((first.before, first.keyframe, first.after), (vec![], true, vec![sound(20)]));
        let second = order.picture_out(120);
        assert_eq!((second.keyframe, second.after), (false, vec![]));
        assert_eq!(order.picture_out(200).after, [sound(40)]);
    }

    #[test]
    fn a_keyframe_takes_its_own_place_even_after_losses() {
        let mut order = Order::default();
        in_(&mut order, 0, true);
        in_(&mut order, 40, false);
        assert_eq!(order.other_in(sound(41)), []);
        in_(&mut order, 80, true);
        assert_eq!(order.other_in(sound(81)), []);
        assert!(order.picture_out(0).keyframe);
        let released = order.picture_out(80);
        assert_eq!((released.before, released.after), (vec![sound(41)], vec![sound(81)]));
    }

    #[test]
    fn a_decoder_that_gives_nothing_holds_no_sound_for_ever() {
        let mut order = Order::default();
        let mut released = 0;
        for n in 0..5_000 {
            released += order.picture_in(&frame(Track::Video, n, false)).len();
            assert_eq!(order.other_in(sound(n)), []);
        }
        assert!(released >= 4_900 && order.waiting.len() <= 2 * PICTURES_MAX + 2, "{released}");
        assert_eq!(order.drain().len(), 5_000 - released);
    }

    #[test]
    fn a_picture_that_is_held_back_while_no_more_come_holds_no_sound_for_ever() {
        let mut order = Order::default();
        in_(&mut order, 0, true);
        let mut released = Vec::new();
        (1..500).for_each(|n| released.extend(order.other_in(sound(n * 20))));
        let late = order.picture_out(0);
        assert_eq!((late.before, late.keyframe, late.after.len()), (vec![], true, 201));
        released.extend(late.after);
        assert_eq!(released, (1..500).map(|n| sound(n * 20)).collect::<Vec<_>>());
    }
}
