//! RTP headers with extensions (RFC 3550 section 5.1, RFC 8285): made once for all packets of one SSRC, and filled
//! in for each.

/// The fixed part of a header, and what announces extensions of one byte.
const FIXED_BYTES: usize = 12;
const EXTENSIONS: [u8; 4] = [0xbe, 0xde, 0, 0];
const VERSION_2_EXTENDED: u8 = 0x90;
const VERSION_2: u8 = 0x80;
const MARKER: u8 = 0x80;
/// Identifiers of extensions that the one-byte form has room for, and the longest value.
const IDS: std::ops::RangeInclusive<u8> = 1..=14;
const VALUE_BYTES_MAX: usize = 16;

/// Identifiers of the extensions that a track was negotiated with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extensions {
    /// The track's name (RFC 8843 section 15), and which.
    pub(crate) mid: Option<(u8, String)>,
    /// The transport-wide sequence number.
    pub(crate) transport: Option<u8>,
    /// The absolute send time.
    pub(crate) send_time: Option<u8>,
}

/// What differs between packets of one SSRC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fields {
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) transport: u16,
    /// Seconds, 6 bits of them, and 18 bits of fraction.
    pub(crate) send_time: u32,
}

/// The header of one SSRC's packets.
#[derive(Debug)]
pub(crate) struct Header {
    bytes: Vec<u8>,
    transport_at: Option<usize>,
    send_time_at: Option<usize>,
}

impl Header {
    pub(crate) fn new(ssrc: u32, payload_type: u8, extensions: &Extensions) -> Self {
        let mut header = Self { bytes: vec![VERSION_2, payload_type, 0, 0, 0, 0, 0, 0], ..Self::empty() };
        header.bytes.extend(ssrc.to_be_bytes());
        header.bytes.extend(EXTENSIONS);
        if let Some((id, mid)) = &extensions.mid {
            header.add(*id, mid.as_bytes());
        }
        header.transport_at = extensions.transport.and_then(|id| header.add(id, &[0; 2]));
        header.send_time_at = extensions.send_time.and_then(|id| header.add(id, &[0; 3]));
        header.finish();
        header
    }

    /// Its length, bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it carries a transport-wide sequence number.
    pub(crate) fn has_transport(&self) -> bool {
        self.transport_at.is_some()
    }

    /// Writes it at the start of `out`.
    pub(crate) fn write(&self, fields: Fields, out: &mut [u8]) {
        put(out, 0, &self.bytes);
        if fields.marker
            && let Some(byte) = out.get_mut(1)
        {
            *byte |= MARKER;
        }
        put(out, 2, &fields.sequence.to_be_bytes());
        put(out, 4, &fields.timestamp.to_be_bytes());
        if let Some(at) = self.transport_at {
            put(out, at, &fields.transport.to_be_bytes());
        }
        if let (Some(at), [_, time @ ..]) = (self.send_time_at, fields.send_time.to_be_bytes()) {
            put(out, at, &time);
        }
    }

    fn empty() -> Self {
        Self { bytes: Vec::new(), transport_at: None, send_time_at: None }
    }

    /// Adds an extension, if this form has room for it. Where its value is.
    fn add(&mut self, id: u8, value: &[u8]) -> Option<usize> {
        let fits = IDS.contains(&id) && (1..=VALUE_BYTES_MAX).contains(&value.len());
        let length = u8::try_from(value.len()).ok().filter(|_| fits)?;
        self.bytes.push(id << 4 | (length - 1));
        let at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        Some(at)
    }

    /// Pads the extensions to whole words, and says how many there are.
    fn finish(&mut self) {
        let begin = FIXED_BYTES + EXTENSIONS.len();
        if self.bytes.len() == begin {
            return self.bytes.truncate(FIXED_BYTES);
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let words = u16::try_from((self.bytes.len() - begin) / 4).unwrap_or_default();
        put(&mut self.bytes, 0, &[VERSION_2_EXTENDED]);
        put(&mut self.bytes, begin - 2, &words.to_be_bytes());
    }
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = out.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: Fields = Fields {
        sequence: 0x0102,
        timestamp: 0x0304_0506,
        marker: true,
        transport: 0x0708,
        send_time: 0x0a_0b0c,
    };

    fn written(extensions: &Extensions) -> Vec<u8> {
        let header = Header::new(0x1122_3344, 96, extensions);
        let mut out = vec![0xff; header.len()];
        header.write(FIELDS, &mut out);
        out
    }

    #[test]
    fn a_header_without_extensions_has_twelve_bytes() {
        let plain = [0x80, 0xe0, 1, 2, 3, 4, 5, 6, 0x11, 0x22, 0x33, 0x44];
        assert_eq!(written(&Extensions::default()), plain);
        let too_far = Extensions { transport: Some(15), mid: Some((3, "x".repeat(17))), send_time: None };
        assert_eq!(written(&too_far), plain, "what has no room is left out");
    }

    #[test]
    fn extensions_follow_in_whole_words() {
        let all = Extensions { mid: Some((4, "v0".to_owned())), transport: Some(3), send_time: Some(2) };
        let header = written(&all);
        assert_eq!(header[0], 0x90);
        assert_eq!(header[12..], [0xbe, 0xde, 0, 3, 0x41, b'v', b'0', 0x31, 7, 8, 0x22, 10, 11, 12, 0, 0]);
    }
}
