//! What segments look like, by hand-made frames.

use mp4_atom::{Decode, Mdat, Moof};
use proptest::prelude::*;

use super::*;
use crate::{aac, avc};

const START: i64 = 1_760_000_000_000;

fn segmenter(target_ms: i64) -> Segmenter {
    Segmenter::new(SegmenterConfig::new(target_ms, START))
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

fn push_all(segmenter: &mut Segmenter, frames: Vec<Frame>) -> Vec<Segment> {
    frames.into_iter().filter_map(|frame| segmenter.push(frame).unwrap()).collect()
}

fn with_headers(target_ms: i64) -> Segmenter {
    let mut segmenter = segmenter(target_ms);
    segmenter.push_video_config(avc::tests::config_720p()).unwrap();
    segmenter.push_audio_config(aac::tests::config_48k()).unwrap();
    segmenter
}

fn moof(segment: &Segment) -> Moof {
    let mut rest = &segment.bytes[..];
    let moof = Moof::decode(&mut rest).unwrap();
    Mdat::decode(&mut rest).unwrap();
    moof
}

/// Begin and end of each track, in its own ticks.
fn spans(segment: &Segment) -> Vec<(u64, u64)> {
    let span = |traf: &mp4_atom::Traf| {
        let begin = traf.tfdt.as_ref().unwrap().base_media_decode_time;
        let length: u64 = traf.trun[0].samples.iter().map(|sample| u64::from(sample.duration.unwrap())).sum();
        (begin, begin + length)
    };
    moof(segment).traf.iter().map(span).collect()
}

fn durations(segments: &[Segment]) -> Vec<u64> {
    segments.iter().map(|segment| segment.duration_ms).collect()
}

#[test]
fn segments_begin_at_keyframes_and_join_without_a_seam() {
    let mut segmenter = with_headers(2000);
    let mut segments = push_all(&mut segmenter, programme(0, 10_000, 25));
    segments.extend(segmenter.finish().unwrap());
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
    assert_eq!(durations(&push_all(&mut segmenter, frames)), [1999]);
}

#[test]
fn nothing_is_taken_before_the_first_keyframe() {
    let mut segmenter = with_headers(1000);
    assert!(push_all(&mut segmenter, programme(40, 2000, 50)).is_empty());
    assert_eq!(segmenter.finish().unwrap(), None);
    let segments = push_all(&mut segmenter, programme(2000, 6000, 50));
    assert_eq!(durations(&segments), [2000]);
    assert_eq!(segments[0].program_date_time_unix_ms, START + 2080);
}

#[test]
fn audio_alone_is_cut_at_the_target() {
    let mut segmenter = segmenter(2000);
    segmenter.push_audio_config(aac::tests::config_48k()).unwrap();
    let frames = (0..1000).map(|n| audio(n * 1024 / 48)).collect();
    let segments = push_all(&mut segmenter, frames);
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
    let segments = push_all(&mut segmenter, frames);
    assert_eq!(segments.len(), 4);
    assert_eq!(segments[0].program_date_time_unix_ms, START + 12_010);
    let rest = segmenter.push(video(21_340, true)).unwrap().expect("the keyframe begins a segment");
    assert_eq!(spans(&rest).len(), 1);
    push_all(&mut segmenter, programme(21_360, 23_000, 25));
    assert_eq!(spans(&segmenter.finish().unwrap().unwrap()).len(), 2);
}

#[test]
fn a_long_group_of_pictures_is_cut_inside() {
    let mut segmenter = with_headers(2000);
    let segments = push_all(&mut segmenter, programme(0, 30_000, 10_000));
    assert_eq!(durations(&segments), [12_000, 12_000]);
    assert_eq!([true, false], [segments[0].independent, segments[1].independent]);
}

#[test]
fn a_segment_never_has_more_bytes_than_allowed() {
    let mut config = SegmenterConfig::new(2000, START);
    config.max_bytes = 5000;
    let mut segmenter = Segmenter::new(config);
    segmenter.push_video_config(avc::tests::config_720p()).unwrap();
    let segments = push_all(&mut segmenter, programme(0, 4000, 50));
    assert!(segments.len() >= 3, "{}", segments.len());
    assert!(segments.iter().all(|segment| segment.bytes.len() <= 5000));
    let huge = Frame { payload: vec![0; 5000].into(), ..video(9000, true) };
    assert_eq!(segmenter.push(huge).unwrap(), None);
}

#[test]
fn a_repeated_header_changes_nothing() {
    let mut segmenter = with_headers(2000);
    push_all(&mut segmenter, programme(0, 1000, 25));
    assert_eq!(segmenter.push_video_config(avc::tests::config_720p()).unwrap(), None);
    assert_eq!(segmenter.push_audio_config(aac::tests::config_48k()).unwrap(), None);
    assert_eq!(durations(&push_all(&mut segmenter, programme(1000, 3000, 25))), [2000]);
}

#[test]
fn a_changed_header_starts_a_new_init_segment() {
    let mut segmenter = with_headers(2000);
    let first = push_all(&mut segmenter, programme(0, 3000, 25));
    let cut = segmenter.push_video_config(avc::tests::config_720p_level_4()).unwrap().unwrap();
    assert_eq!((cut.duration_ms, cut.init.index, cut.discontinuity), (1000, 0, false));
    assert_eq!(segmenter.push_audio_config(aac::tests::config(4)).unwrap(), None);
    // Frames up to the next keyframe have no decoder to go to.
    let after = push_all(&mut segmenter, programme(3040, 8000, 25));
    assert_eq!((after[0].init.index, after[0].discontinuity, after[0].independent), (1, true, true));
    assert_eq!(after[0].program_date_time_unix_ms, START + 4080);
    assert_eq!(after[0].sequence, first.len() as u64 + 1);
    assert_ne!(after[0].init.bytes, first[0].init.bytes);
}

#[test]
fn an_audio_header_after_the_first_keyframe_still_belongs_to_the_first_segment() {
    let mut segmenter = segmenter(2000);
    segmenter.push_video_config(avc::tests::config_720p()).unwrap();
    push_all(&mut segmenter, programme(0, 100, 25));
    assert_eq!(segmenter.push_audio_config(aac::tests::config_48k()).unwrap(), None);
    let segments = push_all(&mut segmenter, programme(120, 5000, 25));
    assert_eq!(durations(&segments), [2000, 2000]);
    assert_eq!(moof(&segments[0]).traf.len(), 2);
    assert!(!segments[1].discontinuity);
}

#[test]
fn a_jump_of_the_clock_is_marked() {
    let mut segmenter = with_headers(2000);
    push_all(&mut segmenter, programme(0, 3000, 25));
    let cut = segmenter.push_discontinuity().unwrap().unwrap();
    assert_eq!((cut.duration_ms, cut.discontinuity), (1000, false));
    let after = push_all(&mut segmenter, programme(7000, 10_000, 25));
    assert_eq!((after[0].discontinuity, after[0].init.index), (true, 0));
}

#[test]
fn a_rendition_that_continues_another_says_so_once() {
    let config =
        SegmenterConfig { first_sequence: 77, continues_another: true, ..SegmenterConfig::new(1000, START) };
    let mut segmenter = Segmenter::new(config);
    segmenter.push_video_config(avc::tests::config_720p()).unwrap();
    let segments = push_all(&mut segmenter, programme(0, 3000, 25));
    let marks: Vec<_> = segments.iter().map(|segment| (segment.sequence, segment.discontinuity)).collect();
    assert_eq!(marks, [(77, true), (78, false)]);
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

fn run(events: Vec<Event>) -> Vec<Segment> {
    let config = SegmenterConfig { max_bytes: 3000, ..SegmenterConfig::new(2000, START) };
    let mut segmenter = Segmenter::new(config);
    let mut now = 0;
    let mut push = |segmenter: &mut Segmenter, event| match event {
        Event::Frame { video, step_ms, keyframe, bytes } => {
            now += step_ms;
            let track = if video { Track::Video } else { Track::Audio };
            let payload = vec![0; bytes].into();
            segmenter.push(Frame { track, dts_ms: now, pts_ms: now, keyframe, payload })
        }
        Event::VideoHeader(true) => segmenter.push_video_config(avc::tests::config_720p()),
        Event::VideoHeader(false) => segmenter.push_video_config(avc::tests::config_720p_level_4()),
        Event::AudioHeader(rate) => segmenter.push_audio_config(aac::tests::config(rate)),
        Event::Jump => segmenter.push_discontinuity(),
    };
    let mut segments: Vec<_> =
        events.into_iter().filter_map(|event| push(&mut segmenter, event).unwrap()).collect();
    segments.extend(segmenter.finish().unwrap());
    segments
}

proptest! {
    #[test]
    fn laws_of_segments(events in proptest::collection::vec(event(), 1..400)) {
        let segments = run(events);
        for (n, segment) in segments.iter().enumerate() {
            prop_assert_eq!(segment.sequence, n as u64);
            prop_assert!((1..=12_000).contains(&segment.duration_ms));
            prop_assert!(segment.bytes.len() <= 3000, "{}", segment.bytes.len());
            let moof = moof(segment);
            prop_assert!(moof.traf.len() <= 2 && !moof.traf.is_empty());
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
            segments.extend(segmenter.push(frame).unwrap());
        }
        let mut ends = [0, 0, 0];
        for segment in &segments {
            for traf in moof(segment).traf {
                let begin = traf.tfdt.as_ref().unwrap().base_media_decode_time;
                let end = &mut ends[traf.tfhd.track_id as usize];
                // The last picture before audio that ends a segment is guessed to last as the one before.
                let slack = if traf.tfhd.track_id == 1 { 700 * 90 } else { 0 };
                prop_assert!(begin + slack >= *end, "{} {begin} {end}", traf.tfhd.track_id);
                let samples = traf.trun[0].samples.iter();
                *end = begin + samples.map(|sample| u64::from(sample.duration.unwrap())).sum::<u64>();
            }
        }
    }
}
