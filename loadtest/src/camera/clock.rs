//! The wall clock as a picture: 64 black or white blocks, 16 beside each other in 4 rows. The first 48 are the
//! time in milliseconds since 1970, highest bit first, the last 16 its checksum (CRC-16/CCITT-FALSE), so that
//! a picture with no clock in it, or one that was read while it changed, is told from a time.

/// Blocks beside each other.
pub(super) const COLUMNS: usize = 16;
/// Rows of blocks.
pub(super) const ROWS: usize = 4;

const BLOCKS: usize = COLUMNS * ROWS;
const TIME_BITS: usize = 48;

/// Luma of the blocks, well inside the range of video so that no encoder clips it.
const BLACK: u8 = 24;
const WHITE: u8 = 224;
/// A block darker than this is black, as a browser shows it: between the two, whatever the colour conversion.
const BRIGHT: u8 = 124;

/// A picture in planar YUV 4:2:0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Pixels beside each other, a multiple of [`COLUMNS`].
    pub(super) width: usize,
    /// Lines, a multiple of [`ROWS`].
    pub(super) height: usize,
}

/// The picture of `unix_ms`, as raw `yuv420p`.
pub(super) fn picture(unix_ms: u64, size: Size) -> Vec<u8> {
    let luma = size.width * size.height;
    let mut frame = vec![128; luma + luma / 2];
    let bits = encode(unix_ms);
    let (block_width, block_height) = (size.width / COLUMNS, size.height / ROWS);
    for (line, pixels) in frame.chunks_exact_mut(size.width).take(size.height).enumerate() {
        let row = line / block_height;
        for (column, block) in pixels.chunks_exact_mut(block_width).enumerate() {
            let bit = bits >> (BLOCKS - 1 - row * COLUMNS - column) & 1;
            block.fill(if bit == 1 { WHITE } else { BLACK });
        }
    }
    frame
}

/// The time that blocks of this brightness (0 to 255, in reading order) show, milliseconds since 1970.
pub(super) fn read(brightness: &[u8]) -> Option<u64> {
    if brightness.len() != BLOCKS {
        return None;
    }
    let bits = brightness.iter().fold(0_u64, |bits, b| bits << 1 | u64::from(*b > BRIGHT));
    let unix_ms = bits >> (BLOCKS - TIME_BITS);
    (encode(unix_ms) == bits).then_some(unix_ms)
}

/// The time, then its checksum.
fn encode(unix_ms: u64) -> u64 {
    let time = unix_ms & ((1 << TIME_BITS) - 1);
    let bytes = time.to_be_bytes();
    time << (BLOCKS - TIME_BITS) | u64::from(crc16(&bytes[2..]))
}

/// CRC-16/CCITT-FALSE: polynomial 0x1021, begun with ones, so that all black is no time.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xFFFF, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size { width: 640, height: 360 };

    /// The brightness at the middle of each block of a picture.
    fn seen(frame: &[u8], size: Size) -> Vec<u8> {
        let (width, height) = (size.width / COLUMNS, size.height / ROWS);
        let middle = |n: usize| {
            let (x, y) = (n % COLUMNS * width + width / 2, n / COLUMNS * height + height / 2);
            frame[y * size.width + x]
        };
        (0..BLOCKS).map(middle).collect()
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc16(b"123456789"), 0x29B1);
    }

    #[test]
    fn a_picture_without_a_clock_shows_no_time() {
        assert_eq!(read(&[0; BLOCKS]), None);
        assert_eq!(read(&[255; BLOCKS]), None);
        assert_eq!(read(&[0; BLOCKS - 1]), None);
    }

    #[test]
    fn a_picture_is_as_large_as_it_says() {
        assert_eq!(picture(1_700_000_000_000, SIZE).len(), 640 * 360 * 3 / 2);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read(unix_ms in 0_u64..1 << TIME_BITS) {
            prop_assert_eq!(read(&seen(&picture(unix_ms, SIZE), SIZE)), Some(unix_ms));
        }

        #[test]
        fn a_block_that_flips_is_noticed(unix_ms in 0_u64..1 << TIME_BITS, block in 0..BLOCKS) {
            let mut brightness = seen(&picture(unix_ms, SIZE), SIZE);
            brightness[block] = 255 - brightness[block];
            prop_assert_eq!(read(&brightness), None);
        }
    }
}
