//! A WebRTC client of our own, which publishes by WHIP and views by WHEP: what a browser does, without one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluicegate_media::annexb::nal_units;
use sluicegate_media::frame::Track;
use sluicegate_rtc::{Client, Delivery, Direction, Event, FrameToSend, ReceivedFrame, SessionOptions};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::http::{self, Answer};
use crate::process::{command, run};

/// For a session to be connected.
const CONNECT: Duration = Duration::from_secs(10);
/// The picture's frames a second.
const FPS: u64 = 30;
/// 20 ms of Opus without a sound, two channels.
const SILENCE: [u8; 3] = [0xfc, 0xff, 0xfe];
/// For ffmpeg to encode a few seconds.
const ENCODE: Duration = Duration::from_secs(20);

/// A session that runs. Dropped, it is gone as a closed page is.
pub struct RtcClient {
    /// The address of the session.
    pub location: String,
    /// Names its ICE session.
    pub etag: String,
    seen: Arc<Mutex<Seen>>,
    keyframe: Arc<tokio::sync::Notify>,
    _ends: DropGuard,
}

/// What came.
#[derive(Default)]
struct Seen {
    connected: bool,
    ended: bool,
    keyframes_asked: u32,
    frames: Vec<ReceivedFrame>,
}

fn options(direction: Direction) -> SessionOptions {
    SessionOptions { direction, delivery: Delivery::Frames, estimate_from_bps: None }
}

/// An offer of video and audio, as a client makes it that publishes (`true`) or views.
///
/// # Panics
/// When there is no socket for it.
#[must_use]
pub fn offer(publishes: bool) -> String {
    let direction = if publishes { Direction::Send } else { Direction::Receive };
    http::RUNTIME.block_on(async { client(direction).offer().to_owned() })
}

fn client(direction: Direction) -> Client {
    Client::start(IpAddr::V4(Ipv4Addr::LOCALHOST), options(direction), Instant::now).expect("a UDP socket")
}

impl RtcClient {
    /// Publishes a moving picture and silence at `url`, a WHIP endpoint.
    ///
    /// # Panics
    /// When it is not answered with 201, or not connected.
    #[track_caller]
    #[must_use]
    pub fn publish(url: &str) -> Self {
        let pictures = pictures();
        Self::start(url, Direction::Send, &[], move |client, ends| async move {
            let handle = client.handle();
            let began = Instant::now();
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            let (mut sent, mut n) = (0_u64, 0_u64);
            while !ends.is_cancelled() {
                ticks.tick().await;
                let sound = FrameToSend {
                    track: Track::Audio,
                    timestamp: n * 960,
                    moment: began + Duration::from_millis(20 * n),
                    payload: Arc::from(&SILENCE[..]),
                };
                handle.send_frame(sound);
                n += 1;
                while sent * 1_000 / FPS < n * 20 {
                    let index = usize::try_from(sent).unwrap_or(0) % pictures.len();
                    handle.send_frame(FrameToSend {
                        track: Track::Video,
                        timestamp: sent * 90_000 / FPS,
                        moment: began + Duration::from_millis(sent * 1_000 / FPS),
                        payload: Arc::clone(&pictures[index]),
                    });
                    sent += 1;
                }
            }
        })
    }

    /// Views `url`, a WHEP endpoint, with more headers.
    ///
    /// # Panics
    /// When it is not answered with 201, or not connected.
    #[track_caller]
    #[must_use]
    pub fn view(url: &str, headers: &[(&str, &str)]) -> Self {
        Self::start(url, Direction::Receive, headers, |_, _| std::future::ready(()))
    }

    #[track_caller]
    fn start<F>(
        url: &str,
        direction: Direction,
        headers: &[(&str, &str)],
        work: impl FnOnce(ClientHandles, CancellationToken) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut client = http::RUNTIME.block_on(async { client(direction) });
        let answer = post(url, client.offer(), headers);
        assert_eq!(answer.status, 201, "{url}: {}", answer.text());
        let seen = Arc::<Mutex<Seen>>::default();
        let ends = CancellationToken::new();
        let keyframe = Arc::<tokio::sync::Notify>::default();
        let (theirs, wanted, stop) = (Arc::clone(&seen), Arc::clone(&keyframe), ends.clone());
        let sdp = answer.text();
        http::RUNTIME.block_on(async { client.answer(sdp).await }).expect("an answer that can be used");
        let handles = ClientHandles(client.handle());
        http::RUNTIME.spawn(async move {
            let asks = client.handle();
            loop {
                let event = tokio::select! {
                    event = client.next() => event,
                    () = wanted.notified() => { asks.request_keyframe(); continue }
                    () = stop.cancelled() => return,
                };
                if !note(&theirs, event) {
                    return;
                }
            }
        });
        http::RUNTIME.spawn(work(handles, ends.clone()));
        let location = absolute(url, answer.header("location"));
        let etag = answer.header("etag").to_owned();
        let client = Self { location, etag, seen, keyframe, _ends: ends.drop_guard() };
        crate::until::until_true(&format!("{url}: connected"), CONNECT, || client.lock().connected);
        client
    }

    /// The frames of a track that have come so far.
    #[must_use]
    pub fn frames(&self, track: Track) -> Vec<ReceivedFrame> {
        self.lock().frames.iter().filter(|frame| frame.codec.track() == track).cloned().collect()
    }

    /// How often the other side has asked for a keyframe.
    #[must_use]
    pub fn keyframes_asked(&self) -> u32 {
        self.lock().keyframes_asked
    }

    /// Whether the session is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Asks for a keyframe.
    pub fn request_keyframe(&self) {
        self.keyframe.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a publisher's loop sends with.
pub struct ClientHandles(sluicegate_rtc::ClientHandle);

impl ClientHandles {
    fn handle(&self) -> sluicegate_rtc::ClientHandle {
        self.0.clone()
    }
}

fn note(seen: &Mutex<Seen>, event: Option<Event>) -> bool {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Some(Event::Connected) => seen.connected = true,
        Some(Event::Frame(frame)) => seen.frames.push(frame),
        Some(Event::KeyframeRequested) => seen.keyframes_asked += 1,
        Some(Event::Ended(_)) | None => seen.ended = true,
        Some(_) => {}
    }
    !seen.ended
}

/// Sends an offer.
///
/// # Panics
/// When there is no answer.
#[track_caller]
#[must_use]
pub fn post(url: &str, offer: &str, headers: &[(&str, &str)]) -> Answer {
    let mut all = vec![("content-type", "application/sdp")];
    all.extend(headers);
    http::request("POST", url, &all, offer)
}

fn absolute(url: &str, location: &str) -> String {
    let host = url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    format!("{host}{location}")
}

/// Ten seconds of a test picture in H.264, a keyframe each second, no B-frames: a byte stream for each.
fn pictures() -> Vec<Arc<[u8]>> {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let file = folder.path().join("pictures.h264");
    let mut ffmpeg = command("ffmpeg");
    ffmpeg.args(["-hide_banner", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=30"]);
    ffmpeg.args([
        "-t",
        "10",
        "-c:v",
        "libx264",
        "-profile:v",
        "baseline",
        "-preset",
        "ultrafast",
        "-g",
        "30",
    ]);
    ffmpeg.args(["-keyint_min", "30", "-sc_threshold", "0", "-pix_fmt", "yuv420p"]);
    ffmpeg.args(["-x264-params", "aud=1:repeat-headers=1:slices=1", "-f", "h264"]).arg(&file);
    let finished = run("ffmpeg", ffmpeg, ENCODE);
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    cut(&file)
}

/// Access units, which begin at delimiters (ITU-T H.264, 7.4.1.2.3).
fn cut(file: &Path) -> Vec<Arc<[u8]>> {
    const DELIMITER: u8 = 9;
    let stream = std::fs::read(file).expect("what ffmpeg wrote");
    let mut pictures: Vec<Vec<u8>> = Vec::new();
    for unit in nal_units(&stream) {
        if unit[0] & 0x1f == DELIMITER {
            pictures.push(Vec::new());
            continue;
        }
        if let Some(picture) = pictures.last_mut() {
            picture.extend([0, 0, 0, 1]);
            picture.extend(unit);
        }
    }
    assert!(pictures.len() >= 290, "{} pictures", pictures.len());
    pictures.into_iter().map(Arc::from).collect()
}
