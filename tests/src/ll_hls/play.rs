//! Plays a live stream as a low-latency player does: tunes in, asks for each part before it is there, follows
//! hints, delta updates and rendition reports, and looks at every answer.

use std::thread;
use std::time::{Duration, Instant};

use super::playlist::Playlist;
use super::rules;
use crate::hls::variants;
use crate::http::{Answer, try_get};

/// What an answer that is not held may take.
const AT_ONCE: Duration = Duration::from_secs(1);
/// A request is held for so many target durations at most.
const HELD_TARGET_DURATIONS: u32 = 3;
/// Of the reloads, one in so many is followed by a look at what is complete.
const LOOK_EVERY: u64 = 5;
/// Faults after which it is no use to go on.
const FAULTS_MAX: usize = 20;

/// What a validation came to.
#[derive(Debug, Default)]
pub struct Report {
    /// What was wrong.
    pub faults: Vec<String>,
    /// Playlists that were waited for.
    pub reloads: u64,
    /// Hinted parts that were asked for before they were made, and came.
    pub hinted: u64,
    /// Delta updates.
    pub deltas: u64,
    /// Segments whose parts were compared with them.
    pub compared: u64,
}

/// Plays the stream at `url`, a media playlist or a list of renditions of which the first is played, for so long.
#[must_use]
pub fn validate(url: &str, duration: Duration) -> Report {
    let mut player = Player { url: url.to_owned(), others: Vec::new(), report: Report::default() };
    if let Some(first) = player.tune_in() {
        player.probe_refusals(&first);
        player.play(first, duration);
    }
    player.report
}

struct Player {
    url: String,
    /// The playlists of the other renditions.
    others: Vec<String>,
    report: Report,
}

impl Player {
    fn fault(&mut self, what: impl Into<String>) {
        self.report.faults.push(what.into());
    }

    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fault(what());
        }
    }

    fn tune_in(&mut self) -> Option<Playlist> {
        let answer = self.get("")?;
        let list = variants(&answer.text());
        if let Some(((_, first), others)) = list.split_first() {
            self.others = others.iter().map(|(_, uri)| uri.clone()).collect();
            self.url = self.beside(first);
            return self.tune_in();
        }
        let playlist = Playlist::read(&answer.text());
        for fault in rules::by_itself(&playlist) {
            self.fault(fault);
        }
        let cached = answer.header("cache-control").contains("max-age");
        self.check(cached, || "the playlist says nothing of caching".to_owned());
        playlist.next_part().is_some().then_some(playlist)
    }

    /// What must be refused, and what must be answered at once.
    fn probe_refusals(&mut self, playlist: &Playlist) {
        let last = playlist.last_complete().unwrap_or(playlist.sequence);
        self.expect_status("?_HLS_part=0", 400);
        self.expect_status("?_HLS_msn=x", 400);
        self.expect_status(&format!("?_HLS_msn={}", last + 20), 400);
        self.expect_status(&format!("?_HLS_msn={}&_HLS_part=100", last + 1), 400);
        self.expect_status(&format!("?_HLS_msn={}", playlist.sequence), 200);
        self.expect_status("?_HLS_msn=0&_HLS_part=0", 200);
    }

    fn expect_status(&mut self, query: &str, expect: u16) {
        let asked = Instant::now();
        let status = try_get(&format!("{}{query}", self.url)).map_or(0, |answer| answer.status);
        self.check(status == expect, || format!("{query} got {status}, not {expect}"));
        self.check(asked.elapsed() < AT_ONCE, || format!("{query} was not answered at once"));
    }

    fn play(&mut self, mut playlist: Playlist, duration: Duration) {
        let began = Instant::now();
        while began.elapsed() < duration && self.report.faults.len() < FAULTS_MAX && !playlist.ended {
            let Some(next) = self.reload(&playlist) else { return };
            self.report.reloads += 1;
            if self.report.reloads.is_multiple_of(LOOK_EVERY) {
                self.look(&next);
            }
            playlist = next;
        }
        let parts_s = playlist.part_target_ms.unwrap_or(1000) as f64 / 1000.0;
        let expect = (duration.as_secs_f64() / parts_s / 2.0) as u64;
        let (reloads, faults) = (self.report.reloads, self.report.faults.len());
        self.check(playlist.ended || faults > 0 || reloads >= expect, || {
            format!("only {reloads} parts came in {duration:?}")
        });
    }

    /// Waits for the part after `before`'s last, and for the one that it hints at.
    fn reload(&mut self, before: &Playlist) -> Option<Playlist> {
        let (number, part) = before.next_part()?;
        let query = format!("?_HLS_msn={number}&_HLS_part={part}");
        let hint = before.hint.as_deref().map(|uri| self.beside(uri));
        let asked = Instant::now();
        let (answer, hinted) = thread::scope(|scope| {
            let hinted = scope.spawn(|| hint.as_deref().map(try_get));
            (self.get(&query), hinted.join())
        });
        let (answer, held) = (answer?, asked.elapsed());
        let now = Playlist::read(&answer.text());
        for fault in rules::by_itself(&now).into_iter().chain(rules::as_successor(before, &now)) {
            self.fault(fault);
        }
        let reaches = now.ended || now.last_part() >= Some((number, part));
        self.check(reaches, || format!("{query} was answered before the playlist had it"));
        let longest = Duration::from_millis(before.target_ms) * HELD_TARGET_DURATIONS + AT_ONCE;
        self.check(held < longest, || format!("{query} was held for {held:?}"));
        let hinted = hinted.ok().flatten();
        let listed = now.segments.iter().flat_map(|s| &s.parts).any(|p| Some(&p.uri) == before.hint.as_ref());
        match hinted {
            Some(Ok(answer)) if answer.status == 200 && !answer.body.is_empty() => self.report.hinted += 1,
            Some(other) if listed => {
                let status = other.map(|answer| answer.status);
                self.fault(format!("{:?} was hinted at and listed, but got {status:?}", before.hint));
            }
            _ => {}
        }
        // Without what was asked for there is nothing to go on from.
        reaches.then_some(now)
    }

    /// A closer look: delta updates, rendition reports, and the last complete segment, which is its parts.
    fn look(&mut self, now: &Playlist) {
        if now.control("CAN-SKIP-UNTIL").is_some()
            && let Some(answer) = self.get("?_HLS_skip=YES")
        {
            let delta = Playlist::read(&answer.text());
            self.report.deltas += 1;
            let faults = rules::as_delta(now, &delta).into_iter().chain(rules::by_itself(&delta));
            faults.for_each(|fault| self.report.faults.push(fault));
        }
        for other in self.others.clone() {
            self.check_report(now, &other);
        }
        let complete = now.segments.iter().rev().find(|segment| segment.uri.is_some());
        if let Some((uri, segment)) = complete.and_then(|segment| Some((segment.uri.clone()?, segment))) {
            let whole = self.file(&uri);
            let parts: Vec<Vec<u8>> = segment.parts.iter().map(|part| self.file(&part.uri)).collect();
            self.check(whole == parts.concat(), || format!("{uri} is not what its parts are"));
            self.report.compared += 1;
        }
    }

    fn check_report(&mut self, now: &Playlist, other: &str) {
        let Some(report) = now.reports.iter().find(|report| report.uri == other) else {
            return self.check(now.ended, || format!("there is no EXT-X-RENDITION-REPORT of {other}"));
        };
        let Ok(answer) = try_get(&self.beside(other)) else {
            return self.fault(format!("{other} is not there"));
        };
        let reached = Playlist::read(&answer.text()).last_part().unwrap_or_default();
        let (told, is) = (report.last, reached);
        self.check(told.0 <= is.0 + 1 && told.0 + 2 >= is.0, || {
            format!("{other} is reported to be at {told:?}, and is at {is:?}")
        });
    }

    fn file(&mut self, uri: &str) -> Vec<u8> {
        match try_get(&self.beside(uri)) {
            Ok(answer) if answer.status == 200 => answer.body.to_vec(),
            other => {
                self.fault(format!("{uri} is listed, but got {:?}", other.map(|answer| answer.status)));
                Vec::new()
            }
        }
    }

    fn get(&mut self, query: &str) -> Option<Answer> {
        match try_get(&format!("{}{query}", self.url)) {
            Ok(answer) if answer.status == 200 => Some(answer),
            Ok(answer) => {
                self.fault(format!("the playlist{query} got {}", answer.status));
                None
            }
            Err(error) => {
                self.fault(format!("the playlist{query}: {error}"));
                None
            }
        }
    }

    fn beside(&self, uri: &str) -> String {
        let folder = self.url.rsplit_once('/').map_or("", |(folder, _)| folder);
        if uri.contains("://") { uri.to_owned() } else { format!("{folder}/{uri}") }
    }
}
