//! Media segments: one `moof` with a `traf` per track, one `mdat`.

use bytes::{BufMut, Bytes, BytesMut};
use mp4_atom::{Encode, Mfhd, Moof, Tfdt, Tfhd, Traf, Trun, TrunEntry, TrunSamples};

use super::{MuxError, track_id};
use crate::frame::Track;

/// Consecutive samples of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Their track.
    pub track: Track,
    /// When the first is decoded, in ticks of the track.
    pub base_decode_time: u64,
    /// In decoding order.
    pub samples: Vec<Sample>,
}

/// One frame in a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Ticks until the next one is decoded.
    pub duration: u32,
    /// Ticks from decoding to showing.
    pub composition_offset: i32,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// The frame.
    pub payload: Bytes,
}

/// A media segment of `runs`, in this order; at most one a track. Payloads are copied once.
///
/// # Errors
/// [`MuxError::TooLarge`] from 2 GiB on.
pub fn media_segment(sequence_number: u32, runs: &[Run]) -> Result<Bytes, MuxError> {
    const BOX_HEADER_BYTES: usize = 8;
    let media_bytes: usize = runs.iter().map(run_bytes).sum();
    // The offsets are counted from the beginning of the moof, whose length does not depend on them.
    let moof_bytes = encode(sequence_number, runs, 0)?.len();
    let moof = encode(sequence_number, runs, moof_bytes + BOX_HEADER_BYTES)?;
    let mdat_bytes = u32::try_from(media_bytes + BOX_HEADER_BYTES).map_err(|_| MuxError::TooLarge)?;
    let mut out = BytesMut::with_capacity(moof_bytes + BOX_HEADER_BYTES + media_bytes);
    out.put_slice(&moof);
    out.put_u32(mdat_bytes);
    out.put_slice(b"mdat");
    for sample in runs.iter().flat_map(|run| &run.samples) {
        out.put_slice(&sample.payload);
    }
    Ok(out.freeze())
}

fn run_bytes(run: &Run) -> usize {
    run.samples.iter().map(|sample| sample.payload.len()).sum()
}

fn encode(sequence_number: u32, runs: &[Run], media_at: usize) -> Result<Vec<u8>, MuxError> {
    let mut offset = media_at;
    let mut traf = Vec::with_capacity(runs.len());
    for run in runs {
        traf.push(track_fragment(run, offset)?);
        offset += run_bytes(run);
    }
    let mut out = Vec::new();
    Moof { mfhd: Mfhd { sequence_number }, traf }.encode(&mut out)?;
    Ok(out)
}

fn track_fragment(run: &Run, offset: usize) -> Result<Traf, MuxError> {
    /// ISO/IEC 14496-12, 8.8.3.1: depends on no other sample.
    const SYNC: u32 = 0x0200_0000;
    /// Depends on others, and is no place to start.
    const NOT_SYNC: u32 = 0x0101_0000;
    let entry = |sample: &Sample| {
        let size = u32::try_from(sample.payload.len()).map_err(|_| MuxError::TooLarge)?;
        let video = run.track == Track::Video;
        Ok(TrunEntry {
            duration: Some(sample.duration),
            size: Some(size),
            flags: video.then_some(if sample.keyframe { SYNC } else { NOT_SYNC }),
            cts: video.then_some(sample.composition_offset.into()),
        })
    };
    let entries = run.samples.iter().map(entry).collect::<Result<Vec<_>, MuxError>>()?;
    let data_offset = i32::try_from(offset).map_err(|_| MuxError::TooLarge)?;
    Ok(Traf {
        tfhd: Tfhd {
            track_id: track_id(run.track),
            default_sample_flags: (run.track == Track::Audio).then_some(SYNC),
            default_base_is_moof: true,
            ..Tfhd::default()
        },
        tfdt: Some(Tfdt { base_media_decode_time: run.base_decode_time }),
        trun: vec![Trun { data_offset: Some(data_offset), samples: TrunSamples::Explicit(entries) }],
        ..Traf::default()
    })
}

#[cfg(test)]
mod tests {
    use mp4_atom::{Decode, Mdat};
    use proptest::prelude::*;

    use super::*;

    fn run() -> impl Strategy<Value = Run> {
        let payload = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let sample = (any::<u32>(), any::<i32>(), any::<bool>(), payload).prop_map(
            |(duration, composition_offset, keyframe, payload)| Sample {
                duration,
                composition_offset,
                keyframe,
                payload,
            },
        );
        let track = prop_oneof![Just(Track::Video), Just(Track::Audio)];
        (track, any::<u64>(), proptest::collection::vec(sample, 1..20))
            .prop_map(|(track, base_decode_time, samples)| Run { track, base_decode_time, samples })
    }

    proptest! {
        #[test]
        fn every_sample_is_found_where_the_header_says(
            runs in proptest::collection::vec(run(), 0..3),
            number in any::<u32>(),
        ) {
            let segment = media_segment(number, &runs).unwrap();
            let mut rest = &segment[..];
            let moof = Moof::decode(&mut rest).unwrap();
            Mdat::decode(&mut rest).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(moof.mfhd.sequence_number, number);
            for (run, traf) in runs.iter().zip(&moof.traf) {
                prop_assert!(traf.tfhd.default_base_is_moof && traf.tfhd.base_data_offset.is_none());
                prop_assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, run.base_decode_time);
                let trun = &traf.trun[0];
                let mut at = usize::try_from(trun.data_offset.unwrap()).unwrap();
                prop_assert_eq!(trun.samples.len(), run.samples.len());
                for (sample, entry) in run.samples.iter().zip(trun.samples.iter()) {
                    let end = at + entry.size.unwrap() as usize;
                    prop_assert_eq!(&segment[at..end], &sample.payload[..]);
                    prop_assert_eq!(entry.duration, Some(sample.duration));
                    if run.track == Track::Video {
                        prop_assert_eq!(entry.cts, Some(sample.composition_offset.into()));
                        prop_assert_eq!(entry.flags == Some(0x0200_0000), sample.keyframe);
                    }
                    at = end;
                }
            }
        }
    }
}
