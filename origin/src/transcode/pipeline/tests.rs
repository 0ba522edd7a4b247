//! What comes of real encoders' output, whole and damaged.

use proptest::prelude::*;
use sluicegate_cluster::config::{RungSettings, Sources};
use sluicegate_media::frame::{AudioConfig, OPUS};

use super::*;
use crate::gpus::Gpus;
use crate::transcode::AudioPlan;
use crate::transcode::testing::{broadcast, with_b_frames};

fn job(video: VideoPlan, audio: AudioPlan) -> Job {
    Job { name: "test".to_owned(), video, audio }
}

fn ladder(heights: &[u32]) -> Job {
    let rung = |height: &u32| RungSettings { height: *height, kbps: 300, fps: None };
    job(VideoPlan::Ladder(heights.iter().map(rung).collect()), AudioPlan::Pass)
}

/// What the job makes of `units`.
fn done(job: &Job, units: Vec<Unit>) -> Vec<Made> {
    done_with(job, &Arc::default(), units)
}

fn done_with(job: &Job, orders: &Arc<Orders>, units: Vec<Unit>) -> Vec<Made> {
    done_on(&Engines::new(Arc::default()), job, orders, units)
}

fn done_on(engines: &Engines, job: &Job, orders: &Arc<Orders>, units: Vec<Unit>) -> Vec<Made> {
    let (input, given) = crate::hub::units(units.len(), usize::MAX);
    units.into_iter().for_each(|unit| input.try_send(unit).unwrap());
    drop(input);
    let (output, mut made) = mpsc::channel(10_000);
    run(job, orders, engines, given, output).unwrap();
    std::iter::from_fn(|| made.try_recv().ok()).collect()
}

fn of_rung(made: &[Made], height: Option<u32>) -> Vec<Unit> {
    let is_it = |rung: &Rung| match (rung, height) {
        (Rung::Source, None) => true,
        (Rung::Encoded { height, .. }, Some(wanted)) => *height == wanted,
        _ => false,
    };
    let unit = |made: &Made| match made {
        Made::Unit(rung, unit) if is_it(rung) => Some(unit.clone()),
        _ => None,
    };
    made.iter().filter_map(unit).collect()
}

fn frames(units: &[Unit], track: Track) -> Vec<&Frame> {
    let frame = |unit: &'_ Unit| matches!(unit, Unit::Frame(frame) if frame.track == track);
    units
        .iter()
        .filter(|unit| frame(unit))
        .filter_map(|u| if let Unit::Frame(f) = u { Some(f) } else { None })
        .collect()
}

fn video_headers(units: &[Unit]) -> Vec<&VideoConfig> {
    units.iter().filter_map(|u| if let Unit::Video(video) = u { Some(video) } else { None }).collect()
}

fn audio_header(units: &[Unit]) -> &AudioConfig {
    units.iter().find_map(|u| if let Unit::Audio(audio) = u { Some(audio) } else { None }).unwrap()
}

/// For each keyframe: when it is shown, and how many frames of sound came before it.
fn cuts(units: &[Unit]) -> Vec<(i64, usize)> {
    let mut sounds = 0;
    let mut cuts = Vec::new();
    for unit in units {
        match unit {
            Unit::Frame(frame) if frame.track == Track::Audio => sounds += 1,
            Unit::Frame(frame) if frame.keyframe => cuts.push((frame.pts_ms, sounds)),
            _ => {}
        }
    }
    cuts
}

/// How many pictures a decoder makes of them, all of this size.
fn decoded(units: &[Unit], size: (u32, u32)) -> usize {
    let mut decoder = PictureDecoder::open(video_headers(units)[0], &Engine::cpu()).unwrap();
    let mut pictures = Vec::new();
    for frame in frames(units, Track::Video) {
        pictures.extend(decoder.push(frame).unwrap());
    }
    pictures.extend(decoder.drain().unwrap());
    assert!(pictures.iter().all(|p| (p.frame.width(), p.frame.height()) == size));
    pictures.len()
}

#[test]
fn every_rung_is_cut_where_the_source_is_and_has_its_sound() {
    rungs_are_made(&Engines::new(Arc::default()));
}

#[test]
fn rungs_made_by_a_graphics_card_are_the_same() {
    let settings = Sources { host_name: "host".to_owned(), ..Sources::default() }.load().unwrap();
    let registry = prometheus::Registry::new();
    let gpus = Gpus::start(&settings.origin, &settings.limits, Some(&registry)).unwrap();
    if gpus.place(1.0, &[]).is_none() {
        println!("SKIPPED: there is no graphics card here that is of use");
    }
    rungs_are_made(&Engines::new(Arc::clone(&gpus)));
    let placed = gpus.read().len();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let by_processors = "sluicegate_gpu_transcoders{place=\"cpu\"}";
    assert_eq!(text.contains(by_processors), placed == 0, "{placed} cards\n{text}");
    gpus.stop();
}

fn rungs_are_made(engines: &Engines) {
    let source = with_b_frames();
    let made = done_on(engines, &ladder(&[180, 720, 240]), &Arc::default(), source.clone());
    let Some(Made::Rungs(rungs)) = made.first() else { panic!("rungs come first") };
    assert_eq!(rungs.iter().map(ToString::to_string).collect::<Vec<_>>(), ["240p300kbps", "180p300kbps"]);
    for (height, size) in [(240, (426, 240)), (180, (320, 180))] {
        let units = of_rung(&made, Some(height));
        assert_eq!(cuts(&units), cuts(&source), "{height}");
        let pictures = frames(&units, Track::Video);
        assert_eq!(pictures.len(), 50);
        assert!(
            pictures.windows(2).all(|two| two[0].pts_ms < two[1].pts_ms && two[0].pts_ms == two[0].dts_ms)
        );
        assert_eq!(frames(&units, Track::Audio), frames(&source, Track::Audio));
        let [header] = video_headers(&units)[..] else { panic!("one header") };
        assert_eq!((header.width, header.height, header.fps), (size.0, size.1, Some(25.0)));
        assert_eq!(avc::reorders(header), Some(false));
        assert_eq!(decoded(&units, size), 50);
    }
}

#[test]
fn a_rung_keeps_to_its_bits_and_its_rate() {
    let rung = RungSettings { height: 180, kbps: 200, fps: Some(12.5) };
    let plan = VideoPlan::Ladder(vec![rung]);
    let units = of_rung(&done(&job(plan, AudioPlan::Pass), with_b_frames()), Some(180));
    let pictures = frames(&units, Track::Video);
    assert!((25..=27).contains(&pictures.len()), "{}", pictures.len());
    let bytes: usize = pictures.iter().map(|frame| frame.payload.len()).sum();
    // Two seconds at 200 kbit/s have 50,000 bytes; the buffer lets them begin with as much again.
    assert!((20_000..100_000).contains(&bytes), "{bytes}");
}

#[test]
fn pictures_in_order_are_passed_through_and_others_are_encoded() {
    let in_order = job(VideoPlan::InOrder, AudioPlan::Pass);
    let plain = broadcast("320x180", &["-bf", "0"]);
    assert_eq!(of_rung(&done(&in_order, plain.clone()), None), plain);
    let source = with_b_frames();
    let units = of_rung(&done(&in_order, source.clone()), None);
    assert_eq!(cuts(&units), cuts(&source));
    assert!(frames(&units, Track::Video).iter().all(|frame| frame.pts_ms == frame.dts_ms));
    assert_eq!(decoded(&units, (640, 360)), 50);
}

#[test]
fn a_keyframe_comes_when_it_is_asked_for() {
    let orders = Arc::<Orders>::default();
    orders.keyframe();
    let mut source = with_b_frames();
    // From the middle of a group of pictures on nothing can be decoded; the next one is complete.
    let second =
        source.iter().rposition(|u| matches!(u, Unit::Frame(f) if f.track == Track::Video && f.keyframe));
    source.truncate(second.unwrap());
    let units = of_rung(&done_with(&job(VideoPlan::InOrder, AudioPlan::Pass), &orders, source.clone()), None);
    assert_eq!(cuts(&units).len(), 1, "the first is one anyway");
    let orders = Arc::<Orders>::default();
    let (input, given) = crate::hub::units(1_000, usize::MAX);
    let (output, mut made) = mpsc::channel(1_000);
    let asked = Arc::clone(&orders);
    let worker = std::thread::spawn(move || {
        let engines = Engines::new(Arc::default());
        run(&job(VideoPlan::InOrder, AudioPlan::Pass), &asked, &engines, given, output)
    });
    let half = source.len() / 2;
    let rest = source.split_off(half);
    source.into_iter().for_each(|unit| input.try_send(unit).unwrap());
    while !matches!(made.blocking_recv(), Some(Made::Unit(_, Unit::Frame(f))) if f.track == Track::Video) {}
    orders.keyframe();
    rest.into_iter().for_each(|unit| input.try_send(unit).unwrap());
    drop(input);
    let rest: Vec<_> = std::iter::from_fn(|| made.blocking_recv()).collect();
    assert_eq!(cuts(&of_rung(&rest, None)).len(), 1);
    worker.join().unwrap().unwrap();
}

#[test]
fn sound_becomes_opus_of_20_ms_and_aac_again() {
    let source = broadcast("320x180", &["-bf", "0"]);
    let opus = of_rung(&done(&job(VideoPlan::InOrder, AudioPlan::Opus), source.clone()), None);
    let header = audio_header(&opus);
    assert_eq!((header.codec.as_str(), header.sample_rate, header.frame_samples), (OPUS, 48_000, 960));
    assert_eq!(&header.asc[..8], b"OpusHead");
    let packets = frames(&opus, Track::Audio);
    assert!((97..=103).contains(&packets.len()), "{}", packets.len());
    let begin = frames(&source, Track::Audio)[0].dts_ms;
    let lead_ms = begin - packets[0].dts_ms;
    assert!((5..=8).contains(&lead_ms), "{lead_ms}");
    for (n, packet) in (0..).zip(&packets) {
        assert_eq!(packet.dts_ms, begin - lead_ms + n * 20);
    }
    let aac = of_rung(&done(&job(VideoPlan::H264, AudioPlan::Aac), opus.clone()), None);
    let header = audio_header(&aac);
    assert_eq!(
        (header.codec.as_str(), header.sample_rate, header.frame_samples),
        ("mp4a.40.2", 48_000, 1_024)
    );
    let again = frames(&aac, Track::Audio);
    assert!((90..=96).contains(&again.len()), "{}", again.len());
    assert_eq!(again[0].dts_ms, begin - lead_ms - 22, "the encoder's lead");
    assert_eq!(again[1].dts_ms, begin - lead_ms);
    assert_eq!(frames(&aac, Track::Video), frames(&source, Track::Video));
}

#[test]
fn a_gap_in_the_sound_stays_where_it_is() {
    let mut source = broadcast("320x180", &["-bf", "0"]);
    for unit in &mut source {
        if let Unit::Frame(frame) = unit
            && frame.dts_ms >= 1_000
        {
            frame.dts_ms += 5_000;
            frame.pts_ms += 5_000;
        }
    }
    let opus = of_rung(&done(&job(VideoPlan::InOrder, AudioPlan::Opus), source), None);
    let times: Vec<_> = frames(&opus, Track::Audio).iter().map(|frame| frame.dts_ms).collect();
    let steps: Vec<_> = times.windows(2).map(|two| two[1] - two[0]).filter(|step| *step != 20).collect();
    let [jump] = steps[..] else { panic!("one jump: {steps:?}") };
    assert!((5_000..5_060).contains(&jump), "{jump}");
}

#[test]
fn a_new_header_starts_the_rungs_anew() {
    let mut source = broadcast("640x360", &["-bf", "0"]);
    let later = broadcast("320x180", &["-bf", "0"]).into_iter().map(|unit| match unit {
        Unit::Frame(f) => Unit::Frame(Frame { dts_ms: f.dts_ms + 2_000, pts_ms: f.pts_ms + 2_000, ..f }),
        other => other,
    });
    source.extend(later);
    let made = done(&ladder(&[240, 120]), source);
    let rungs: Vec<_> =
        made.iter().filter_map(|m| if let Made::Rungs(r) = m { Some(r.len()) } else { None }).collect();
    assert_eq!(rungs, [2, 1], "nothing is scaled up");
    assert_eq!(frames(&of_rung(&made, Some(240)), Track::Video).len(), 50);
    let small = of_rung(&made, Some(120));
    assert_eq!(frames(&small, Track::Video).len(), 100);
    let widths: Vec<_> = video_headers(&small).iter().map(|header| header.width).collect();
    assert_eq!(widths, [214, 214]);
}

#[test]
fn rungs_are_given_up_from_the_most_expensive_one_on() {
    let orders = Arc::<Orders>::default();
    orders.give_up(1);
    let made = done_with(&ladder(&[240, 120]), &orders, with_b_frames());
    assert!(of_rung(&made, Some(240)).is_empty());
    assert_eq!(frames(&of_rung(&made, Some(120)), Track::Video).len(), 50);
}

#[test]
fn a_rung_that_was_given_up_comes_back_at_a_keyframe() {
    let source = with_b_frames();
    let second =
        source.iter().rposition(|u| matches!(u, Unit::Frame(f) if is_picture(u) && f.keyframe)).unwrap();
    for (given_up, expect) in [(1, [50, 25]), (2, [25, 25])] {
        let orders = Arc::<Orders>::default();
        orders.give_up(given_up);
        let (input, given) = crate::hub::units(1_000, usize::MAX);
        let (output, mut made) = mpsc::channel(10_000);
        let obeys = Arc::clone(&orders);
        let worker = std::thread::spawn(move || {
            let engines = Engines::new(Arc::default());
            run(&ladder(&[240, 120]), &obeys, &engines, given, output)
        });
        source[..second].iter().for_each(|unit| input.try_send(unit.clone()).unwrap());
        let last_ms = source[..second]
            .iter()
            .filter_map(|u| if let Unit::Frame(f) = u { Some(f.dts_ms) } else { None });
        let last_ms = last_ms.max().unwrap();
        orders.intake.gave(-1_000);
        orders.intake.gave(last_ms + 1);
        while orders.lag_ms() != 1 {
            std::thread::yield_now();
        }
        orders.give_up(0);
        source[second..].iter().for_each(|unit| input.try_send(unit.clone()).unwrap());
        drop(input);
        worker.join().unwrap().unwrap();
        let made: Vec<_> = std::iter::from_fn(|| made.try_recv().ok()).collect();
        for (height, pictures) in [(120, expect[0]), (240, expect[1])] {
            let units = of_rung(&made, Some(height));
            assert_eq!(frames(&units, Track::Video).len(), pictures, "{height} with {given_up} given up");
            assert!(frames(&units, Track::Video)[0].keyframe);
            assert_eq!(audio_header(&units).codec, "mp4a.40.2");
        }
        let rungs: Vec<_> =
            made.iter().filter_map(|m| if let Made::Rungs(r) = m { Some(r.len()) } else { None }).collect();
        assert_eq!(rungs, [2 - given_up, 2]);
    }
}

#[test]
fn a_thousand_frames_a_second_are_thinned_out() {
    let mut source = broadcast("320x180", &["-bf", "0"]);
    let mut n = 0;
    for unit in &mut source {
        if let Unit::Frame(frame) = unit
            && frame.track == Track::Video
        {
            (frame.dts_ms, frame.pts_ms) = (n, n);
            n += 1;
        }
    }
    let units = of_rung(&done(&ladder(&[120]), source), Some(120));
    assert!(frames(&units, Track::Video).len() <= 8, "{}", frames(&units, Track::Video).len());
}

/// A sequence parameter set of the baseline profile for so many macroblocks.
fn parameter_set(width: u32, height: u32) -> Vec<u8> {
    let golomb = |value: u32| {
        let bits = format!("{:b}", value + 1);
        "0".repeat(bits.len() - 1) + &bits
    };
    // id, frame number's bits, order of pictures, references; size; then: frames only, no cropping, the end.
    let fields = [0, 0, 2, 1].map(golomb).concat() + "0" + &golomb(width - 1) + &golomb(height - 1) + "11001";
    let mut bits = fields;
    bits.extend(std::iter::repeat_n('0', (8 - bits.len() % 8) % 8));
    let body = bits
        .as_bytes()
        .chunks(8)
        .map(|byte| u8::from_str_radix(std::str::from_utf8(byte).unwrap(), 2).unwrap());
    [0x67, 66, 0, 62].into_iter().chain(body).collect()
}

/// A parameter set in the stream that promises 16,384 × 16,384 pixels, before a real picture.
#[test]
fn a_parameter_set_inside_the_stream_cannot_take_memory() {
    let mut source = broadcast("320x180", &["-bf", "0"]);
    let huge = parameter_set(1_024, 1_024);
    for unit in &mut source {
        if let Unit::Frame(frame) = unit
            && frame.track == Track::Video
            && frame.dts_ms == 400
        {
            let mut payload = u32::try_from(huge.len()).unwrap().to_be_bytes().to_vec();
            payload.extend_from_slice(&huge);
            payload.extend_from_slice(&frame.payload);
            frame.payload = payload.into();
        }
    }
    let units = of_rung(&done(&ladder(&[120]), source), Some(120));
    let pictures = frames(&units, Track::Video).len();
    assert!((30..=50).contains(&pictures), "{pictures}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn damage_costs_pictures_and_nothing_else(
        damage in proptest::collection::vec((0..60_usize, any::<u16>(), any::<u8>(), any::<bool>()), 1..40),
    ) {
        static SOURCE: std::sync::OnceLock<Vec<Unit>> = std::sync::OnceLock::new();
        let mut source = SOURCE.get_or_init(|| broadcast("160x90", &["-bf", "2"])).clone();
        for (nth, at, byte, cut) in damage {
            let mut pictures = source.iter_mut().filter(|u| is_picture(u));
            let Some(Unit::Frame(frame)) = pictures.nth(nth) else { continue };
            let mut payload = frame.payload.to_vec();
            let at = usize::from(at) % payload.len().max(1);
            if cut {
                payload.truncate(at);
            } else if let Some(place) = payload.get_mut(at) {
                *place ^= byte;
            }
            frame.payload = payload.into();
        }
        let sounds = frames(&source, Track::Audio).len();
        let units = of_rung(&done(&ladder(&[72]), source), Some(72));
        let shown = frames(&units, Track::Video);
        prop_assert!(shown.len() <= 50);
        prop_assert!(shown.windows(2).all(|two| two[0].dts_ms < two[1].dts_ms));
        prop_assert_eq!(frames(&units, Track::Audio).len(), sounds);
    }
}
