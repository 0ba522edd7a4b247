//! `{app}.broadcast`: how AMS knows a stream (AMS `datastore/db/types/Broadcast.java`, which also is what its
//! REST interface answers with).

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::loose;
use crate::clock::UnixMs;
use crate::stream::StreamRecord;

/// AMS takes a live broadcast whose `updateTime` is older to have ended without a word.
pub const STALE_AFTER: Duration = Duration::from_secs(20);

/// `status` while a stream is live.
pub const BROADCASTING: &str = "broadcasting";
/// `status` when it has ended.
pub const FINISHED: &str = "finished";
/// `status` of one that was made by REST and never published.
pub const CREATED: &str = "created";
/// `status` that AMS's readers give a live one that is stale.
pub const TERMINATED: &str = "terminated_unexpectedly";

/// A document of it, without its `_id`. Fields that are missing, or hold something else, are `None`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the names are AMS's, and its documentation is theirs")]
pub struct Broadcast {
    pub stream_id: String,
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(rename = "type", deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub publish_type: Option<String>,
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    /// When it was made, milliseconds since 1970.
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub date: Option<i64>,
    /// How long it has been live, milliseconds.
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub duration: Option<i64>,
    /// The address of its origin (the name is AMS's).
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub origin_adress: Option<String>,
    #[serde(deserialize_with = "loose::text", skip_serializing_if = "Option::is_none")]
    pub quality: Option<String>,
    #[serde(deserialize_with = "loose::float", skip_serializing_if = "Option::is_none")]
    pub speed: Option<f64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub start_time: Option<i64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub update_time: Option<i64>,
    /// Bits a second.
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<i64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub width: Option<i64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub height: Option<i64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub hls_viewer_count: Option<i64>,
    #[serde(
        rename = "webRTCViewerCount",
        deserialize_with = "loose::integer",
        skip_serializing_if = "Option::is_none"
    )]
    pub webrtc_viewer_count: Option<i64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub rtmp_viewer_count: Option<i64>,
    #[serde(deserialize_with = "loose::integer", skip_serializing_if = "Option::is_none")]
    pub dash_viewer_count: Option<i64>,
}

impl Broadcast {
    /// What AMS would say of the stream of `record` at `now`, whose origin is at `origin`.
    #[must_use]
    pub fn of(record: &StreamRecord, origin: Option<IpAddr>, now: UnixMs) -> Self {
        let size = record.size.unwrap_or_default();
        let live = record.is_live();
        let notes = record.notes.as_deref().cloned().unwrap_or_default();
        let status = match (live, record.claims) {
            (true, _) => BROADCASTING,
            (false, 0) => CREATED,
            (false, _) => FINISHED,
        };
        let made = record.notes.as_ref().map_or(record.started_at, |n| n.created_at);
        let until = record.ended_at.unwrap_or(now);
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let by_hls = record.viewers.saturating_sub(record.webrtc_viewers);
        Self {
            stream_id: record.key.stream.to_string(),
            status: Some(status.to_owned()),
            kind: Some("liveStream".to_owned()),
            publish_type: live.then(|| record.publish_type.as_str().to_owned()),
            name: notes.name,
            description: notes.description,
            meta_data: notes.meta_data,
            date: Some(made.0),
            duration: Some(count(u64::try_from(record.started_at.age(until).as_millis()).unwrap_or(0))),
            origin_adress: origin.map(|ip| ip.to_string()),
            speed: Some(if live { 1.0 } else { 0.0 }),
            start_time: Some(record.started_at.0),
            update_time: Some(until.0),
            bitrate: Some(if live { count(record.bitrate_bps) } else { 0 }),
            width: Some(i64::from(size.width)),
            height: Some(i64::from(size.height)),
            hls_viewer_count: Some(if live { count(by_hls) } else { 0 }),
            webrtc_viewer_count: Some(if live { count(record.webrtc_viewers) } else { 0 }),
            rtmp_viewer_count: Some(0),
            dash_viewer_count: Some(0),
            ..Self::default()
        }
    }

    /// Whether AMS would call it live at `now`, the database's time.
    #[must_use]
    pub fn is_live(&self, now: UnixMs) -> bool {
        self.status.as_deref() == Some(BROADCASTING)
            && self.update_time.is_some_and(|at| UnixMs(at).age(now) < STALE_AFTER)
    }

    /// The same as AMS's readers show it at `now`: a live one that is stale has ended.
    #[must_use]
    pub fn as_shown(mut self, now: UnixMs) -> Self {
        if self.status.as_deref() == Some(BROADCASTING) && !self.is_live(now) {
            self.status = Some(TERMINATED.to_owned());
        }
        self
    }

    /// Viewers by all protocols.
    #[must_use]
    pub fn viewers(&self) -> u64 {
        let counts =
            [self.hls_viewer_count, self.webrtc_viewer_count, self.rtmp_viewer_count, self.dash_viewer_count];
        counts.iter().flatten().map(|n| u64::try_from(*n).unwrap_or(0)).sum()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::stream::{PictureSize, PublishType};
    use crate::testing::stream_held_by;

    const NOW: UnixMs = UnixMs(1_700_000_000_000);

    fn read(document: serde_json::Value) -> Broadcast {
        serde_json::from_value(document).unwrap()
    }

    #[test]
    fn a_mirror_has_ams_names_and_types() {
        let size = Some(PictureSize { width: 1280, height: 720, fps: 30.0 });
        let record = StreamRecord {
            size,
            bitrate_bps: 2_500_000,
            viewers: 12,
            webrtc_viewers: 5,
            publish_type: PublishType::WebRtc,
            ..stream_held_by("live/cam1", "o1", "s", NOW)
        };
        let now = NOW.plus(Duration::from_secs(60));
        let broadcast = Broadcast::of(&record, Some("10.0.1.5".parse().unwrap()), now);
        let expect = json!({
            "streamId": "cam1", "status": "broadcasting", "type": "liveStream", "publishType": "WebRTC",
            "date": NOW.0, "duration": 60_000, "originAdress": "10.0.1.5", "speed": 1.0, "startTime": NOW.0,
            "updateTime": now.0, "bitrate": 2_500_000, "width": 1280, "height": 720, "hlsViewerCount": 7,
            "webRTCViewerCount": 5, "rtmpViewerCount": 0, "dashViewerCount": 0,
        });
        assert_eq!(serde_json::to_value(&broadcast).unwrap(), expect);
        assert_eq!((read(expect), broadcast.viewers()), (broadcast.clone(), 12));

        let ended = StreamRecord { ended_at: Some(now), ..record };
        let broadcast = Broadcast::of(&ended, None, now.plus(Duration::from_secs(5)));
        assert_eq!(broadcast.status.as_deref(), Some(FINISHED));
        assert_eq!((broadcast.update_time, broadcast.viewers()), (Some(now.0), 0));
    }

    #[test]
    fn a_live_broadcast_that_is_not_updated_has_ended_without_a_word() {
        let community = read(json!({
            "_id": {"$oid": "65f0"}, "streamId": "s1", "status": "broadcasting", "type": "liveStream",
            "publishType": "WebRTC", "originAdress": "10.0.1.5", "updateTime": NOW.0, "hlsViewerCount": 3,
            "webRTCViewerCount": 4, "quality": null, "speed": 1.01, "encoderSettingsList": null, "zombi": true,
        }));
        assert!(community.is_live(NOW.plus(Duration::from_secs(19))));
        assert_eq!(community.viewers(), 7);
        let later = NOW.plus(Duration::from_secs(20));
        assert!(!community.is_live(later));
        assert_eq!(community.as_shown(later).status.as_deref(), Some(TERMINATED));
    }

    #[test]
    fn what_is_missing_or_odd_is_left_out_and_the_rest_stays() {
        let odd =
            read(json!({"streamId": "s1", "status": 3, "updateTime": "1700000000000", "width": {"a": 1}}));
        assert_eq!((odd.status.as_deref(), odd.update_time, odd.width), (Some("3"), Some(NOW.0), None));
        assert!(!odd.is_live(NOW));
    }
}
