//! How much can be sent to a receiver, from when its packets arrive (transport-wide feedback): what arrives can be
//! sent; a queue that stands, or loss, says that it was too much; and packets that left together say by how far apart
//! they arrive how much more there is room for. No sockets and no clocks.

mod delay;
mod rate;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::delay::Delay;
use self::rate::{Rate, Train};
use super::feedback::Arrival;

/// Packets that were sent and that nothing was heard of, at most: older ones are not waited for.
const UNHEARD_MAX: usize = 1_024;
/// The least and the most that is estimated, bits a second.
const LEAST_BPS: f64 = 50_000.0;
const MOST_BPS: f64 = 50_000_000.0;
/// More than this many times what is wanted is not worth knowing.
const WANTED_FACTOR: f64 = 2.0;
/// Up to this many times what is wanted, more is looked for.
const LOOKED_FOR_FACTOR: f64 = 1.5;
/// A standing queue of this length: no more is sent than now; of that length: it was too much.
const QUEUE_HOLDS: Duration = Duration::from_millis(25);
const QUEUE_FALLS: Duration = Duration::from_millis(60);
/// Then so much of what arrives is sent, so that the queue becomes shorter.
const BACKOFF: f64 = 0.85;
/// Losses are looked at so often, with so many packets at least, and taken for overload from this share on.
const LOSS_EVERY: Duration = Duration::from_millis(500);
const LOSS_PACKETS: u32 = 20;
const LOSS_HOLDS: f64 = 0.02;
const LOSS_FALLS: f64 = 0.10;
/// The estimate is lowered so often at most: what was done has to be seen first.
const FALL_EVERY: Duration = Duration::from_millis(300);
/// While as much arrives as was estimated, the estimate rises so much in a second, up to so many times that.
const RISE_PER_S: f64 = 0.08;
const RISE_FACTOR: f64 = 1.5;
/// Packets that leave together and say something of the way, at least.
pub(super) const TRAIN_PACKETS: usize = 8;
/// Of what a train finds so much is believed, and no more than this many times the estimate.
const TRAIN_SHARE: f64 = 0.85;
const TRAIN_FACTOR: f64 = 2.0;
/// Where frames are too small for trains, one is made so often.
const TRAIN_EVERY: Duration = Duration::from_secs(2);
/// After a fall trains are not believed for this long, and for twice as long after the next, up to the last: what
/// passes at once, for a moment, is not always carried for long.
const DOUBT_FIRST: Duration = Duration::from_secs(5);
const DOUBT_MAX: Duration = Duration::from_secs(60);
/// Who says nothing for this long is not looked at.
const FEEDBACK_LATE: Duration = Duration::from_secs(1);
/// How often the estimate is told.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// The estimate of one session.
#[derive(Debug)]
pub(crate) struct Estimator {
    bps: f64,
    wanted_bps: Option<f64>,
    sent: VecDeque<Option<Sent>>,
    /// The number of the next packet.
    next: u16,
    rate: Rate,
    delay: Delay,
    train: Train,
    losses: Losses,
    /// When something was heard last, when it was told last, when it fell last, when a train was seen last.
    heard: Option<Instant>,
    told: Option<Instant>,
    fell: Option<Instant>,
    train_seen: Option<Instant>,
    doubt: Duration,
}

/// A packet under way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    at: Instant,
    bytes: u32,
}

#[derive(Debug, Default)]
struct Losses {
    since: Option<Instant>,
    packets: u32,
    lost: u32,
    share: f64,
}

impl Estimator {
    /// One that begins with `bps`.
    pub(crate) fn new(bps: u64) -> Self {
        Self {
            bps: bps as f64,
            wanted_bps: None,
            sent: VecDeque::new(),
            next: 0,
            rate: Rate::default(),
            delay: Delay::default(),
            train: Train::default(),
            losses: Losses::default(),
            heard: None,
            told: None,
            fell: None,
            train_seen: None,
            doubt: DOUBT_FIRST,
        }
    }

    /// What would be sent if there were room, bits a second.
    pub(crate) fn want(&mut self, bps: u64) {
        self.wanted_bps = Some(bps as f64);
    }

    /// A packet leaves. Its transport-wide sequence number.
    pub(crate) fn sent(&mut self, bytes: usize, now: Instant) -> u16 {
        if self.sent.len() >= UNHEARD_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(Some(Sent { at: now, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }));
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }

    /// Whether packets are to be sent together now, to see what there is room for.
    pub(crate) fn wants_train(&self, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let is_heard = since(self.heard).is_some_and(|since| since < FEEDBACK_LATE);
        let is_due = since(self.train_seen).is_none_or(|since| since >= TRAIN_EVERY);
        let is_short = self.wanted_bps.is_some_and(|wanted| self.bps < wanted * LOOKED_FOR_FACTOR);
        is_heard && is_due && is_short && self.trusts_trains(now)
    }

    /// Notes that a train leaves, so that the next one waits.
    pub(crate) fn train_left(&mut self, now: Instant) {
        self.train_seen = Some(now);
    }

    /// Takes feedback. The estimate, bits a second, when it is time to tell it.
    pub(crate) fn hear(&mut self, arrivals: &[Arrival], now: Instant) -> Option<u64> {
        let passed = self.heard.map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard));
        self.heard = Some(now);
        for arrival in arrivals {
            if let Some(sent) = self.take(arrival.sequence) {
                self.arrived(sent, arrival.at_us, now);
            }
        }
        self.losses.look(now);
        self.judge(passed.min(FEEDBACK_LATE), now);
        let is_due = self.told.is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        is_due.then(|| {
            self.told = Some(now);
            self.bps as u64
        })
    }

    /// The packet of this number, unless it was heard of already.
    fn take(&mut self, sequence: u16) -> Option<Sent> {
        let back = usize::from(self.next.wrapping_sub(sequence));
        let at = self.sent.len().checked_sub(back)?;
        let sent = self.sent.get_mut(at)?.take();
        while self.sent.front().is_some_and(Option::is_none) {
            self.sent.pop_front();
        }
        sent
    }

    fn arrived(&mut self, sent: Sent, at_us: Option<i64>, now: Instant) {
        self.losses.packets += 1;
        let is_first = self.train.departs(sent.at);
        if let Some(found) = self.train.arrives(sent.at, sent.bytes, at_us) {
            self.train_seen = Some(now);
            self.believe(found, now);
        }
        let Some(at_us) = at_us else {
            self.losses.lost += 1;
            return;
        };
        self.rate.arrived(at_us, sent.bytes);
        // What follows in the same train waits for the first: that is no queue that others have left.
        if is_first {
            self.delay.arrived(sent.at, at_us);
        }
    }

    /// A train has found that so much passes.
    fn believe(&mut self, found_bps: f64, now: Instant) {
        if self.trusts_trains(now) && self.losses.share < LOSS_FALLS {
            let believed = (found_bps * TRAIN_SHARE).min(self.bps * TRAIN_FACTOR);
            self.set(self.bps.max(believed));
        }
    }

    fn trusts_trains(&self, now: Instant) -> bool {
        self.fell.is_none_or(|fell| now.saturating_duration_since(fell) >= self.doubt)
    }

    /// Goes by the queue and the losses.
    fn judge(&mut self, passed: Duration, now: Instant) {
        let (queue, arriving) = (self.delay.standing(), self.rate.bps());
        if queue >= QUEUE_FALLS {
            return self.fall(arriving * BACKOFF, now);
        }
        if self.losses.share >= LOSS_FALLS {
            let share = std::mem::take(&mut self.losses.share);
            return self.fall(self.bps * (1.0 - share / 2.0), now);
        }
        if queue >= QUEUE_HOLDS || self.losses.share >= LOSS_HOLDS {
            return;
        }
        let mut bps = self.bps.max(arriving);
        if bps < arriving * RISE_FACTOR {
            bps *= 1.0 + RISE_PER_S * passed.as_secs_f64();
        }
        self.set(bps);
    }

    fn fall(&mut self, bps: f64, now: Instant) {
        let since = self.fell.map(|fell| now.saturating_duration_since(fell));
        if since.is_some_and(|since| since < FALL_EVERY) {
            return;
        }
        self.doubt = match since {
            Some(since) if since < self.doubt => self.doubt,
            Some(since) if since < DOUBT_MAX => (self.doubt * 2).min(DOUBT_MAX),
            _ => DOUBT_FIRST,
        };
        self.fell = Some(now);
        self.set(self.bps.min(bps));
    }

    fn set(&mut self, bps: f64) {
        let most = self.wanted_bps.map_or(MOST_BPS, |wanted| (wanted * WANTED_FACTOR).min(MOST_BPS));
        self.bps = bps.clamp(LEAST_BPS, most.max(LEAST_BPS));
    }
}

impl Losses {
    fn look(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= LOSS_EVERY && self.packets >= LOSS_PACKETS {
            let share = f64::from(self.lost) / f64::from(self.packets);
            *self = Self { since: Some(now), share, ..Self::default() };
        }
    }
}

#[cfg(test)]
mod tests;
