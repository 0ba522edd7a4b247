//! The node that tests share which only look: standalone, with a certificate, and `live/demo` published to it.

use std::ops::Deref;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use sluicegate_e2e::hls::MediaPlaylist;
use sluicegate_e2e::node::{NodeConfig, NodeProcess};
use sluicegate_e2e::publisher::{Publisher, publish};
use sluicegate_e2e::until::until;

/// For a stream's first segments to be listed.
pub(crate) const FIRST_SEGMENTS: Duration = Duration::from_secs(20);

/// The shared node and its stream. Both end with this process.
struct Demo {
    node: NodeProcess,
    _publisher: Mutex<Publisher>,
}

static DEMO: LazyLock<Demo> = LazyLock::new(|| {
    let node = NodeConfig::standalone().with_certificate().start();
    let publisher = publish(node.rtmp(), "live/demo");
    playlist(&node, "demo");
    Demo { node, _publisher: Mutex::new(publisher) }
});

/// The shared node, for one test. If that fails, the node's last lines are shown.
pub(crate) struct SharedNode(&'static NodeProcess);

/// The shared node, `live/demo` playing.
pub(crate) fn node() -> SharedNode {
    SharedNode(&DEMO.node)
}

impl Deref for SharedNode {
    type Target = NodeProcess;

    fn deref(&self) -> &NodeProcess {
        self.0
    }
}

impl Drop for SharedNode {
    fn drop(&mut self) {
        self.0.explain_failure();
    }
}

/// The media playlist of `stream` in `live`, as soon as it lists something.
#[track_caller]
pub(crate) fn playlist(node: &NodeProcess, stream: &str) -> MediaPlaylist {
    let url = node.url(&format!("/live/streams/{stream}.m3u8"));
    until(&format!("{url} lists segments"), FIRST_SEGMENTS, || MediaPlaylist::fetch(&url))
}
