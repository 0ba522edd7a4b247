//! Names: of files, as players ask for them, and of streams and nodes, as publishers and operators give them.

use sluicegate_cluster::ids::{AppName, NodeId, StreamKey, StreamName};
use sluicegate_media::names;

/// A name that is taken is written as it was read, and means nothing in a path.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(file) = names::parse(text) {
        assert_eq!(file.to_string(), text);
        harmless(file.stream());
        assert!(
            file.stream().parse::<StreamName>().is_ok(),
            "{file:?} is of no stream that could be published"
        );
    }
    if let Ok(key) = text.parse::<StreamKey>() {
        assert_eq!(key.to_string(), text);
        harmless(key.app.as_str());
        harmless(key.stream.as_str());
        let playlist = format!("{}.m3u8", key.stream);
        assert_eq!(
            names::parse(&playlist).map(|file| file.stream().to_owned()),
            Some(key.stream.to_string())
        );
    }
    for name in [text.parse::<AppName>().map(String::from), text.parse::<NodeId>().map(String::from)] {
        name.iter().for_each(|name| harmless(name));
    }
}

fn harmless(name: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!(!matches!(name, "" | "." | "..") && name.bytes().all(plain), "{name:?}");
}
