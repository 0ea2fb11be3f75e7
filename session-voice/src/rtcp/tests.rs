#![allow(clippy::wildcard_enum_match_arm)]

use super::*;
use proptest::prelude::*;

fn report() -> impl Strategy<Value = ReceptionReport> {
    (any::<[u32; 5]>(), any::<u8>(), -0x80_0000..0x80_0000_i32).prop_map(
        |(words, fraction_lost, lost)| ReceptionReport {
            ssrc: words[0],
            fraction_lost,
            lost,
            highest: words[1],
            jitter: words[2],
            last_sender_report: words[3],
            delay: words[4],
        },
    )
}

fn read(bytes: &[u8]) -> Vec<RtcpPacket<'_>> {
    Rtcp::new(bytes).collect::<Result<_, _>>().unwrap()
}

proptest! {
    #[test]
    fn a_compound_comes_back(
        words in any::<[u32; 6]>(), ntp: u64,
        reports in prop::collection::vec(report(), 0..40),
        cname in "\\PC{0,300}", reason in "\\PC{0,20}",
        sources in prop::collection::vec(any::<u32>(), 0..40),
        lost in prop::collection::btree_set(any::<u16>(), 1..60),
    ) {
        let mut writer = RtcpWriter::new();
        writer.sender_report(words[0], ntp, words[1], (words[2], words[3]), &reports);
        writer.receiver_report(words[0], &reports);
        writer.source_description(words[0], &cname);
        writer.nack(words[4], words[5], lost.iter().copied());
        writer.picture_loss(words[4], words[5]);
        writer.goodbye(&sources, &reason);
        let bytes = writer.finish();
        prop_assert_eq!(bytes.len() % 4, 0);
        let packets = read(&bytes);
        prop_assert_eq!(packets.len(), 6);
        let kept: Vec<_> = reports.into_iter().take(COUNT_MAX).collect();
        match &packets[0] {
            RtcpPacket::SenderReport { ssrc, ntp: time, rtp, packets, bytes, reports } => {
                prop_assert_eq!([*ssrc, *rtp, *packets, *bytes], [words[0], words[1], words[2], words[3]]);
                prop_assert_eq!(*time, ntp);
                prop_assert_eq!(reports.iter().collect::<Vec<_>>(), kept.as_slice());
            }
            other => prop_assert!(false, "{:?}", other),
        }
        match &packets[1] {
            RtcpPacket::ReceiverReport { ssrc, reports } => {
                prop_assert_eq!(*ssrc, words[0]);
                prop_assert_eq!(reports.iter().collect::<Vec<_>>(), kept);
            }
            other => prop_assert!(false, "{:?}", other),
        }
        match &packets[2] {
            RtcpPacket::SourceDescription { ssrc, cname: name } => {
                prop_assert_eq!(*ssrc, words[0]);
                prop_assert!(cname.as_bytes().starts_with(name) && cname.len() - name.len() <= cname.len().saturating_sub(252));
            }
            other => prop_assert!(false, "{:?}", other),
        }
        match &packets[3] {
            RtcpPacket::Nack { lost: asked, .. } => {
                prop_assert_eq!(asked.iter().collect::<Vec<_>>(), lost.into_iter().collect::<Vec<_>>());
            }
            other => prop_assert!(false, "{:?}", other),
        }
        prop_assert_eq!(&packets[4], &RtcpPacket::PictureLoss { sender: words[4], media: words[5] });
        match &packets[5] {
            RtcpPacket::Goodbye { sources: gone, reason: why } => {
                prop_assert_eq!(gone.iter().collect::<Vec<_>>(), sources.into_iter().take(COUNT_MAX).collect::<Vec<_>>());
                // What is not said is not there; four padding bytes could not be told from an empty reason.
                prop_assert_eq!(why.unwrap_or_default(), reason.as_str());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn metrics_come_back(numbers in any::<[u16; 4]>(), bytes in any::<[u8; 5]>(), words in any::<[u32; 2]>()) {
        let metrics = VoipMetrics {
            sender: words[0], source: words[1], loss_rate: bytes[0], discard_rate: bytes[1],
            round_trip: numbers[0], end_system_delay: numbers[1], r_factor: bytes[2], mos_listening: bytes[3],
            mos_conversational: bytes[4], jitter_buffer: numbers[2], jitter_buffer_max: numbers[3],
        };
        let mut writer = RtcpWriter::new();
        writer.voip_metrics(&metrics);
        let bytes = writer.finish();
        prop_assert_eq!(read(&bytes), [RtcpPacket::VoipMetrics(metrics)]);
    }

    /// Cut anywhere, with any byte changed: read or refused, and never more packets than there is room for.
    #[test]
    fn garbage_is_read_or_refused(lost in prop::collection::vec(any::<u16>(), 0..9), cut: usize, at: usize, byte: u8) {
        let mut writer = RtcpWriter::new();
        writer.receiver_report(1, &[ReceptionReport::default(); 2]);
        writer.source_description(1, "name");
        writer.nack(1, 2, lost);
        writer.voip_metrics(&VoipMetrics::default());
        writer.goodbye(&[1, 2], "reason");
        let mut bytes = writer.finish().to_vec();
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(cut % (length + 1));
        let mut count = 0;
        for packet in Rtcp::new(&bytes) {
            count += 4;
            match packet {
                Ok(RtcpPacket::SenderReport { reports, .. } | RtcpPacket::ReceiverReport { reports, .. }) => prop_assert!(reports.iter().count() <= COUNT_MAX),
                Ok(RtcpPacket::Nack { lost, .. }) => prop_assert!(lost.iter().count() <= length * 5),
                Ok(RtcpPacket::Goodbye { sources, .. }) => prop_assert!(sources.iter().count() <= COUNT_MAX),
                _ => {}
            }
        }
        prop_assert!(count <= length);
    }
}

#[test]
fn what_does_not_fit_is_named() {
    fn first(bytes: &[u8]) -> Result<RtcpPacket<'_>, RtcpError> {
        Rtcp::new(bytes).next().unwrap()
    }
    assert_eq!(first(&[0x80, 200, 0]), Err(RtcpError::Truncated("header")));
    assert_eq!(first(&[0x00, 200, 0, 0]), Err(RtcpError::Version(0)));
    assert_eq!(first(&[0x80, 200, 0, 1]), Err(RtcpError::Truncated("body")));
    assert_eq!(
        first(&[0x80, 200, 0, 0]),
        Err(RtcpError::Truncated("fixed part"))
    );
    assert_eq!(
        first(&[0x81, 201, 0, 1, 0, 0, 0, 9]),
        Err(RtcpError::Truncated("report blocks"))
    );
    assert_eq!(
        first(&[0xA0, 201, 0, 1, 0, 0, 0, 0]),
        Err(RtcpError::Padding)
    );
    assert_eq!(
        first(&[0xA0, 201, 0, 1, 0, 0, 0, 5]),
        Err(RtcpError::Padding)
    );
    // Padding before the last packet.
    let early = [
        0xA0, 201, 0, 2, 0, 0, 0, 9, 0, 0, 0, 4, 0x80, 201, 0, 1, 0, 0, 0, 9,
    ];
    assert_eq!(first(&early), Err(RtcpError::Padding));
    assert!(first(&early[..12]).is_ok());
    // After an error there is nothing more.
    assert_eq!(Rtcp::new(&[0x00; 40]).count(), 1);
}
