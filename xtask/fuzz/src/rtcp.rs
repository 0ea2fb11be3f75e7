//! Compounds of RTCP.

use crate::rtp::{engine, pieces, play};
use session_voice::{Protection, ReceptionReport, Rtcp, RtcpPacket, RtcpWriter};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Reads `data` as one compound, and lets a call hear it in pieces.
pub fn rtcp(data: &[u8]) {
    let mut ended = false;
    for packet in Rtcp::new(data) {
        assert!(!ended, "nothing follows a mistake");
        match packet {
            Ok(packet) => check(&packet, data.len()),
            Err(_) => ended = true,
        }
    }
    let mut now = Instant::now();
    let mut engine = engine(Protection::Plain, now);
    let mut sound = [0.0; 80];
    for piece in pieces(data) {
        let before = engine.stats(now).media;
        let taken = engine.handle_rtcp(piece, now).is_ok();
        let after = engine.stats(now).media;
        assert_eq!(after.refused, before.refused + u64::from(!taken));
        assert!(
            taken || after.loss_there == before.loss_there,
            "nothing has changed"
        );
        let share = |share: f64| (0.0..=1.0).contains(&share);
        assert!(after.loss_there.is_none_or(share));
        assert!(
            after
                .burst_there
                .is_none_or(|burst| burst.is_finite() && burst >= 0.0)
        );
        play(&mut engine, &mut sound, now);
        now += Duration::from_millis(20);
    }
}

/// What was read is bounded by what was there, and can be written again where we write such things.
fn check(packet: &RtcpPacket<'_>, bytes: usize) {
    let mut writer = RtcpWriter::new();
    match packet {
        RtcpPacket::SenderReport { reports, .. } | RtcpPacket::ReceiverReport { reports, .. } => {
            let reports: Vec<ReceptionReport> = reports.iter().collect();
            assert!(reports.len() <= 31 && reports.len() * 24 <= bytes);
            writer.receiver_report(1, &reports);
            let written = writer.finish();
            let Some(Ok(RtcpPacket::ReceiverReport { reports: again, .. })) =
                Rtcp::new(&written).next()
            else {
                panic!("what was written can be read")
            };
            assert_eq!(again.iter().collect::<Vec<_>>(), reports);
        }
        RtcpPacket::Nack {
            lost,
            sender,
            media,
        } => {
            let lost: BTreeSet<u16> = lost.iter().collect();
            assert!(lost.len() <= bytes * 5);
            writer.nack(*sender, *media, lost.iter().copied());
            let written = writer.finish();
            let mut again = BTreeSet::new();
            for packet in Rtcp::new(&written) {
                let Ok(RtcpPacket::Nack { lost, .. }) = packet else {
                    panic!("what was written can be read")
                };
                again.extend(lost.iter());
            }
            assert!(lost.is_empty() || again == lost);
        }
        RtcpPacket::Goodbye { sources, reason } => {
            assert!(sources.iter().count() <= 31);
            assert!(reason.is_none_or(|reason| reason.len() <= 255));
        }
        RtcpPacket::LossRuns(runs) => {
            let count = runs.count();
            assert!(runs.iter().count() <= usize::from(u16::MAX));
            assert!(count.runs <= count.lost);
        }
        RtcpPacket::SourceDescription { cname, .. } => assert!(cname.len() <= 255),
        _ => {}
    }
}
