//! What low-latency playlists must be, each by itself and one after the other (RFC 8216bis 4.4 and 6.2). What is
//! not so is named in a sentence.

use super::playlist::{Playlist, Segment};

/// Durations are written to the millisecond.
const ROUNDING_MS: u64 = 1;
/// All parts of a segment but its last are at least so much of the part target.
const SHORTEST_PART_PERCENT: u64 = 85;
/// A player stays so many parts behind the end at least.
const HOLD_BACK_PARTS: u64 = 3;
/// What a delta update leaves out is so many target durations from the end at least.
const SKIP_TARGET_DURATIONS: u64 = 6;
/// Parts are listed up to so many target durations from the end.
const PARTS_TARGET_DURATIONS: u64 = 3;

/// What is wrong with a playlist by itself.
#[must_use]
pub fn by_itself(playlist: &Playlist) -> Vec<String> {
    let mut wrong = promises(playlist);
    let mut say = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let needed = if playlist.skipped > 0 { 9 } else { 6 };
    say(playlist.version >= needed, format!("EXT-X-VERSION is {}, not {needed}", playlist.version));
    say(!playlist.segments.is_empty(), "there is no segment".to_owned());
    say(playlist.ended || playlist.hint.is_some(), "there is no EXT-X-PRELOAD-HINT".to_owned());
    let hint = playlist.hint.as_deref().unwrap_or_default();
    let mut parts = playlist.segments.iter().flat_map(|segment| &segment.parts);
    say(parts.all(|part| part.uri != hint), format!("{hint} is hinted at and listed"));
    let incomplete = playlist.segments.iter().rev().skip(1).any(|segment| segment.uri.is_none());
    say(!incomplete, "a segment that is not complete is not the last".to_owned());
    for (number, segment) in playlist.numbered() {
        wrong.extend(
            of_segment(playlist, segment).into_iter().map(|what| format!("segment {number}: {what}")),
        );
    }
    wrong.extend(parts_near_the_end(playlist));
    wrong
}

fn promises(playlist: &Playlist) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let part_target_ms = playlist.part_target_ms.unwrap_or(0);
    say(playlist.target_ms > 0, "there is no EXT-X-TARGETDURATION");
    say(part_target_ms > 0, "there is no EXT-X-PART-INF with PART-TARGET");
    say(playlist.control("CAN-BLOCK-RELOAD").as_deref() == Some("YES"), "CAN-BLOCK-RELOAD is not YES");
    let hold_back_ms = playlist.control_ms("PART-HOLD-BACK").unwrap_or(0);
    say(hold_back_ms >= HOLD_BACK_PARTS * part_target_ms, "PART-HOLD-BACK is less than three part targets");
    let skip_ms = playlist.control_ms("CAN-SKIP-UNTIL").unwrap_or(u64::MAX);
    say(
        skip_ms >= SKIP_TARGET_DURATIONS * playlist.target_ms,
        "CAN-SKIP-UNTIL is less than six target durations",
    );
    wrong
}

fn of_segment(playlist: &Playlist, segment: &Segment) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let part_target_ms = playlist.part_target_ms.unwrap_or(0);
    say(segment.dated, "it has no EXT-X-PROGRAM-DATE-TIME".to_owned());
    say(segment.map.is_some(), "no EXT-X-MAP applies".to_owned());
    let durations: Vec<u64> = segment.parts.iter().map(|part| part.duration_ms).collect();
    say(
        durations.iter().all(|ms| (1..=part_target_ms + ROUNDING_MS).contains(ms)),
        format!("parts of {durations:?} ms, for a target of {part_target_ms} ms"),
    );
    let complete = segment.uri.is_some();
    let whole = if complete { durations.len().saturating_sub(1) } else { durations.len() };
    let shortest_ms = part_target_ms * SHORTEST_PART_PERCENT / 100;
    say(
        durations.iter().take(whole).all(|ms| *ms + ROUNDING_MS >= shortest_ms),
        format!("parts of {durations:?} ms: only the last may be shorter than {shortest_ms} ms"),
    );
    if complete {
        say(
            (segment.duration_ms + 500) / 1000 * 1000 <= playlist.target_ms,
            format!("{} ms are longer than the target duration", segment.duration_ms),
        );
        let sum: u64 = durations.iter().sum();
        say(
            durations.is_empty() || sum.abs_diff(segment.duration_ms) <= durations.len() as u64 * ROUNDING_MS,
            format!("its parts last {sum} ms, itself {} ms", segment.duration_ms),
        );
    }
    let begins_independent = segment.parts.first().is_none_or(|part| part.independent);
    say(
        begins_independent || !playlist.independent_segments,
        "EXT-X-INDEPENDENT-SEGMENTS is there, but its first part is not INDEPENDENT".to_owned(),
    );
    wrong
}

/// Parts stay for three target durations, so whoever joins finds some.
fn parts_near_the_end(playlist: &Playlist) -> Vec<String> {
    let complete: Vec<_> = playlist.numbered().filter(|(_, segment)| segment.uri.is_some()).collect();
    let mut to_end_ms = 0;
    let mut wrong = Vec::new();
    for (number, segment) in complete.iter().rev() {
        let near = to_end_ms + segment.duration_ms <= PARTS_TARGET_DURATIONS * playlist.target_ms;
        let far = to_end_ms > (PARTS_TARGET_DURATIONS + 1) * playlist.target_ms;
        match segment.parts.is_empty() {
            true if near => wrong.push(format!("segment {number} is near the end and has no parts")),
            false if far => wrong.push(format!("segment {number} is far from the end and still has parts")),
            _ => {}
        }
        to_end_ms += segment.duration_ms;
    }
    wrong
}

/// What is wrong with `now` as what comes after `before`, both of them whole.
#[must_use]
pub fn as_successor(before: &Playlist, now: &Playlist) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |holds: bool, what: String| {
        if !holds {
            wrong.push(what);
        }
    };
    let changed = |name: &str| format!("{name} has changed");
    say(now.target_ms == before.target_ms, changed("EXT-X-TARGETDURATION"));
    say(now.part_target_ms == before.part_target_ms, changed("PART-TARGET"));
    say(now.server_control == before.server_control, changed("EXT-X-SERVER-CONTROL"));
    say(
        now.sequence >= before.sequence && now.last_part() >= before.last_part(),
        format!("it went back from {:?} to {:?}", before.last_part(), now.last_part()),
    );
    say(
        now.discontinuity_sequence >= before.discontinuity_sequence,
        "EXT-X-DISCONTINUITY-SEQUENCE fell".to_owned(),
    );
    say(!before.ended || now.ended, "it had ended and goes on".to_owned());
    for (number, old) in before.numbered() {
        let Some(new) = now.segment(number) else { continue };
        say(
            old.uri.is_none() || (&old.uri, old.duration_ms) == (&new.uri, new.duration_ms),
            format!("segment {number} has changed"),
        );
        // Parts go when they are no longer near the end, all of a segment's together.
        let kept = new.parts.is_empty() || new.parts.starts_with(&old.parts);
        say(kept, format!("segment {number} has other parts than before"));
    }
    let went_on = now.last_part() > before.last_part();
    let hint = before.hint.as_deref().unwrap_or_default();
    let mut parts = now.segments.iter().flat_map(|segment| &segment.parts);
    let of_hint = before.next_part().and_then(|(number, _)| now.segment(number));
    let still_listed = of_hint.is_some_and(|segment| !segment.parts.is_empty());
    say(
        !went_on || !still_listed || parts.any(|part| part.uri == hint),
        format!("{hint} was hinted at and never came"),
    );
    wrong
}

/// What is wrong with a delta update, `full` being the whole playlist of about the same moment.
#[must_use]
pub fn as_delta(full: &Playlist, delta: &Playlist) -> Vec<String> {
    let mut wrong = Vec::new();
    let promises =
        |playlist: &Playlist| (playlist.target_ms, playlist.part_target_ms, playlist.server_control.clone());
    if promises(full) != promises(delta) {
        wrong.push("a delta update promises something else".to_owned());
    }
    for (number, segment) in delta.numbered().filter(|(_, segment)| segment.uri.is_some()) {
        if full.segment(number).is_some_and(|same| same.uri.is_some() && same.uri != segment.uri) {
            wrong.push(format!("segment {number} is another one in a delta update"));
        }
    }
    let boundary_ms = full.control_ms("CAN-SKIP-UNTIL").unwrap_or(0);
    let listed_ms: u64 = delta.segments.iter().map(|segment| segment.duration_ms).sum();
    if delta.skipped > 0 && listed_ms < boundary_ms {
        wrong.push(format!("a delta update leaves out what is less than {boundary_ms} ms from its end"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:1
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.5
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-DISCONTINUITY-SEQUENCE:0
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MAP:URI=\"i.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXT-X-PART:DURATION=0.5,URI=\"7.0.m4s\",INDEPENDENT=YES
#EXT-X-PART:DURATION=0.5,URI=\"7.1.m4s\"
#EXTINF:1.0,
7.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:01.000Z
#EXT-X-PART:DURATION=0.5,URI=\"8.0.m4s\",INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.1.m4s\"
";

    /// What is wrong with the good playlist once `this` in it is `that`.
    #[track_caller]
    fn check(this: &str, that: &str, expect: &str) {
        let text = GOOD.replace(this, that);
        assert_ne!(text, GOOD);
        let wrong = by_itself(&Playlist::read(&text)).join("; ");
        assert!(wrong.contains(expect), "{wrong}");
    }

    #[test]
    fn a_good_playlist_is_found_to_be_good() {
        let good = Playlist::read(GOOD);
        assert_eq!(by_itself(&good), Vec::<String>::new());
        assert_eq!(
            (good.last_part(), good.next_part(), good.last_complete()),
            (Some((8, 0)), Some((8, 1)), Some(7))
        );
    }

    #[test]
    fn each_fault_is_found() {
        check("VERSION:6", "VERSION:3", "EXT-X-VERSION");
        check("CAN-BLOCK-RELOAD=YES,", "", "CAN-BLOCK-RELOAD");
        check("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.4", "PART-HOLD-BACK");
        check("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=5.9", "CAN-SKIP-UNTIL");
        check("#EXT-X-PART-INF:PART-TARGET=0.5\n", "", "EXT-X-PART-INF");
        check("#EXT-X-MAP:URI=\"i.mp4\"\n", "", "EXT-X-MAP");
        check(
            "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z\n",
            "",
            "segment 7: it has no EXT-X-PROGRAM",
        );
        check("DURATION=0.5,URI=\"7.0", "DURATION=0.6,URI=\"7.0", "for a target of 500 ms");
        check("DURATION=0.5,URI=\"7.0", "DURATION=0.3,URI=\"7.0", "only the last may be shorter");
        check("EXTINF:1.0", "EXTINF:1.2", "its parts last 1000 ms, itself 1200 ms");
        check("EXTINF:1.0", "EXTINF:1.6", "longer than the target duration");
        check("7.0.m4s\",INDEPENDENT=YES", "7.0.m4s\"", "not INDEPENDENT");
        check("HINT:TYPE=PART,URI=\"8.1", "HINT:TYPE=PART,URI=\"8.0", "hinted at and listed");
        check("#EXT-X-PRELOAD-HINT", "#EXT-X-OTHER", "no EXT-X-PRELOAD-HINT");
        check(
            "#EXT-X-PART:DURATION=0.5,URI=\"7.0.m4s\",INDEPENDENT=YES\n#EXT-X-PART:DURATION=0.5,URI=\"7.1.m4s\"\n",
            "",
            "near the end and has no parts",
        );
    }

    #[track_caller]
    fn check_successor(now: &str, expect: &str) {
        let wrong = as_successor(&Playlist::read(GOOD), &Playlist::read(now)).join("; ");
        assert!(if expect.is_empty() { wrong.is_empty() } else { wrong.contains(expect) }, "{wrong}");
    }

    #[test]
    fn each_playlist_continues_the_one_before() {
        let next = GOOD.replace(
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"8.1.m4s\"",
            "#EXT-X-PART:DURATION=0.5,URI=\"8.1.m4s\"\n#EXTINF:1.0,\n8.m4s\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"9.0.m4s\"",
        );
        check_successor(GOOD, "");
        check_successor(&next, "");
        check_successor(&next.replace("8.1.m4s", "8.x.m4s"), "8.1.m4s was hinted at and never came");
        check_successor(&next.replace("\n7.m4s", "\nother.m4s"), "segment 7 has changed");
        check_successor(&next.replace("7.1.m4s", "7.x.m4s"), "segment 7 has other parts");
        check_successor(
            &next.replace("TARGETDURATION:1", "TARGETDURATION:2"),
            "EXT-X-TARGETDURATION has changed",
        );
        check_successor(&next.replace("SEQUENCE:7", "SEQUENCE:6"), "it went back");
        check_successor(&next.replace("HOLD-BACK=1.5", "HOLD-BACK=1.6"), "EXT-X-SERVER-CONTROL has changed");
    }

    #[test]
    fn a_delta_update_leaves_out_what_is_old_only() {
        let full = GOOD.replace("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.5,CAN-SKIP-UNTIL=6.0");
        let full = Playlist::read(&full);
        let mut delta = full.clone();
        assert_eq!(as_delta(&full, &delta), Vec::<String>::new());
        (delta.skipped, delta.sequence) = (2, 5);
        assert_eq!(
            as_delta(&full, &delta),
            ["a delta update leaves out what is less than 6000 ms from its end"]
        );
        delta.sequence = 4;
        assert_eq!(as_delta(&full, &delta).len(), 1, "segment 6 is not in the full one");
    }
}
