//! The renditions of one stream: the source, and the rungs beside it, which are numbered, cut and marked as it is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sluicegate_cluster::stream::PictureSize;
use sluicegate_media::cmaf::MuxError;
use sluicegate_media::frame::Unit;
use sluicegate_media::names::{FileName, Rung};
use sluicegate_media::playlist::{self, PlaylistError, Report};
use sluicegate_media::segmenter::SegmenterConfig;
use sluicegate_media::window::WindowConfig;

use crate::metrics::MediaCounters;
use crate::rendition::{Ended, Rendition};

/// All renditions of a stream, and the playlist that lists them.
pub(super) struct Renditions {
    /// How the source is cut and numbered; rungs are cut and numbered alike.
    segmenter: SegmenterConfig,
    window: WindowConfig,
    /// The source is the first in order.
    all: BTreeMap<Rung, Rendition>,
    /// Those that a transcoder is making: they end when it does.
    in_the_making: BTreeSet<Rung>,
    /// Rungs that nobody makes for now. Whoever plays one finds gaps, and goes to another.
    paused: BTreeSet<Rung>,
    multivariant: Option<Bytes>,
}

/// What a unit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pushed {
    /// Its rendition has a playlist from now on.
    Begun,
    /// Nothing that others must hear of.
    Usual,
}

impl Renditions {
    /// The source alone.
    pub(super) fn new(segmenter: SegmenterConfig, window: WindowConfig) -> Self {
        Self {
            all: BTreeMap::from([(Rung::Source, Rendition::new(segmenter, window.clone()))]),
            segmenter,
            window,
            in_the_making: BTreeSet::new(),
            paused: BTreeSet::new(),
            multivariant: None,
        }
    }

    /// Takes a unit of a rendition; one that is not known, or that waits for its place, takes nothing.
    ///
    /// # Errors
    /// [`MuxError`] when a segment could not be written.
    pub(super) fn push(
        &mut self,
        rung: Rung,
        unit: Unit,
        counters: &MediaCounters,
    ) -> Result<Pushed, MuxError> {
        if !self.keeps_step(rung, &unit, counters) {
            return Ok(Pushed::Usual);
        }
        let Some(rendition) = self.all.get_mut(&rung) else { return Ok(Pushed::Usual) };
        let begins = rendition.report().is_none();
        let ended = rendition.push(unit)?;
        counters.count(ended);
        self.ended(rung, ended);
        if rung == Rung::Source && ended == Ended::Segment {
            self.pause_beside_the_source(counters);
        }
        Ok(if begins && ended == Ended::Segment { Pushed::Begun } else { Pushed::Usual })
    }

    /// A transcoder makes these from now on.
    pub(super) fn expect_made(&mut self, rungs: &[Rung]) {
        self.in_the_making.extend(rungs);
    }

    /// Beside the source these are made from now on, by a transcoder; others pause.
    pub(super) fn keep(&mut self, rungs: &[Rung]) {
        let leaving = |rung: &Rung| *rung != Rung::Source && !rungs.contains(rung);
        let left: Vec<Rung> = self.all.keys().copied().filter(leaving).collect();
        self.pause(&left);
        self.paused.retain(|rung| !rungs.contains(rung));
        self.in_the_making.retain(|rung| *rung == Rung::Source);
        self.in_the_making.extend(rungs);
        for rung in rungs {
            let window = WindowConfig { rung: *rung, ..self.window.clone() };
            let segmenter = self.segmenter;
            self.all.entry(*rung).or_insert_with(|| Rendition::new(segmenter, window));
        }
        self.keep_the_sources_promise();
        self.render();
    }

    /// Nobody makes these rungs from now on: their open segments end.
    pub(super) fn pause(&mut self, rungs: &[Rung]) {
        for rung in rungs.iter().filter(|rung| **rung != Rung::Source) {
            let Some(rendition) = self.all.get_mut(rung).filter(|_| self.paused.insert(*rung)) else {
                continue;
            };
            match rendition.push(Unit::Discontinuity) {
                Ok(ended) => self.ended(*rung, ended),
                Err(error) => {
                    tracing::warn!(%error, stream = self.window.stream, %rung, "a segment could not be written");
                }
            }
        }
        self.render();
    }

    /// Whoever made these has made the last of them.
    pub(super) fn made(&mut self, rungs: &[Rung]) {
        self.in_the_making.retain(|rung| !rungs.contains(rung));
    }

    /// Ends what nobody makes any more.
    pub(super) fn finish(&mut self) {
        let Self { all, in_the_making, .. } = self;
        let made = all.iter_mut().filter(|(rung, _)| !in_the_making.contains(rung));
        for (_, rendition) in made {
            rendition.finish();
            // A playlist that has ended reports of no other.
            rendition.render(&[]);
        }
        self.render();
    }

    /// One of them.
    pub(super) fn get(&self, rung: Rung) -> Option<&Rendition> {
        self.all.get(&rung)
    }

    /// A segment, a part or an init segment of any.
    pub(super) fn file(&self, name: &FileName) -> Option<Bytes> {
        self.all.values().find_map(|rendition| rendition.file(name))
    }

    /// The multivariant playlist, once there is a segment.
    pub(super) fn multivariant(&self) -> Option<Bytes> {
        self.multivariant.clone()
    }

    /// The media sequence number of the source's newest segment.
    pub(super) fn last_sequence(&self) -> i64 {
        self.source().map_or(0, |source| i64::try_from(source.last_sequence()).unwrap_or(i64::MAX))
    }

    /// The names of those that can be asked for, the source first.
    pub(super) fn names(&self) -> Vec<String> {
        let made = self.all.iter().filter(|(rung, _)| !self.paused.contains(rung));
        let begun = made.filter(|(rung, r)| **rung == Rung::Source || r.report().is_some());
        begun.map(|(rung, _)| rung.to_string()).collect()
    }

    /// The names of those that are not made for now.
    pub(super) fn paused(&self) -> Vec<String> {
        self.paused.iter().map(ToString::to_string).collect()
    }

    /// The source's picture, once it is known.
    pub(super) fn size(&self) -> Option<PictureSize> {
        let source = self.source()?;
        let video = source.video()?;
        Some(PictureSize { width: video.width, height: video.height, fps: source.fps().unwrap_or(0.0) })
    }

    fn source(&self) -> Option<&Rendition> {
        self.all.get(&Rung::Source)
    }

    /// Whether a rung's unit is to be taken: all renditions are cut alike.
    fn keeps_step(&mut self, rung: Rung, unit: &Unit, counters: &MediaCounters) -> bool {
        let mut all = self.all.iter_mut();
        let (Some((_, source)), Some((_, own))) = (all.next(), all.find(|(other, _)| **other == rung)) else {
            return true;
        };
        let gaps = own.keeps_step(unit, source);
        counters.count_gaps(gaps.unwrap_or(0));
        gaps.is_some()
    }

    fn pause_beside_the_source(&mut self, counters: &MediaCounters) {
        let Self { all, paused, .. } = self;
        let mut all = all.iter_mut();
        let Some((_, source)) = all.next() else { return };
        for (_, rendition) in all.filter(|(rung, _)| paused.contains(rung)) {
            counters.count_gaps(rendition.pauses_beside(source));
        }
    }

    /// Renders what is to be said anew now that the newest unit of `rung` has `ended` something.
    fn ended(&mut self, rung: Rung, ended: Ended) {
        if ended == Ended::Nothing {
            return;
        }
        let is_other = |other: &Rung| *other != rung && !self.paused.contains(other);
        let others = self.all.iter().filter(|(other, _)| is_other(other));
        let reports: Vec<Report> = others.filter_map(|(_, rendition)| rendition.report()).collect();
        if let Some(rendition) = self.all.get_mut(&rung) {
            rendition.render(&reports);
        }
        if ended == Ended::Segment {
            self.keep_the_sources_promise();
            self.render();
        }
    }

    /// All renditions promise the same lengths of segments and parts: the source's, which is the first.
    fn keep_the_sources_promise(&mut self) {
        if let Some(promise) = self.source().and_then(Rendition::promise) {
            self.all.values_mut().for_each(|rendition| rendition.keep(promise));
        }
    }

    fn render(&mut self) {
        let made = self.all.iter().filter(|(rung, _)| !self.paused.contains(rung));
        let begun = made.map(|(_, rendition)| rendition).filter(|rendition| rendition.report().is_some());
        let variants: Vec<_> = begun.map(Rendition::variant).collect();
        match playlist::multivariant(&variants) {
            Ok(text) => self.multivariant = Some(text.into()),
            // A stream that ended before its first segment has nothing to list.
            Err(PlaylistError::Empty) => {}
            Err(error) => {
                tracing::error!(%error, stream = self.window.stream, "a playlist could not be written");
            }
        }
    }
}
