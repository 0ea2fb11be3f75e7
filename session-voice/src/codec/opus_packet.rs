//! What can be said of an Opus packet without decoding it (RFC 6716 §3, §4.2.3).

/// Packets without sound: the encoder has said that nobody speaks (RFC 7587 §3.1.3: one or two bytes).
pub(crate) fn is_silence(packet: &[u8]) -> bool {
    packet.len() <= 2
}

/// How long it sounds, in samples of 48 kHz (RFC 6716 §3.1, §3.2); 0 for what is no packet.
pub(crate) fn samples(packet: &[u8]) -> u32 {
    let Some((&toc, rest)) = packet.split_first() else {
        return 0;
    };
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
        12..=15 => [480, 960][usize::from(config & 1)],
        _ => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => rest.first().map_or(0, |count| u32::from(count & 0x3F)),
    };
    // More than 120 ms is none.
    Some(frame * count).filter(|all| *all <= 5_760).unwrap_or(0)
}

/// Whether it carries a copy of the frame before it (LBRR, RFC 6716 §4.2.4).
pub(crate) fn has_copy(packet: &[u8]) -> bool {
    let Some((&toc, rest)) = packet.split_first() else {
        return false;
    };
    let config = toc >> 3;
    // From 16 on, nothing of SILK is in it, which alone has copies.
    if config >= 16 {
        return false;
    }
    let first = match toc & 3 {
        0 | 1 => rest,
        2 => match rest {
            [0..=251, rest @ ..] | [252..=255, _, rest @ ..] => rest,
            [] | [_] => return false,
        },
        _ => match after_count(rest) {
            Some(rest) => rest,
            None => return false,
        },
    };
    let Some(bits) = first.first() else {
        return false;
    };
    // One flag of activity for each 20 ms, then that of the copy.
    let frames = match config {
        0..=11 => [1, 1, 2, 3][usize::from(config & 3)],
        _ => 1,
    };
    let copy = |at: u32| bits >> (7 - at) & 1 != 0;
    let is_stereo = toc & 4 != 0;
    copy(frames) || is_stereo && frames < 3 && copy(2 * frames + 1)
}

/// Whether something is behind its sound, which is where deep redundancy stands (padding, RFC 6716 §3.2.5).
pub(crate) fn has_extension(packet: &[u8]) -> bool {
    match packet {
        [toc, count, length, ..] => toc & 3 == 3 && count & 0x40 != 0 && *length > 1,
        _ => false,
    }
}

/// The first frame of a packet with any number of them.
fn after_count(rest: &[u8]) -> Option<&[u8]> {
    let (&count, mut rest) = rest.split_first()?;
    if count & 0x40 != 0 {
        // A length of 255 says that there is more of it.
        loop {
            let (&length, more) = rest.split_first()?;
            rest = more;
            if length != 255 {
                break;
            }
        }
    }
    if count & 0x80 != 0 {
        // Lengths of all frames but the last.
        for _ in 1..count & 0x3F {
            let two = matches!(rest.first(), Some(252..=255));
            rest = rest.get(if two { 2 } else { 1 }..)?;
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_length_is_known() {
        // SILK of 10, 20, 40, 60 ms, hybrid of 10 and 20, CELT of 2.5, 5, 10, 20.
        let ms = |config: u8| f64::from(samples(&[config << 3, 0])) / 48.0;
        assert_eq!([0, 1, 2, 3].map(ms), [10.0, 20.0, 40.0, 60.0]);
        assert_eq!([12, 13, 14, 15].map(ms), [10.0, 20.0, 10.0, 20.0]);
        assert_eq!([16, 17, 18, 31].map(ms), [2.5, 5.0, 10.0, 20.0]);
        // Two frames, six frames, and more than there may be.
        assert_eq!(samples(&[3 << 3 | 1, 0]), 5_760);
        assert_eq!(samples(&[1 << 3 | 3, 6, 0]), 5_760);
        assert_eq!([&[1 << 3 | 3, 7, 0][..], &[11], &[]].map(samples), [0; 3]);
    }

    #[test]
    fn flags_are_found_where_they_are() {
        // Wideband SILK, 20 ms, mono, one frame: activity, then the copy.
        assert!(has_copy(&[9 << 3, 0b1100_0000, 0]));
        assert!(!has_copy(&[9 << 3, 0b1000_0000, 0]));
        // 60 ms: three flags of activity before it.
        assert!(has_copy(&[11 << 3, 0b0001_0000]));
        assert!(!has_copy(&[11 << 3, 0b1110_1111]));
        // Hybrid of 20 ms in a packet with padding of 300 bytes.
        assert!(has_copy(&[13 << 3 | 3, 0x41, 255, 46, 0b0100_0000]));
        assert!(has_extension(&[13 << 3 | 3, 0x41, 255, 46, 0b0100_0000]));
        // CELT has none.
        assert!(!has_copy(&[31 << 3, 0xFF]));
        assert!(!has_extension(&[31 << 3, 0xFF]));
        assert!(is_silence(&[9 << 3]));
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(packet in prop::collection::vec(any::<u8>(), 0..12)) {
            let _ = (has_copy(&packet), has_extension(&packet), is_silence(&packet));
        }
    }
}
