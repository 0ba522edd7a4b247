//! A way of a given width, with a queue, that frames are sent over.
#![allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]

use proptest::prelude::*;

use super::*;

const PACKET_BYTES: usize = 1_200;
const FRAME: Duration = Duration::from_millis(33);
const WAY: Duration = Duration::from_millis(20);
/// The queue takes so much time's worth of what the way carries.
const QUEUE: Duration = Duration::from_millis(400);

struct Way {
    now: Instant,
    zero: Instant,
    free_at: Instant,
    estimator: Estimator,
    unheard: Vec<Arrival>,
    estimate: u64,
}

impl Way {
    fn new(from_bps: u64, wanted_bps: u64) -> Self {
        let now = Instant::now();
        let mut estimator = Estimator::new(from_bps);
        estimator.want(wanted_bps);
        Self { now, zero: now, free_at: now, estimator, unheard: Vec::new(), estimate: from_bps }
    }

    fn send(&mut self, bytes: usize, carries_bps: u64) {
        let sequence = self.estimator.sent(bytes, self.now);
        let takes = Duration::from_secs_f64(bytes as f64 * 8.0 / carries_bps as f64);
        let begins = self.free_at.max(self.now);
        if begins - self.now > QUEUE {
            self.unheard.push(Arrival { sequence, at_us: None });
            return;
        }
        self.free_at = begins + takes;
        let arrives = (self.free_at - self.zero + WAY).as_micros() / 250 * 250;
        self.unheard.push(Arrival { sequence, at_us: Some(i64::try_from(arrives).unwrap()) });
    }

    /// Sends frames of a stream for so long; every sixtieth is five times as large. Trains are made when asked for.
    fn stream(&mut self, bps: u64, carries_bps: u64, long: Duration) {
        for n in 0..long.as_millis() / FRAME.as_millis() {
            let frame_bytes = bps as f64 / 8.0 * FRAME.as_secs_f64() * if n % 60 == 0 { 5.0 } else { 0.93 };
            let mut packets = (frame_bytes / PACKET_BYTES as f64).ceil() as usize;
            let bytes = (frame_bytes / packets as f64) as usize;
            if self.estimator.wants_train(self.now) {
                self.estimator.train_left(self.now);
                packets = packets.max(TRAIN_PACKETS);
            }
            (0..packets).for_each(|_| self.send(bytes, carries_bps));
            self.now += FRAME;
            // What has arrived by now is told.
            let now_us = i64::try_from((self.now - self.zero).as_micros()).unwrap();
            let (told, later): (Vec<_>, Vec<_>) =
                self.unheard.drain(..).partition(|arrival| arrival.at_us.is_none_or(|at| at <= now_us));
            self.unheard = later;
            if let Some(bps) = self.estimator.hear(&told, self.now) {
                self.estimate = bps;
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_way_that_is_too_narrow_is_found_out_within_a_second_or_two() {
    let mut way = Way::new(4_000_000, 4_000_000);
    way.stream(3_000_000, 1_000_000, 2 * SECOND);
    assert!((500_000..1_100_000).contains(&way.estimate), "{}", way.estimate);
}

#[test]
fn a_wide_way_is_seen_by_a_narrow_stream() {
    let mut way = Way::new(500_000, 4_000_000);
    way.stream(300_000, 20_000_000, 15 * SECOND);
    assert!(way.estimate > 5_200_000, "{}", way.estimate);
}

#[test]
fn a_way_that_becomes_narrow_and_wide_again_is_followed() {
    let mut way = Way::new(2_000_000, 2_000_000);
    way.stream(2_000_000, 10_000_000, 5 * SECOND);
    assert!(way.estimate > 2_600_000, "{}", way.estimate);
    way.stream(2_000_000, 1_000_000, 2 * SECOND);
    assert!(way.estimate < 1_100_000, "{}", way.estimate);
    way.stream(500_000, 1_000_000, 20 * SECOND);
    assert!((550_000..1_100_000).contains(&way.estimate), "{}", way.estimate);
    way.stream(500_000, 10_000_000, 30 * SECOND);
    assert!(way.estimate > 2_600_000, "{}", way.estimate);
}

#[test]
fn who_says_nothing_is_not_judged() {
    let mut way = Way::new(700_000, 700_000);
    (0..5_000).for_each(|_| way.send(PACKET_BYTES, 100_000));
    assert_eq!(way.estimate, 700_000);
    assert!(way.estimator.sent.len() <= UNHEARD_MAX);
}

proptest! {
    #[test]
    fn any_feedback_leaves_an_estimate(
        told in proptest::collection::vec((any::<u16>(), proptest::option::of(any::<i64>())), 0..300),
    ) {
        let mut way = Way::new(1_000_000, 3_000_000);
        for (n, (sequence, at_us)) in told.into_iter().enumerate() {
            way.estimator.sent(n * 7 % 1_500, way.now);
            way.now += Duration::from_millis(3);
            let sequence = if n % 2 == 0 { sequence } else { u16::try_from(n).unwrap() };
            if let Some(bps) = way.estimator.hear(&[Arrival { sequence, at_us }], way.now) {
                prop_assert!((50_000..=6_000_000).contains(&bps), "{bps}");
            }
        }
    }
}
