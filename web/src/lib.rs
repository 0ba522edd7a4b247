//! The player page, the publish page and the console, as they were built by npm, inside the binary.
//!
//! Names of scripts and styles carry a hash of their content, so that they may be kept for a year; a page
//! itself is asked for each time and answered with 304 while its entity tag holds.

/// What a page may load: its own files, the streams of its own host, and what Media Source Extensions make.
pub const PLAYER_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'";

/// The same for the console, which nobody may show inside a frame.
pub const CONSOLE_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page on which an operator logs in, with `{{node}}` and `{{refusal}}` to be filled in. It has no script.
pub const LOGIN_PAGE: &str = include_str!("../login/login.html");

/// Its style sheet, `login.css`.
pub const LOGIN_STYLE: &str = include_str!("../login/login.css");

/// One file of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The file's bytes.
    pub body: &'static [u8],
    /// They by gzip, and by Brotli, where that is shorter.
    pub gzip: Option<&'static [u8]>,
    /// See [`Asset::gzip`].
    pub brotli: Option<&'static [u8]>,
    /// The value of `ETag`, in its quotes: a hash of the body.
    pub etag: &'static str,
    /// Whether the name changes with the content.
    pub immutable: bool,
}

impl Asset {
    /// The value of `Cache-Control` (`immutable` is RFC 8246).
    pub fn cache_control(&self) -> &'static str {
        if self.immutable { "public, max-age=31536000, immutable" } else { "no-cache" }
    }
}

/// A file of the player page, by its path below an app (`/{app}/`): `play.html`, `player.html`, which is the
/// same page under AMS's other name for it, or `assets/…`.
pub fn player(path: &str) -> Option<Asset> {
    let path = if path == "player.html" { "play.html" } else { path };
    find(PLAYER, path)
}

/// A file of the publish page, by its path below an app: `publish.html` or `assets/…`.
pub fn publish(path: &str) -> Option<Asset> {
    find(PUBLISH, path)
}

/// A file of the console, by its path below the admin address's root: the empty path is the console itself.
pub fn console(path: &str) -> Option<Asset> {
    let path = if path.is_empty() { "index.html" } else { path };
    find(CONSOLE, path)
}

fn find(table: &[(&str, Asset)], path: &str) -> Option<Asset> {
    table.iter().find(|(name, _)| *name == path).map(|(_, asset)| *asset)
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

#[cfg(test)]
mod tests {
    use super::*;

    /// The files that a page's HTML names in `src` and `href`.
    fn named(page: Asset) -> Vec<String> {
        let html = std::str::from_utf8(page.body).unwrap();
        let after = |attribute: &str| -> Vec<String> {
            html.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
        };
        [after("src=\""), after("href=\"assets")]
            .concat()
            .into_iter()
            .map(|name| if name.starts_with('/') { format!("assets{name}") } else { name })
            .collect()
    }

    #[test]
    fn the_player_has_both_of_its_names() {
        let page = player("play.html").unwrap();
        assert_eq!(page.content_type, "text/html; charset=utf-8");
        assert_eq!(page.cache_control(), "no-cache");
        assert_eq!(player("player.html"), Some(page));
    }

    #[test]
    fn the_console_is_at_the_root() {
        assert_eq!(console(""), console("index.html"));
        assert!(console("").is_some());
    }

    #[test]
    fn every_file_a_page_names_is_there_and_may_be_kept() {
        let pages = [
            (player("play.html"), player as fn(&str) -> _),
            (publish("publish.html"), publish),
            (console(""), console),
        ];
        for (page, find) in pages {
            let names = named(page.unwrap());
            assert!(names.len() >= 3, "{names:?}");
            for name in names {
                let asset = find(&name).unwrap_or_else(|| panic!("{name} is not embedded"));
                assert!(asset.immutable, "{name}");
                assert!(!asset.body.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn a_page_runs_no_script_of_its_own_text_and_names_no_other_host() {
        for page in [player("play.html"), publish("publish.html"), console("")] {
            let html = std::str::from_utf8(page.unwrap().body).unwrap();
            assert!(!html.contains("://"), "{html}");
            assert!(!html.contains("<style") && !html.contains(" style="), "{html}");
            assert_eq!(
                html.matches("<script").count(),
                html.matches("<script type=\"module\" src=\"assets/").count()
            );
        }
    }

    #[test]
    fn entity_tags_are_quoted_and_tell_files_apart() {
        let mut tags: Vec<&str> = PLAYER.iter().map(|(_, asset)| asset.etag).collect();
        assert!(tags.iter().all(|tag| tag.len() == 18 && tag.starts_with('"') && tag.ends_with('"')));
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), PLAYER.len());
    }

    #[test]
    fn scripts_are_there_compressed() {
        for (name, asset) in PLAYER.iter().filter(|(name, _)| name.ends_with(".js")) {
            let (gzip, brotli) = (asset.gzip.unwrap(), asset.brotli.unwrap());
            assert!(gzip.starts_with(&[0x1F, 0x8B]) && gzip.len() * 2 < asset.body.len(), "{name}");
            assert!(brotli.len() < gzip.len(), "{name}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in
            ["nothing.html", "assets/", "/play.html", "../play.html", "assets/../play.html", "PLAY.HTML", ""]
        {
            assert_eq!(player(path), None, "{path}");
        }
        assert_eq!(console("play.html"), None);
        assert_eq!(publish("play.html"), None);
    }
}
