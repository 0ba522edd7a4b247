//! What is looked at in a session description before the engine reads it.

use crate::error::Refused;
use crate::limits;

/// Checks the outline of an offer or answer, and leaves out what an ICE-lite server has no use for:
/// candidates (it never sends checks; RFC 8445 2.5) and simulcast, so that one layer is sent.
///
/// # Errors
/// [`Refused`] when it is too long, is no SDP, or has more than one section of a kind.
pub(crate) fn outline(text: &str) -> Result<String, Refused> {
    if text.len() > limits::SDP_BYTES {
        return Err(Refused::TooLong);
    }
    if !text.starts_with("v=0") {
        return Err(Refused::Malformed("it does not begin with v=0".to_owned()));
    }
    let sections = |kind: &str| text.lines().filter(|line| line.starts_with(kind)).count();
    let kinds = ["m=video", "m=audio", "m=application"].map(sections);
    if kinds.iter().any(|count| *count > 1) {
        return Err(Refused::Unsupported("more than one section of video, of audio or of data channels"));
    }
    if sections("m=") > kinds.iter().sum() {
        return Err(Refused::Unsupported("only sections of video, of audio and of data channels are taken"));
    }
    let left_out = ["a=candidate:", "a=end-of-candidates", "a=simulcast:", "a=rid:"];
    let kept = text.lines().filter(|line| !left_out.iter().any(|start| line.starts_with(start)));
    Ok(kept.flat_map(|line| [line, "\r\n"]).collect())
}

/// The value of the first line that begins with `name`.
pub(crate) fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn candidates_and_layers_are_left_out() {
        let offer = "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=candidate:1 1 udp 1 host.local 9 typ host\r\n\
                     a=mid:0\r\na=simulcast:send h;l\r\na=rid:h send\r\n";
        let kept = outline(offer).unwrap();
        assert_eq!(kept, "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n");
        assert_eq!(value(&kept, "a=mid:"), Some("0"));
    }

    #[test]
    fn what_cannot_be_taken_is_refused() {
        assert!(matches!(outline("hello"), Err(Refused::Malformed(_))));
        assert_eq!(outline(&format!("v=0{}", " ".repeat(limits::SDP_BYTES))), Err(Refused::TooLong));
        for sections in ["video|video", "audio|audio", "application|application", "video|text"] {
            let lines: String = sections.split('|').map(|kind| format!("m={kind} 9 x 96\n")).collect();
            assert!(matches!(outline(&format!("v=0\n{lines}")), Err(Refused::Unsupported(_))), "{sections}");
        }
        assert!(outline("v=0\nm=video 9 x 96\nm=audio 9 x 96\nm=application 9 x\n").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_never_grows_by_more_than_its_line_ends(text in "(v=0)?(.{0,20}\r?\n){0,20}") {
            if let Ok(kept) = outline(&text) {
                prop_assert!(kept.len() <= text.len() + 2 * (text.lines().count() + 1));
            }
        }
    }
}
