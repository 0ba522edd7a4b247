//! The embedded store's file: all streams as one JSON document, replaced as a whole, so that it is either
//! the old one or the new one whenever the machine stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::limits;
use crate::store::StoreError;
use crate::stream::StreamRecord;

/// The file's layout. A file of another one is refused.
const FORMAT: u32 = 1;

/// The largest file that is read or written.
const FILE_BYTES_MAX: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents<Streams> {
    format: u32,
    streams: Streams,
}

/// The streams in the file `path`; none when there is no such file.
pub(super) fn read(path: &Path) -> Result<Vec<StreamRecord>, StoreError> {
    let bytes = match read_bounded(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(path, error)),
    };
    let unreadable = |why| StoreError::Unreadable { id: path.display().to_string(), why };
    let contents: Contents<Vec<StreamRecord>> =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if contents.format != FORMAT {
        return Err(unreadable(format!("format {}, expected {FORMAT}", contents.format)));
    }
    Ok(contents.streams)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    check_size(fs::metadata(path)?.len())?;
    fs::read(path)
}

fn check_size(bytes: u64) -> io::Result<()> {
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{bytes} bytes, more than {FILE_BYTES_MAX}")));
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> StoreError {
    StoreError::File { path: path.to_owned(), source }
}

/// Writes the file, one write at a time.
pub(super) struct StreamFile {
    path: PathBuf,
    /// The version that the file holds.
    written: Arc<Mutex<u64>>,
}

impl StreamFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, written: Arc::default() }
    }

    /// Returns when the file holds `version` or a later one. Calls that wait for the disk together share
    /// one write: the first of them takes the newest `snapshot`, the others find their version written.
    pub(super) async fn write(
        &self,
        version: u64,
        snapshot: impl FnOnce() -> (u64, Vec<Arc<StreamRecord>>),
    ) -> Result<(), StoreError> {
        tokio::time::timeout(limits::STORE_CALL, self.write_unbounded(version, snapshot))
            .await
            .map_err(|_| StoreError::TimedOut)?
    }

    async fn write_unbounded(
        &self,
        version: u64,
        snapshot: impl FnOnce() -> (u64, Vec<Arc<StreamRecord>>),
    ) -> Result<(), StoreError> {
        // The guard moves into the write, which ends even when its caller gave up: never two at a time.
        let mut written = Arc::clone(&self.written).lock_owned().await;
        if *written >= version {
            return Ok(());
        }
        let (newest, streams) = snapshot();
        let path = self.path.clone();
        let write = tokio::task::spawn_blocking(move || {
            replace(&path, &streams).map_err(|error| failed(&path, error))?;
            *written = newest;
            Ok(())
        });
        write.await.unwrap_or_else(|stopped| Err(failed(&self.path, io::Error::other(stopped))))
    }
}

fn replace(path: &Path, streams: &[Arc<StreamRecord>]) -> io::Result<()> {
    let streams: Vec<&StreamRecord> = streams.iter().map(AsRef::as_ref).collect();
    let bytes = serde_json::to_vec(&Contents { format: FORMAT, streams })?;
    check_size(bytes.len() as u64)?;

    let directory = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(directory)?;
    let mut new_path = path.as_os_str().to_owned();
    new_path.push(".new");
    // Records hold publisher sessions, which are secrets: nobody else may read the file.
    let mut new_file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new_path)?;
    new_file.write_all(&bytes)?;
    new_file.sync_all()?;
    fs::rename(&new_path, path)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::clock::UnixMs;
    use crate::ids::{Epoch, StreamKey};
    use crate::store::{ClusterStore, EmbeddedStore};
    use crate::stream::StreamProgress;
    use crate::testing::stream_held_by;

    const NOW: UnixMs = UnixMs(1_000_000);

    fn key() -> StreamKey {
        "live/cam".parse().unwrap()
    }

    #[tokio::test]
    async fn streams_outlive_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/streams.json");
        let claimed = stream_held_by("live/cam", "o1", "s1", NOW);
        {
            let store = EmbeddedStore::open(&path).unwrap();
            store.prepare().await.unwrap();
            assert!(store.put_stream(&claimed, None).await.unwrap());
            let progress = StreamProgress {
                renditions: vec!["source".to_owned()],
                key: key(),
                epoch: claimed.epoch,
                size: None,
                sequence: 77,
                bitrate_bps: 5,
                viewers: 2,
                webrtc_viewers: 1,
                ladder: Box::default(),
                is_news: false,
            };
            store.record_progress(&[progress], UnixMs(NOW.0 + 10_000)).await.unwrap();
        }
        let store = EmbeddedStore::open(&path).unwrap();
        let stream = store.stream(&key()).await.unwrap().unwrap();
        assert_eq!((stream.epoch, stream.claims, stream.sequence), (Epoch(NOW.0), 1, 77));
        assert_eq!(stream.owner, claimed.owner);
        assert_eq!(store.nodes().await.unwrap(), []);
    }

    #[tokio::test]
    async fn many_writers_share_writes_and_lose_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("streams.json");
        let store = Arc::new(EmbeddedStore::open(&path).unwrap());
        let writers: Vec<_> = (0..200)
            .map(|n| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    let record = stream_held_by(&format!("live/s{n}"), "o1", "s1", NOW);
                    store.put_stream(&record, None).await.unwrap();
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(read(&path).unwrap().len(), 200);
    }

    #[tokio::test]
    async fn the_file_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("streams.json");
        EmbeddedStore::open(&path).unwrap().prepare().await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_corrupt_file_is_refused_by_name_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("streams.json");
        let later_format = r#"{"format":2,"streams":[]}"#;
        let half_a_stream = r#"{"format":1,"streams":[{"_id":"live/cam"}]}"#;
        for contents in ["", "{", later_format, half_a_stream] {
            fs::write(&path, contents).unwrap();
            let error = EmbeddedStore::open(&path).err().unwrap();
            assert!(matches!(error, StoreError::Unreadable { .. }), "{error}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(directory.path().join("streams.json")).unwrap();
        store.prepare().await.unwrap();
        fs::create_dir(directory.path().join("streams.json.new")).unwrap();
        let error = store.prepare().await.unwrap_err();
        assert_eq!(error.kind(), "file");
        assert!(error.to_string().contains("streams.json"), "{error}");
    }
}
