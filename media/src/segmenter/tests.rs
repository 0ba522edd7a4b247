//! What segments look like, by hand-made frames.

use bytes::Bytes;
use mp4_atom::{Decode, Mdat, Moof};
use proptest::prelude::*;

use super::*;
use crate::segment::Segment;
use crate::{aac, avc};

const START: i64 = 1_760_000_000_000;

/// A segmenter, and what it cuts put together again.
struct Cutter {
    segmenter: Segmenter,
    parts: Vec<Part>,
}

impl Cutter {
    fn new(config: SegmenterConfig) -> Self {
        Self { segmenter: Segmenter::new(config), parts: Vec::new() }
    }

    /// The segment that is complete now, if one is.
    fn done(&mut self, act: impl FnOnce(&mut Segmenter) -> Result<Cut, MuxError>) -> Option<Segment> {
        let cut = act(&mut self.segmenter).unwrap();
        self.parts.extend(cut.part);
        if cut.ends_segment { Segment::of(std::mem::take(&mut self.parts)) } else { None }
    }

    fn push(&mut self, frame: Frame) -> Option<Segment> {
        self.done(|segmenter| segmenter.push(frame))
    }

    fn push_all(&mut self, frames: Vec<Frame>) -> Vec<Segment> {
        frames.into_iter().filter_map(|frame| self.push(frame)).collect()
    }

    fn video_header(&mut self, video: VideoConfig) -> Option<Segment> {
        self.done(|segmenter| segmenter.push_video_config(video))
    }

    fn audio_header(&mut self, audio: AudioConfig) -> Option<Segment> {
        self.done(|segmenter| segmenter.push_audio_config(audio))
    }

    fn finish(&mut self) -> Option<Segment> {
        self.done(Segmenter::finish)
    }
}

fn segmenter(target_ms: i64) -> Cutter {
    Cutter::new(SegmenterConfig::new(target_ms, 200, START))
}

fn video(dts_ms: i64, keyframe: bool) -> Frame {
    let payload = Bytes::from(vec![1; 100]);
    Frame { track: Track::Video, dts_ms, pts_ms: dts_ms + 80, keyframe, payload }
}

fn audio(dts_ms: i64) -> Frame {
    let payload = Bytes::from(vec![2; 10]);
    Frame { track: Track::Audio, dts_ms, pts_ms: dts_ms, keyframe: true, payload }
}

/// 25 pictures a second with a keyframe every `gop`, and audio of 48 kHz, as RTMP interleaves them.
fn programme(from_ms: i64, to_ms: i64, gop: i64) -> Vec<Frame> {
    let pictures = (from_ms / 40..to_ms / 40).map(|n| video(n * 40, n % gop == 0));
    let sounds = (from_ms * 48 / 1024..to_ms * 48 / 1024).map(|n| audio(n * 1024 / 48));
    let mut frames: Vec<_> = pictures.chain(sounds).collect();
    frames.sort_by_key(|frame| frame.dts_ms);
    frames
}

fn with_headers(target_ms: i64) -> Cutter {
    let mut segmenter = segmenter(target_ms);
    segmenter.video_header(avc::tests::config_720p());
    segmenter.audio_header(aac::tests::config_48k());
    segmenter
}

fn moofs(segment: &Segment) -> Vec<Moof> {
    let mut rest = &segment.bytes[..];
    let mut moofs = Vec::new();
    while !rest.is_empty() {
        moofs.push(Moof::decode(&mut rest).unwrap());
        Mdat::decode(&mut rest).unwrap();
    }
    moofs
}

/// Begin and end of each track, in its own ticks.
fn spans(segment: &Segment) -> Vec<(u64, u64)> {
    let mut tracks = std::collections::BTreeMap::<u32, (u64, u64)>::new();
    for traf in moofs(segment).iter().flat_map(|moof| &moof.traf) {
        let begin = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        let length: u64 = traf.trun[0].samples.iter().map(|sample| u64::from(sample.duration.unwrap())).sum();
        tracks.entry(traf.tfhd.track_id).or_insert((begin, 0)).1 = begin + length;
    }
    tracks.into_values().collect()
}

fn part_durations(segment: &Segment) -> Vec<u64> {
    segment.parts.iter().map(|part| part.duration_ms).collect()
}

fn durations(segments: &[Segment]) -> Vec<u64> {
    segments.iter().map(|segment| segment.duration_ms).collect()
}

#[test]
fn segments_begin_at_keyframes_and_join_without_a_seam() {
    let mut segmenter = with_headers(2000);
    let mut segments = segmenter.push_all(programme(0, 10_000, 25));
    segments.extend(segmenter.finish());
    assert_eq!(durations(&segments), [2000; 5]);
    assert!(segments.iter().all(|segment| segment.independent && !segment.discontinuity));
    let sequences: Vec<_> = segments.iter().map(|segment| segment.sequence).collect();
    assert_eq!(sequences, [0, 1, 2, 3, 4]);
    let dates: Vec<_> = segments.iter().map(|segment| segment.program_date_time_unix_ms - START).collect();
    assert_eq!(dates, [80, 2080, 4080, 6080, 8080]);
    for pair in segments.windows(2) {
        let (before, after) = (spans(&pair[0]), spans(&pair[1]));
        assert_eq!(before[0].1, after[0].0, "video");
        assert_eq!(before[1].1, after[1].0, "audio");
        assert_eq!(pair[0].init, pair[1].init);
    }
    assert_eq!(spans(&segments[0])[0], (90_000, 270_000));
}

#[test]
fn a_keyframe_a_millisecond_early_ends_the_segment() {
    let mut segmenter = with_headers(2000);
    let frames = vec![video(0, true), video(1000, false), video(1999, true)];
    assert_eq!(durations(&segmenter.push_all(frames)), [1999]);
}

#[test]
fn nothing_is_taken_before_the_first_keyframe() {
    let mut segmenter = with_headers(1000);
    assert!(segmenter.push_all(programme(40, 2000, 50)).is_empty());
    assert_eq!(segmenter.finish(), None);
    let segments = segmenter.push_all(programme(2000, 6000, 50));
    assert_eq!(durations(&segments), [2000]);
    assert_eq!(segments[0].program_date_time_unix_ms, START + 2080);
}

#[test]
fn audio_alone_is_cut_at_the_target() {
    let mut segmenter = segmenter(2000);
    segmenter.audio_header(aac::tests::config_48k());
    let frames = (0..1000).map(|n| audio(n * 1024 / 48)).collect();
    let segments = segmenter.push_all(frames);
    assert_eq!(segments.len(), 10);
    let total: u64 = durations(&segments).iter().sum();
    let (begin, end) = (spans(&segments[0])[0].0, spans(&segments[9])[0].1);
    assert!(total.abs_diff((end - begin) * 1000 / 48_000) <= 1, "{total}");
    assert!(segments.iter().all(|segment| segment.independent));
}

#[test]
fn audio_does_not_wait_for_ever_for_a_picture() {
    let mut segmenter = with_headers(2000);
    let frames = (0..1000).map(|n| audio(n * 1024 / 48)).collect();
    let segments = segmenter.push_all(frames);
    assert_eq!(segments.len(), 4);
    assert_eq!(segments[0].program_date_time_unix_ms, START + 12_010);
    let rest = segmenter.push(video(21_340, true)).expect("the keyframe begins a segment");
    assert_eq!(spans(&rest).len(), 1);
    segmenter.push_all(programme(21_360, 23_000, 25));
    assert_eq!(spans(&segmenter.finish().unwrap()).len(), 2);
}

#[test]
fn a_long_group_of_pictures_is_cut_inside() {
    let mut segmenter = with_headers(2000);
    let segments = segmenter.push_all(programme(0, 30_000, 10_000));
    assert_eq!(durations(&segments), [12_000, 12_000]);
    assert_eq!([true, false], [segments[0].independent, segments[1].independent]);
}

#[test]
fn a_segment_never_has_more_bytes_than_allowed() {
    let mut config = SegmenterConfig::new(2000, 200, START);
    config.max_bytes = 5000;
    let mut segmenter = Cutter::new(config);
    segmenter.video_header(avc::tests::config_720p());
    let segments = segmenter.push_all(programme(0, 4000, 50));
    assert!(segments.len() >= 3, "{}", segments.len());
    assert!(segments.iter().all(|segment| segment.bytes.len() <= 5000));
    let huge = Frame { payload: vec![0; 5000].into(), ..video(9000, true) };
    assert_eq!(segmenter.push(huge), None);
}

#[test]
fn a_repeated_header_changes_nothing() {
    let mut segmenter = with_headers(2000);
    segmenter.push_all(programme(0, 1000, 25));
    assert_eq!(segmenter.video_header(avc::tests::config_720p()), None);
    assert_eq!(segmenter.audio_header(aac::tests::config_48k()), None);
    assert_eq!(durations(&segmenter.push_all(programme(1000, 3000, 25))), [2000]);
}

#[test]
fn a_changed_header_starts_a_new_init_segment() {
    let mut segmenter = with_headers(2000);
    let first = segmenter.push_all(programme(0, 3000, 25));
    let cut = segmenter.video_header(avc::tests::config_720p_level_4()).unwrap();
    assert_eq!((cut.duration_ms, cut.init.index, cut.discontinuity), (1000, 0, false));
    assert_eq!(segmenter.audio_header(aac::tests::config(4)), None);
    // Frames up to the next keyframe have no decoder to go to.
    let after = segmenter.push_all(programme(3040, 8000, 25));
    assert_eq!((after[0].init.index, after[0].discontinuity, after[0].independent), (1, true, true));
    assert_eq!(after[0].program_date_time_unix_ms, START + 4080);
    assert_eq!(after[0].sequence, first.len() as u64 + 1);
    assert_ne!(after[0].init.bytes, first[0].init.bytes);
}

#[test]
fn an_audio_header_after_the_first_keyframe_still_belongs_to_the_first_segment() {
    let mut segmenter = segmenter(2000);
    segmenter.video_header(avc::tests::config_720p());
    segmenter.push_all(programme(0, 100, 25));
    assert_eq!(segmenter.audio_header(aac::tests::config_48k()), None);
    let segments = segmenter.push_all(programme(120, 5000, 25));
    assert_eq!(durations(&segments), [2000, 2000]);
    assert_eq!(moofs(&segments[0])[0].traf.len(), 2);
    assert!(!segments[1].discontinuity);
}

#[test]
fn a_jump_of_the_clock_is_marked() {
    let mut segmenter = with_headers(2000);
    segmenter.push_all(programme(0, 3000, 25));
    let cut = segmenter.done(Segmenter::push_discontinuity).unwrap();
    assert_eq!((cut.duration_ms, cut.discontinuity), (1000, false));
    let after = segmenter.push_all(programme(7000, 10_000, 25));
    assert_eq!((after[0].discontinuity, after[0].init.index), (true, 0));
}

#[test]
fn a_rendition_that_continues_another_says_so_once() {
    let config = SegmenterConfig {
        first_sequence: 77,
        continues_another: true,
        ..SegmenterConfig::new(1000, 200, START)
    };
    let mut segmenter = Cutter::new(config);
    segmenter.video_header(avc::tests::config_720p());
    let segments = segmenter.push_all(programme(0, 3000, 25));
    let marks: Vec<_> = segments.iter().map(|segment| (segment.sequence, segment.discontinuity)).collect();
    assert_eq!(marks, [(77, true), (78, false)]);
}

#[test]
fn a_segment_is_sent_in_parts_as_soon_as_their_frames_are_in() {
    let mut segmenter = with_headers(1000);
    let mut frames = programme(0, 2000, 25).into_iter();
    let first = frames.by_ref().find_map(|frame| {
        let dts_ms = frame.dts_ms;
        segmenter.segmenter.push(frame).unwrap().part.map(|part| (dts_ms, part))
    });
    let (at_ms, part) = first.unwrap();
    assert_eq!((at_ms, part.sequence, part.index, part.duration_ms), (200, 0, 0, 200));
    assert!(part.independent && part.begins_independent && !part.discontinuity);
    segmenter.parts.push(part);
    let segment = frames.find_map(|frame| segmenter.push(frame)).unwrap();
    assert_eq!(part_durations(&segment), [200; 5]);
    let independent: Vec<_> = segment.parts.iter().map(|part| part.independent).collect();
    assert_eq!(independent, [true, false, false, false, false]);
    assert_eq!(segmenter.segmenter.promise(), Some(Promise { target_duration_s: 1, part_target_ms: 200 }));
}

#[test]
fn parts_of_odd_frame_rates_keep_to_their_target_and_lose_no_time() {
    for fps in [7, 10, 12, 15, 24, 30, 50, 60, 120, 1000] {
        let mut segmenter = segmenter(1000);
        segmenter.video_header(avc::tests::config_720p());
        let frames = (0..20 * fps).map(|n| video(n * 1000 / fps, n % (2 * fps) == 0)).collect();
        let segments = segmenter.push_all(frames);
        let frame_ms = u64::try_from(1000 / fps).unwrap() + 1;
        let segments_ms = durations(&segments);
        assert!(segments_ms.iter().sum::<u64>().abs_diff(18_000) <= frame_ms, "{fps}: {segments_ms:?}");
        assert!(segments_ms.iter().all(|ms| ms.abs_diff(2000) <= frame_ms), "{fps}: {segments_ms:?}");
        for segment in &segments {
            let parts = part_durations(segment);
            assert!(parts.iter().all(|ms| *ms <= 200), "{fps} frames a second: {parts:?}");
            assert!(parts[..parts.len() - 1].iter().all(|ms| *ms >= 170), "{fps} frames a second: {parts:?}");
        }
    }
}

#[test]
fn a_part_holds_at_least_one_picture() {
    let mut segmenter = segmenter(1000);
    segmenter.video_header(avc::tests::config_720p());
    let segments = segmenter.push_all((0..40).map(|n| video(n * 500, n % 4 == 0)).collect());
    assert_eq!(durations(&segments), [2000; 9]);
    assert!(segments.iter().all(|segment| part_durations(segment) == [500; 4]));
    let promise = Promise { target_duration_s: 2, part_target_ms: 500 };
    assert_eq!(segmenter.segmenter.promise(), Some(promise));
}

#[test]
fn sound_goes_on_in_parts_while_the_picture_pauses() {
    let mut segmenter = with_headers(1000);
    segmenter.push_all(programme(0, 3000, 25));
    let pause: Vec<_> = programme(3000, 6000, 25).into_iter().filter(|f| f.track == Track::Audio).collect();
    let mut segments = segmenter.push_all(pause);
    segments.extend(segmenter.push_all(programme(6000, 8040, 25)));
    assert_eq!(durations(&segments).iter().sum::<u64>(), 6000);
    for segment in &segments {
        assert!(part_durations(segment).iter().all(|ms| *ms <= 200), "{:?}", part_durations(segment));
        assert!(segment.duration_ms < 1500);
    }
    assert!(segments.last().unwrap().independent);
}

#[test]
fn sound_that_comes_before_its_keyframe_goes_with_it() {
    let mut segmenter = with_headers(1000);
    // The sound is 300 ms ahead of the picture.
    let mut frames = programme(0, 4000, 25);
    frames.sort_by_key(|frame| frame.dts_ms - if frame.track == Track::Audio { 300 } else { 0 });
    let segments = segmenter.push_all(frames);
    assert!(segments.len() >= 3);
    for segment in &segments {
        assert!(segment.independent);
        assert!(part_durations(segment).iter().all(|ms| *ms <= 200), "{:?}", part_durations(segment));
    }
}

#[test]
fn what_is_promised_once_is_kept() {
    let mut segmenter = with_headers(1000);
    let first = segmenter.push_all(programme(0, 1040, 25));
    assert_eq!(durations(&first), [1000]);
    // From here on a keyframe comes every 4 s.
    let later = segmenter.push_all(programme(4000, 24_000, 100));
    assert!(later.iter().all(|segment| segment.duration_ms <= 1499), "{:?}", durations(&later));
    let twos = later.iter().filter(|segment| segment.independent).count();
    assert!(twos >= 4, "a keyframe begins a segment");
}

#[derive(Debug, Clone)]
enum Event {
    Frame { video: bool, step_ms: i64, keyframe: bool, bytes: usize },
    VideoHeader(bool),
    AudioHeader(u32),
    Jump,
}

fn event() -> impl Strategy<Value = Event> {
    let frame = (any::<bool>(), -50..400_i64, proptest::bool::weighted(0.2), 0..400_usize)
        .prop_map(|(video, step_ms, keyframe, bytes)| Event::Frame { video, step_ms, keyframe, bytes });
    prop_oneof![
        60 => frame,
        1 => any::<bool>().prop_map(Event::VideoHeader),
        1 => (3..6_u32).prop_map(Event::AudioHeader),
        1 => Just(Event::Jump),
        1 => (0..20_000_i64).prop_map(|step_ms| Event::Frame { video: false, step_ms, keyframe: true, bytes: 9 }),
    ]
}

fn run(events: Vec<Event>) -> (Vec<Segment>, Option<Promise>) {
    let config = SegmenterConfig { max_bytes: 3000, ..SegmenterConfig::new(2000, 200, START) };
    let mut cutter = Cutter::new(config);
    let mut now = 0;
    let mut push = |cutter: &mut Cutter, event| match event {
        Event::Frame { video, step_ms, keyframe, bytes } => {
            now += step_ms;
            let track = if video { Track::Video } else { Track::Audio };
            let payload = vec![0; bytes].into();
            cutter.push(Frame { track, dts_ms: now, pts_ms: now, keyframe, payload })
        }
        Event::VideoHeader(true) => cutter.video_header(avc::tests::config_720p()),
        Event::VideoHeader(false) => cutter.video_header(avc::tests::config_720p_level_4()),
        Event::AudioHeader(rate) => cutter.audio_header(aac::tests::config(rate)),
        Event::Jump => cutter.done(Segmenter::push_discontinuity),
    };
    let mut segments: Vec<_> = events.into_iter().filter_map(|event| push(&mut cutter, event)).collect();
    segments.extend(cutter.finish());
    (segments, cutter.segmenter.promise())
}

proptest! {
    #[test]
    fn laws_of_segments(events in proptest::collection::vec(event(), 1..400)) {
        let (segments, promise) = run(events);
        for (n, segment) in segments.iter().enumerate() {
            let promise = promise.unwrap();
            prop_assert_eq!(segment.sequence, n as u64);
            prop_assert!((1..=12_000).contains(&segment.duration_ms));
            prop_assert!((segment.duration_ms + 500) / 1000 <= promise.target_duration_s);
            prop_assert!(segment.bytes.len() <= 3000, "{}", segment.bytes.len());
            prop_assert_eq!(segment.parts.len(), moofs(segment).len());
            for moof in moofs(segment) {
                prop_assert!(moof.traf.len() <= 2 && !moof.traf.is_empty());
            }
            for (index, part) in segment.parts.iter().enumerate() {
                prop_assert_eq!((part.sequence, part.index as usize), (segment.sequence, index));
                prop_assert!((1..=promise.part_target_ms).contains(&part.duration_ms));
                // Before there is a playlist, parts may turn out to be longer than the first ones were.
                let short = n == 0 || index + 1 == segment.parts.len();
                prop_assert!(short || part.duration_ms * 100 >= promise.part_target_ms * 85);
                prop_assert!(part.independent || !part.begins_independent);
                prop_assert!(index == 0 || !part.discontinuity);
                prop_assert_eq!(&part.init, &segment.init);
            }
        }
        for pair in segments.windows(2) {
            let (before, after) = (&pair[0], &pair[1]);
            if before.init != after.init {
                prop_assert!(after.discontinuity && after.init.index == before.init.index + 1);
                prop_assert!(after.independent);
            }
        }
    }

    #[test]
    fn tracks_never_overlap_under_one_init_segment(frames in proptest::collection::vec(
        (any::<bool>(), 1..700_i64, proptest::bool::weighted(0.1)), 1..400,
    )) {
        let mut segmenter = with_headers(2000);
        let mut now = 0;
        let mut segments = Vec::new();
        for (is_video, step, keyframe) in frames {
            now += step;
            let frame = if is_video { video(now, keyframe) } else { audio(now) };
            segments.extend(segmenter.push(frame));
        }
        let mut ends = [0, 0, 0];
        for traf in segments.iter().flat_map(moofs).flat_map(|moof| moof.traf) {
            let begin = traf.tfdt.as_ref().unwrap().base_media_decode_time;
            let end = &mut ends[traf.tfhd.track_id as usize];
            // The last picture before sound that ends a part is guessed to last as the one before.
            let slack = if traf.tfhd.track_id == 1 { 2000 * 90 } else { 0 };
            prop_assert!(begin + slack >= *end, "{} {begin} {end}", traf.tfhd.track_id);
            let samples = traf.trun[0].samples.iter();
            *end = begin + samples.map(|sample| u64::from(sample.duration.unwrap())).sum::<u64>();
        }
    }
}

#[test]
fn an_interrupted_rendition_goes_on_where_another_one_is() {
    let (mut source, mut rung) = (with_headers(2_000), with_headers(2_000));
    let (mut all, mut some) = (Vec::new(), Vec::new());
    for frame in programme(0, 12_000, 25) {
        all.extend(source.push(frame.clone()));
        // From the middle of the second segment on, up to a keyframe within the fourth, it gets nothing.
        if (3_400..7_000).contains(&frame.dts_ms) {
            some.extend(rung.done(Segmenter::push_discontinuity));
            continue;
        }
        if rung.segmenter.is_interrupted() && frame.dts_ms == 7_000 && frame.track == Track::Video {
            assert_eq!(rung.segmenter.sequence(), 2);
            let fourth = Place {
                sequence: 3,
                starts_unix_ms: all[2].program_date_time_unix_ms + 2_000,
                discontinuity: false,
            };
            assert!(source.segmenter.place().is_none(), "parts of it have ended");
            rung.segmenter.go_on_at(fourth);
        }
        // A rung's pictures are shown when they are decoded.
        some.extend(rung.push(Frame { dts_ms: frame.pts_ms, ..frame }));
    }
    let numbers: Vec<_> = some.iter().map(|s| (s.sequence, s.duration_ms, s.discontinuity)).collect();
    assert_eq!(numbers[0], (0, 2_000, false));
    assert_eq!(numbers[1].0, 1);
    assert!(numbers[1].1 < 1_600, "{numbers:?}");
    assert_eq!(numbers[2..], [(3, 1_000, false), (4, 2_000, false)]);
    assert_eq!(some[3].program_date_time_unix_ms, all[4].program_date_time_unix_ms);
}

#[test]
fn a_segment_has_its_place_before_its_first_part_has_ended() {
    let mut source = with_headers(2_000);
    assert!(source.segmenter.place().is_none() && source.segmenter.is_interrupted());
    source.push(video(40, true));
    let place = source.segmenter.place().unwrap();
    assert_eq!((place.sequence, place.starts_unix_ms), (0, START + 120));
}
