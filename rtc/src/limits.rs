//! What WebRTC bounds: [`Limits`] an operator may change, the rest is fixed.

use std::time::Duration;

/// Limits of one [`crate::Mux`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Sessions at once.
    pub sessions: usize,
    /// Sessions that have answered an offer and are not connected yet.
    pub half_open: usize,
    /// From an offer to media that can flow: ICE and DTLS together.
    pub handshake: Duration,
    /// How long a session outlives its last ICE check (RFC 7675 asks for at most 30 s).
    pub silence: Duration,
    /// ICE checks a second that one IP address may send from ports that no session knows.
    pub stun_per_source: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 5_000,
            half_open: 1_000,
            handshake: Duration::from_secs(15),
            silence: Duration::from_secs(10),
            stun_per_source: 500,
        }
    }
}

/// The longest SDP that is read. A browser's offer has 2 to 8 KiB.
pub const SDP_BYTES: usize = 64 << 10;
/// The longest ICE fragment that is read (RFC 8840).
pub const FRAGMENT_BYTES: usize = 16 << 10;
/// Shards of one mux. The shard is two characters of the ICE user name.
pub const SHARDS: usize = 64;

/// Addresses that one session may be reached from; the oldest is forgotten for a new one.
pub(crate) const ADDRESSES_PER_SESSION: usize = 8;
/// Addresses that a shard remembers for other shards.
pub(crate) const NEIGHBOURS_ADDRESSES: usize = 65_536;
/// Sources whose ICE checks are counted apart, in one second. Others share one count.
pub(crate) const STUN_SOURCES: usize = 4_096;
/// Commands that wait for a shard.
pub(crate) const COMMANDS: usize = 4_096;
/// Events that wait for a session's owner ([`crate::Channels`]): 10 s of video and audio.
pub const EVENTS: usize = 1_024;
/// The largest UDP payload.
pub(crate) const DATAGRAM_BYTES: usize = 1 << 16;
/// Packets of a frame that leave at once, however little the estimate is: those of a larger one are spread until
/// the next frame comes. Pacing every frame would hold a keyframe back for as long as several frames last.
pub(crate) const PACKETS_AT_ONCE: usize = 32;
/// Sent packets that the engine can repeat, and for how long, of a session that deals in frames. Who deals in packets
/// keeps them.
pub(crate) const REPEATABLE_PACKETS: usize = 512;
/// See [`REPEATABLE_PACKETS`].
pub(crate) const REPEATABLE_FOR: Duration = Duration::from_secs(1);
/// Repeated packets among all that are sent, at most: beyond it a link is full, and repeating makes it worse.
pub(crate) const REPEATED_SHARE: f32 = 0.25;
/// The same of sessions that deal in packets: so many have to be sent for one to be repeated, …
pub(crate) const PACKETS_FOR_A_REPEAT: u32 = 4;
/// … and so many may be repeated at once, after there were no losses for a while.
pub(crate) const REPEATS_AT_ONCE: u32 = 64;
/// The least time between two requests for a keyframe to one publisher.
pub const KEYFRAME_REQUEST_EVERY: Duration = Duration::from_millis(500);
