//! Init segments: `ftyp` and a `moov` without samples.

use bytes::Bytes;
use mp4_atom::{
    Audio, Avc1, Codec, Dinf, Dref, DrefEntry, Encode, FixedPoint, FourCC, Ftyp, Hdlr, Mdhd, Mdia, Minf,
    Moov, Mp4a, Mvex, Mvhd, Smhd, Stbl, Stco, Stsd, Tkhd, Trak, Trex, Url, Visual, Vmhd, esds,
};

use super::{MuxError, VIDEO_TIMESCALE, track_id};
use crate::avc;
use crate::frame::{AudioConfig, Track, VideoConfig};

/// The init segment of a stream with these tracks. The video's clock has [`VIDEO_TIMESCALE`] ticks a second,
/// the audio's one a sample.
///
/// # Errors
/// [`MuxError`] if a configuration is not what its codec's parser made.
pub fn init_segment(video: Option<&VideoConfig>, audio: Option<&AudioConfig>) -> Result<Bytes, MuxError> {
    let mut trak = Vec::new();
    if let Some(video) = video {
        trak.push(video_track(video)?);
    }
    if let Some(audio) = audio {
        trak.push(audio_track(audio));
    }
    let trex = trak.iter().map(|trak| Trex {
        track_id: trak.tkhd.track_id,
        default_sample_description_index: 1,
        ..Trex::default()
    });
    let moov = Moov {
        mvhd: Mvhd { rate: 1.into(), volume: 1.into(), next_track_id: 3, ..Mvhd::default() },
        mvex: Some(Mvex { mehd: None, trex: trex.collect() }),
        trak,
        ..Moov::default()
    };
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: vec![FourCC::new(b"iso6"), FourCC::new(b"mp41")],
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out)?;
    moov.encode(&mut out)?;
    Ok(out.into())
}

fn video_track(video: &VideoConfig) -> Result<Trak, MuxError> {
    let pixels = |px: u32| u16::try_from(px).map_err(|_| MuxError::TooLarge);
    let (width, height) = (pixels(video.width)?, pixels(video.height)?);
    let entry = Avc1 {
        visual: Visual { data_reference_index: 1, width, height, ..Visual::default() },
        avcc: avc::read_record(&video.avcc)?,
        ..Avc1::default()
    };
    let tkhd = Tkhd { width: width.into(), height: height.into(), ..header(Track::Video) };
    let minf = Minf { vmhd: Some(Vmhd::default()), ..media(entry.into()) };
    Ok(track(tkhd, VIDEO_TIMESCALE, *b"vide", minf))
}

fn audio_track(audio: &AudioConfig) -> Trak {
    let entry = Mp4a {
        audio: Audio {
            data_reference_index: 1,
            channel_count: audio.channels,
            sample_size: 16,
            // The field has 16 bits before the point; decoders take the rate from the descriptor.
            sample_rate: FixedPoint::new(u16::try_from(audio.sample_rate).unwrap_or(0), 0),
        },
        esds: descriptor(audio),
        btrt: None,
        taic: None,
    };
    let tkhd = Tkhd { volume: 1.into(), alternate_group: 1, ..header(Track::Audio) };
    let minf = Minf { smhd: Some(Smhd::default()), ..media(entry.into()) };
    track(tkhd, audio.sample_rate, *b"soun", minf)
}

/// ISO/IEC 14496-14, 3.1.2: an audio stream (5) of MPEG-4 audio (0x40).
fn descriptor(audio: &AudioConfig) -> esds::Esds {
    let dec_specific = esds::DecoderSpecific { raw: audio.asc.to_vec(), ..Default::default() };
    let dec_config = esds::DecoderConfig {
        object_type_indication: 0x40,
        stream_type: 5,
        dec_specific: Some(dec_specific),
        ..Default::default()
    };
    esds::Esds { es_desc: esds::EsDescriptor { dec_config, ..Default::default() } }
}

fn header(track: Track) -> Tkhd {
    Tkhd { track_id: track_id(track), enabled: true, in_movie: true, ..Tkhd::default() }
}

/// One sample entry, no samples, everything in this file.
fn media(entry: Codec) -> Minf {
    let dinf = Dinf { dref: Dref { entries: vec![DrefEntry::Url(Url::default())] } };
    let stbl = Stbl { stsd: Stsd { codecs: vec![entry] }, stco: Some(Stco::default()), ..Stbl::default() };
    Minf { dinf, stbl, ..Minf::default() }
}

fn track(tkhd: Tkhd, timescale: u32, handler: [u8; 4], minf: Minf) -> Trak {
    let mdhd = Mdhd { timescale, language: "und".to_owned(), ..Mdhd::default() };
    let hdlr = Hdlr { handler: FourCC::new(&handler), name: String::new() };
    Trak { tkhd, mdia: Mdia { mdhd, hdlr, minf }, ..Trak::default() }
}

#[cfg(test)]
mod tests {
    use mp4_atom::Decode;

    use super::*;
    use crate::{aac, avc};

    fn decode(bytes: &Bytes) -> (Ftyp, Moov) {
        let mut rest = &bytes[..];
        let ftyp = Ftyp::decode(&mut rest).unwrap();
        let moov = Moov::decode(&mut rest).unwrap();
        assert!(rest.is_empty());
        (ftyp, moov)
    }

    #[test]
    fn both_tracks() {
        let (video, audio) = (avc::tests::config_720p(), aac::tests::config_48k());
        let (_, moov) = decode(&init_segment(Some(&video), Some(&audio)).unwrap());
        let [vide, soun] = &moov.trak[..] else { panic!("{} tracks", moov.trak.len()) };
        assert_eq!((vide.tkhd.track_id, vide.mdia.mdhd.timescale), (1, 90_000));
        assert_eq!((soun.tkhd.track_id, soun.mdia.mdhd.timescale), (2, 48_000));
        let Codec::Avc1(avc1) = &vide.mdia.minf.stbl.stsd.codecs[0] else { panic!("no avc1") };
        assert_eq!((avc1.visual.width, avc1.visual.height), (1280, 720));
        let mut avcc = Vec::new();
        avc1.avcc.encode(&mut avcc).unwrap();
        assert_eq!(&avcc[8..], &video.avcc[..]);
        let Codec::Mp4a(mp4a) = &soun.mdia.minf.stbl.stsd.codecs[0] else { panic!("no mp4a") };
        let specific = mp4a.esds.es_desc.dec_config.dec_specific.as_ref().unwrap();
        assert_eq!(specific.raw, &audio.asc[..]);
        assert_eq!((mp4a.audio.channel_count, mp4a.audio.sample_rate.integer()), (2, 48_000));
        let trex: Vec<_> = moov.mvex.unwrap().trex.iter().map(|trex| trex.track_id).collect();
        assert_eq!(trex, [1, 2]);
    }

    #[test]
    fn one_track() {
        let (_, moov) = decode(&init_segment(None, Some(&aac::tests::config(0))).unwrap());
        assert_eq!(moov.trak.len(), 1);
        assert_eq!(moov.trak[0].mdia.mdhd.timescale, 96_000);
    }
}
