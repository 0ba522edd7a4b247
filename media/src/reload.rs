//! Blocking playlist reloads (RFC 8216bis, 6.2.5): what a player asks for, and whether a playlist that reaches
//! so far answers it.

/// The segments ahead of a playlist's last that may be asked for.
const SEGMENTS_AHEAD: u64 = 2;

/// How many target durations a request is held at most, before it is refused as 503.
pub const HELD_TARGET_DURATIONS: u32 = 3;

/// The delivery directives of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Directives {
    /// `_HLS_msn`: held until the playlist has this segment, or this part of it.
    pub sequence: Option<u64>,
    /// `_HLS_part`.
    pub part: Option<u64>,
    /// `_HLS_skip`: a delta update will do.
    pub skip: bool,
}

/// Why a request's directives are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDirectives {
    /// Not a decimal number, or one beyond 64 bits.
    #[error("_HLS_msn and _HLS_part are decimal numbers")]
    NotANumber,
    /// A part without its segment.
    #[error("_HLS_part needs _HLS_msn")]
    PartOfNothing,
}

impl Directives {
    /// Reads a request's query. Other parameters are left aside; of one that is there twice, the first counts.
    ///
    /// # Errors
    /// [`BadDirectives`] is to be answered with 400.
    pub fn parse(query: Option<&str>) -> Result<Self, BadDirectives> {
        let query = query.unwrap_or_default();
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let directives = Self {
            sequence: value("_HLS_msn").map(number).transpose()?,
            part: value("_HLS_part").map(number).transpose()?,
            skip: matches!(value("_HLS_skip"), Some("YES" | "v2")),
        };
        if directives.part.is_some() && directives.sequence.is_none() {
            return Err(BadDirectives::PartOfNothing);
        }
        Ok(directives)
    }

    /// Whether of all the requests by which one player follows a playlist this is the one for a segment. At low
    /// latency there is one for each of its parts besides.
    #[must_use]
    pub fn begins_segment(&self) -> bool {
        self.part.is_none_or(|part| part == 0)
    }

    /// The same as a query, in the one order in which it is always written. Empty without directives.
    #[must_use]
    pub fn query(&self) -> String {
        let sequence = self.sequence.map(|sequence| format!("_HLS_msn={sequence}"));
        let part = self.part.map(|part| format!("_HLS_part={part}"));
        let skip = self.skip.then(|| "_HLS_skip=YES".to_owned());
        let all: Vec<String> = [sequence, part, skip].into_iter().flatten().collect();
        all.join("&")
    }
}

/// Digits only: `str::parse` would take a sign as well.
fn number(digits: &str) -> Result<u64, BadDirectives> {
    let is_decimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_decimal).ok_or(BadDirectives::NotANumber)
}

/// How far a media playlist reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The media sequence number of its last complete segment.
    pub sequence: u64,
    /// The parts of that segment.
    pub parts: usize,
    /// The parts that it lists of the segment after that one.
    pub coming: usize,
    /// Whether nothing will follow.
    pub ended: bool,
    /// Its target duration, in seconds.
    pub target_duration_s: u64,
    /// Its part target, in milliseconds.
    pub part_target_ms: u64,
}

/// What a request gets of a playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The playlist.
    Now,
    /// Nothing before the playlist reaches further.
    Hold,
    /// Not even that: it is too far ahead (400).
    TooFar,
}

impl Reach {
    /// What a request with these directives gets.
    #[must_use]
    pub fn verdict(&self, asked: &Directives) -> Verdict {
        let Some(sequence) = asked.sequence.filter(|_| !self.ended) else { return Verdict::Now };
        if sequence > self.sequence.saturating_add(SEGMENTS_AHEAD) {
            return Verdict::TooFar;
        }
        match asked.part {
            None if sequence <= self.sequence => Verdict::Now,
            None => Verdict::Hold,
            Some(part) => self.verdict_on_part(sequence, part),
        }
    }

    fn verdict_on_part(&self, sequence: u64, part: u64) -> Verdict {
        let coming = self.coming as u64;
        // A part beyond a segment's last is the next segment's first (RFC 8216bis, 6.2.5.2).
        // A gap has no parts: it is there as a whole.
        let beyond_last = sequence == self.sequence && self.parts > 0 && part >= self.parts as u64;
        let (sequence, part) = if beyond_last { (sequence.saturating_add(1), 0) } else { (sequence, part) };
        if sequence <= self.sequence {
            return Verdict::Now;
        }
        let listed = if sequence == self.sequence.saturating_add(1) { coming } else { 0 };
        if part < listed {
            Verdict::Now
        } else if part - listed >= self.parts_ahead() {
            Verdict::TooFar
        } else {
            Verdict::Hold
        }
    }

    /// The Advance Part Limit: parts ahead of a playlist's last that may be asked for.
    fn parts_ahead(&self) -> u64 {
        if self.part_target_ms < 1000 { 3000_u64.div_ceil(self.part_target_ms.max(1)) } else { 3 }
    }

    /// Whether the part is the next to come, as far as can be told: the one that a playlist hints at.
    #[must_use]
    pub fn is_next(&self, sequence: u64, part: u64) -> bool {
        !self.ended && sequence == self.sequence.saturating_add(1) && part == self.coming as u64
    }

    /// Its last part: the segment's media sequence number, and the part's index.
    #[must_use]
    pub fn last_part(&self) -> (u64, usize) {
        match self.coming {
            0 => (self.sequence, self.parts.saturating_sub(1)),
            coming => (self.sequence.saturating_add(1), coming - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A playlist whose segment 40 of five parts is complete, with two parts of 41.
    const REACH: Reach =
        Reach { sequence: 40, parts: 5, coming: 2, ended: false, target_duration_s: 1, part_target_ms: 200 };

    #[track_caller]
    fn check(query: &str, expect: Verdict) {
        assert_eq!(REACH.verdict(&Directives::parse(Some(query)).unwrap()), expect, "{query}");
    }

    #[test]
    fn what_is_here_is_answered_and_what_is_near_is_held() {
        check("", Verdict::Now);
        check("_HLS_skip=YES", Verdict::Now);
        check("_HLS_msn=3", Verdict::Now);
        check("_HLS_msn=40", Verdict::Now);
        check("_HLS_msn=41", Verdict::Hold);
        check("_HLS_msn=42", Verdict::Hold);
        check("_HLS_msn=43", Verdict::TooFar);
        check("_HLS_msn=41&_HLS_part=1", Verdict::Now);
        check("_HLS_msn=41&_HLS_part=2", Verdict::Hold);
        check("_HLS_msn=41&_HLS_part=16", Verdict::Hold);
        check("_HLS_msn=41&_HLS_part=17", Verdict::TooFar);
        check("_HLS_msn=42&_HLS_part=0", Verdict::Hold);
        check("_HLS_msn=43&_HLS_part=0", Verdict::TooFar);
    }

    #[test]
    fn a_part_beyond_the_last_is_the_next_segments_first() {
        check("_HLS_msn=40&_HLS_part=4", Verdict::Now);
        check("_HLS_msn=40&_HLS_part=5", Verdict::Now);
        let just_cut = Reach { coming: 0, ..REACH };
        let asked = Directives { sequence: Some(40), part: Some(5), skip: false };
        assert_eq!(just_cut.verdict(&asked), Verdict::Hold);
        assert_eq!(just_cut.last_part(), (40, 4));
    }

    #[test]
    fn an_ended_playlist_is_never_waited_for() {
        let ended = Reach { ended: true, ..REACH };
        for sequence in [0, 41, u64::MAX] {
            let asked = Directives { sequence: Some(sequence), part: Some(9), skip: false };
            assert_eq!(ended.verdict(&asked), Verdict::Now);
        }
    }

    #[test]
    fn long_parts_may_be_asked_for_three_ahead() {
        let long = Reach { part_target_ms: 1000, coming: 0, ..REACH };
        let asked = |part| Directives { sequence: Some(41), part: Some(part), skip: false };
        assert_eq!(long.verdict(&asked(2)), Verdict::Hold);
        assert_eq!(long.verdict(&asked(3)), Verdict::TooFar);
    }

    #[test]
    fn of_a_low_latency_players_requests_one_begins_each_segment() {
        let begins = |query: &str| Directives::parse(Some(query)).unwrap().begins_segment();
        let parts = (0..5).map(|part| format!("_HLS_msn=7&_HLS_part={part}"));
        assert_eq!(parts.filter(|query| begins(query)).count(), 1);
        assert!(
            begins("") && begins("token=x") && begins("_HLS_msn=7"),
            "who asks for whole segments, each time"
        );
    }

    #[test]
    fn bad_directives() {
        for query in
            ["_HLS_msn=", "_HLS_msn=-1", "_HLS_msn=+1", "_HLS_msn=1.5", "_HLS_msn=99999999999999999999"]
        {
            assert_eq!(Directives::parse(Some(query)), Err(BadDirectives::NotANumber), "{query}");
        }
        assert_eq!(Directives::parse(Some("_HLS_part=1")), Err(BadDirectives::PartOfNothing));
        let other =
            Directives::parse(Some("token=x&_HLS_msn=7&_HLS_other=1&_HLS_msn=8&_HLS_skip=v2")).unwrap();
        assert_eq!(other, Directives { sequence: Some(7), part: None, skip: true });
        assert_eq!(other.query(), "_HLS_msn=7&_HLS_skip=YES");
        assert_eq!(Directives::default().query(), "");
    }

    proptest! {
        #[test]
        fn directives_survive_a_round_trip(sequence: Option<u64>, part: Option<u64>, skip: bool) {
            let directives = Directives { sequence, part: sequence.and(part), skip };
            prop_assert_eq!(Directives::parse(Some(&directives.query())), Ok(directives));
        }

        #[test]
        fn any_query_is_read_without_a_panic(query in "(&?_?[_A-Za-z]{0,8}=?[0-9+-]{0,20}){0,4}") {
            let _ = Directives::parse(Some(&query));
        }

        #[test]
        fn what_is_held_is_answered_in_the_end(
            sequence in 0..50_u64, part in proptest::option::of(0..40_u64), coming in 0..5_usize,
        ) {
            let mut reach = Reach { coming, ..REACH };
            let asked = Directives { sequence: Some(sequence), part, skip: false };
            if reach.verdict(&asked) == Verdict::Hold {
                // Segments of five parts go by.
                for _ in 0..30 {
                    reach.coming += 1;
                    if reach.coming == 5 {
                        (reach.sequence, reach.coming) = (reach.sequence + 1, 0);
                    }
                    prop_assert_ne!(reach.verdict(&asked), Verdict::TooFar);
                }
                prop_assert_eq!(reach.verdict(&asked), Verdict::Now);
            }
        }
    }
}
