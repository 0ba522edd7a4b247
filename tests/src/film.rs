//! Films: what an encoder sends. Made once by ffmpeg, then sent by RTMP at their own pace, as often as it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::{command, run};
use crate::rtmp_client::{MediaKind, RtmpClient};
use anyhow::ensure;
use bytes::Bytes;
use sluicegate_cluster::clock;

/// For ffmpeg to encode a film.
const ENCODING: Duration = Duration::from_secs(400);

/// What a film is made of.
pub struct Script {
    /// The file's name, without `.flv`.
    pub name: &'static str,
    /// The input of ffmpeg's that makes the pictures: `testsrc2=size=640x360:rate=30`.
    pub picture: &'static str,
    /// The one that makes the sound, if there is any.
    pub sound: Option<&'static str>,
    /// How long it is.
    pub seconds: f64,
    /// Pictures from keyframe to keyframe.
    pub gop: u32,
    /// Further options of its encoders.
    pub encoders: &'static [&'static str],
}

/// A film, ready to be sent.
pub struct Film {
    /// The FLV file.
    pub file: PathBuf,
    /// Its messages in order.
    pub tags: Vec<Tag>,
    /// How long it is: after so long it can begin again.
    pub length_ms: u32,
}

/// A message of a film: the body of an FLV tag.
#[derive(Debug, Clone)]
pub struct Tag {
    /// Sound or picture.
    pub kind: MediaKind,
    /// When it is decoded.
    pub timestamp_ms: u32,
    /// The bytes.
    pub body: Bytes,
}

impl Tag {
    /// Whether it is a codec's header: the second byte of the body is 0 (AVC and AAC sequence headers).
    #[must_use]
    pub fn is_header(&self) -> bool {
        self.body.get(1) == Some(&0)
    }

    /// Whether it is a picture.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.kind == MediaKind::Video && self.body.get(1) == Some(&1)
    }
}

impl Film {
    /// Makes it in `folder`, in H.264 and AAC.
    ///
    /// # Errors
    /// When ffmpeg cannot.
    pub fn make(folder: &Path, script: &Script) -> anyhow::Result<Self> {
        let file = folder.join(format!("{}.flv", script.name));
        let (gop, seconds) = (script.gop.to_string(), script.seconds.to_string());
        let mut ffmpeg = command("ffmpeg");
        ffmpeg.args(["-v", "error", "-y", "-f", "lavfi", "-i", script.picture]);
        if let Some(sound) = script.sound {
            ffmpeg.args(["-f", "lavfi", "-i", sound, "-c:a", "aac"]);
        }
        ffmpeg.args(["-t", &seconds, "-c:v", "libx264", "-pix_fmt", "yuv420p"]);
        ffmpeg.args(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"]).args(script.encoders);
        ffmpeg.args(["-f", "flv"]).arg(&file);
        let finished = run("ffmpeg", ffmpeg, ENCODING);
        ensure!(finished.code == Some(0), "ffmpeg says {}", finished.stderr);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes at most")]
        let length_ms = (script.seconds * 1_000.0).round() as u32;
        let mut tags = tags(&Bytes::from(fs::read(&file)?));
        // Encoders of sound begin with a frame more than there is: where the film begins again it would be too many.
        tags.retain(|tag| tag.timestamp_ms < length_ms);
        Ok(Self { file, tags, length_ms })
    }

    /// How many pictures it has.
    #[must_use]
    pub fn pictures(&self) -> usize {
        self.tags.iter().filter(|tag| tag.is_picture()).count()
    }

    /// Sends it once as an encoder would, and tells `sent` of each message.
    pub fn play(&self, client: &mut RtmpClient, mut sent: impl FnMut(&Tag)) {
        let began = clock::now();
        for tag in &self.tags {
            wait_until(began + Duration::from_millis(tag.timestamp_ms.into()));
            client.send_bytes(tag.kind, tag.timestamp_ms, tag.body.clone());
            sent(tag);
        }
    }

    /// Sends it again and again as one long stream, headers once, `speed` times as fast as it was filmed (infinite:
    /// as fast as it is taken), for as long as `goes_on` says so of the next message's time.
    pub fn repeat(&self, client: &mut RtmpClient, speed: f64, mut goes_on: impl FnMut(u32) -> bool) {
        let began = clock::now();
        for (timestamp_ms, tag) in self.endless() {
            wait_until(began + Duration::from_secs_f64(f64::from(timestamp_ms) / 1_000.0 / speed));
            if !goes_on(timestamp_ms) {
                return;
            }
            client.send_bytes(tag.kind, timestamp_ms, tag.body.clone());
        }
    }

    /// Its messages as one stream without end.
    fn endless(&self) -> impl Iterator<Item = (u32, &Tag)> {
        (0_u32..).flat_map(move |round| {
            let tags = self.tags.iter().filter(move |tag| round == 0 || !tag.is_header());
            tags.map(move |tag| (round.wrapping_mul(self.length_ms).wrapping_add(tag.timestamp_ms), tag))
        })
    }
}

/// Sends messages evenly over a time, whatever they say of theirs.
///
/// # Panics
/// When the connection is gone.
pub fn send_evenly(client: &mut RtmpClient, tags: &[Tag], over: Duration) {
    let began = clock::now();
    let step = over / u32::try_from(tags.len().max(1)).unwrap_or(u32::MAX);
    for (number, tag) in (0..).zip(tags) {
        wait_until(began + step * number);
        client.send_bytes(tag.kind, tag.timestamp_ms, tag.body.clone());
    }
}

fn wait_until(due: Instant) {
    loop {
        let left = due.saturating_duration_since(clock::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// The audio and video tags of an FLV file.
fn tags(file: &Bytes) -> Vec<Tag> {
    const FILE_HEADER: usize = 9 + 4;
    const TAG_HEADER: usize = 11;
    let mut tags = Vec::new();
    let mut at = FILE_HEADER;
    while let Some(header) = file.get(at..at + TAG_HEADER) {
        let length = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let timestamp_ms = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let body = at + TAG_HEADER..at + TAG_HEADER + length;
        at = body.end + 4;
        let kind = match header[0] {
            8 => MediaKind::Audio,
            9 => MediaKind::Video,
            _ => continue,
        };
        if body.end <= file.len() {
            tags.push(Tag { kind, timestamp_ms, body: file.slice(body) });
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_an_flv_file() {
        let tag = |kind: u8, body: &[u8]| {
            let length = u32::try_from(body.len()).unwrap().to_be_bytes();
            [&[kind, length[1], length[2], length[3], 0, 1, 2, 9, 0, 0, 0][..], body, &[0, 0, 0, 0][..]]
                .concat()
        };
        let file =
            [&[0; 13][..], &tag(18, b"meta"), &tag(9, b"\x17\x01z"), &tag(8, b"cut off")[..13]].concat();
        let tags = tags(&Bytes::from(file));
        assert_eq!(tags.len(), 1);
        assert_eq!((tags[0].timestamp_ms, &tags[0].body[..]), (0x0900_0102, &b"\x17\x01z"[..]));
        assert!(tags[0].is_picture() && !tags[0].is_header());
    }

    #[test]
    fn a_film_goes_on_where_it_ended_without_its_headers() {
        let tag =
            |timestamp_ms, body| Tag { kind: MediaKind::Video, timestamp_ms, body: Bytes::from_static(body) };
        let tags = vec![tag(0, b"\x17\x00"), tag(0, b"\x17\x01"), tag(40, b"\x27\x01")];
        let film = Film { file: PathBuf::new(), tags, length_ms: 80 };
        let sent: Vec<_> = film.endless().take(5).map(|(at, tag)| (at, tag.is_header())).collect();
        assert_eq!(sent, [(0, true), (0, false), (40, false), (80, false), (120, false)]);
    }
}
