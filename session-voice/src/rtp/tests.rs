use super::*;
use proptest::prelude::*;
use std::time::Duration;

fn written(header: &RtpHeader<'_>, payload: &[u8]) -> Vec<u8> {
    let mut buffer = BytesMut::new();
    header.write(&mut buffer);
    buffer.put_slice(payload);
    buffer.to_vec()
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        flags in any::<(bool, u8, u16, u32, u32)>(),
        contributors in prop::collection::vec(any::<u32>(), 0..16),
        extensions in prop::collection::vec((1..=255_u8, prop::collection::vec(any::<u8>(), 0..40)), 0..5),
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let parts: Vec<_> = extensions.iter().map(|(id, data)| (*id, &data[..])).collect();
        let header = RtpHeader {
            marker: flags.0,
            payload_type: flags.1 & 0x7F,
            sequence: flags.2,
            timestamp: flags.3,
            ssrc: flags.4,
            contributors: &contributors,
            extensions: &parts,
        };
        let bytes = written(&header, &payload);
        let packet = RtpPacket::parse(&bytes).unwrap();
        prop_assert_eq!(
            (packet.marker(), packet.payload_type(), packet.sequence(), packet.timestamp(), packet.ssrc()),
            (header.marker, header.payload_type, header.sequence, header.timestamp, header.ssrc)
        );
        prop_assert_eq!(packet.contributors().collect::<Vec<_>>(), contributors);
        prop_assert_eq!(packet.extensions().collect::<Vec<_>>(), parts);
        prop_assert_eq!(packet.payload(), &payload[..]);
    }

    #[test]
    fn garbage_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), version: bool) {
        let mut bytes = bytes;
        if version && let Some(first) = bytes.first_mut() {
            *first = 0x80 | *first & 0x3F;
        }
        if let Ok(packet) = RtpPacket::parse(&bytes) {
            prop_assert!(packet.header_bytes() + packet.payload().len() <= bytes.len());
            prop_assert!(packet.extensions().count() <= bytes.len());
            let _ = packet.contributors().count();
        }
    }

    /// Whatever is lost or late by less than half a round, rounds are counted right.
    #[test]
    fn rounds_are_counted(start: u16, steps in prop::collection::vec(-2_000..20_000_i64, 1..100)) {
        let mut extender = SequenceExtender::default();
        let mut truth = i64::from(start) + 65_536;
        let mut highest = truth;
        let offset = extender.extend(truth as u16) as i64 - truth;
        for step in steps {
            truth = (highest + step).max(65_536);
            prop_assert_eq!(extender.extend(truth as u16) as i64 - truth, if truth + offset < 0 { continue } else { offset });
            highest = highest.max(truth);
        }
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let header = |first: u8, rest: usize| {
        let mut bytes = vec![0; rest + 1];
        bytes[0] = first;
        bytes
    };
    let error = |bytes: &[u8]| RtpPacket::parse(bytes).unwrap_err();
    assert_eq!(error(&[]), RtpError::Truncated("header"));
    assert_eq!(error(&header(0x40, 20)), RtpError::Version(1));
    assert_eq!(error(&header(0x80, 10)), RtpError::Truncated("header"));
    assert_eq!(
        error(&header(0x81, 11)),
        RtpError::Truncated("contributing sources")
    );
    assert_eq!(error(&header(0x90, 14)), RtpError::Truncated("extension"));
    assert_eq!(error(&header(0xA0, 11)), RtpError::Padding(0));
    let mut padded = header(0xA0, 14);
    assert_eq!(error(&padded), RtpError::Padding(0));
    padded[14] = 4;
    assert_eq!(error(&padded), RtpError::Padding(4));
    padded[14] = 3;
    assert_eq!(RtpPacket::parse(&padded).unwrap().payload(), b"");
    let mut long = header(0x90, 15);
    long[15] = 1;
    assert_eq!(error(&long), RtpError::Truncated("extension"));
}

#[test]
fn rtcp_is_told_by_its_type() {
    assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x81, 206]) && is_rtcp(&[0x80, 192]));
    assert!(!is_rtcp(&[0x80, 111]) && !is_rtcp(&[0x80, 0x80 | 111]) && !is_rtcp(&[0x80]));
}

#[test]
fn loss_and_jitter_by_the_book() {
    let start = session_core::testing::epoch();
    let mut reception = Reception::new(8_000);
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    // Ten packets of 20 ms, of which two are lost, with a wrap in between.
    for number in (0..10_u16).filter(|number| *number != 3 && *number != 7) {
        reception.on_packet(
            65_530_u16.wrapping_add(number),
            u32::from(number) * 160,
            at(u64::from(number) * 20),
        );
    }
    let report = reception.report(9, at(200));
    assert_eq!((report.lost, report.fraction_lost), (2, 51));
    assert_eq!(report.highest, 65_536 + 3);
    assert_eq!(report.jitter, 0);
    // A repetition and a late one: nothing lost in this interval.
    reception.on_packet(4, 1_600, at(200));
    reception.on_packet(4, 1_600, at(201));
    let report = reception.report(9, at(210));
    assert_eq!((report.lost, report.fraction_lost), (1, 0));
    // One that is 16 ms late: a sixteenth of 128 units.
    reception.on_packet(5, 1_760, at(236));
    assert_eq!(reception.report(9, at(240)).jitter, 8);
    assert_eq!(reception.jitter(), Duration::from_millis(1));
}

#[test]
fn the_round_trip_is_what_is_left_of_the_delay() {
    let mut reception = Reception::new(48_000);
    let now = session_core::testing::epoch();
    // A report of ours at 10 s, read by the peer, who answers half a second later.
    reception.on_sender_report(10 << 32, now);
    let report = reception.report(1, now + Duration::from_millis(500));
    assert_eq!(
        (report.last_sender_report, report.delay),
        (10 << 16, 1 << 15)
    );
    let back = (10_u64 << 32) + (3 << 30);
    assert_eq!(report.round_trip(back), Some(Duration::from_millis(250)));
    assert_eq!(report.round_trip(10 << 32), None);
    assert_eq!(ReceptionReport::default().round_trip(back), None);
}
