//! Packets of RTP, from a peer with the keys and from anybody without them.

use bytes::{Bytes, BytesMut};
use session_voice::{
    EngineConfig, MediaOutput, PayloadType, Protection, RtpHeader, RtpPacket, SrtpMaster,
    SrtpProfile, VoiceEngine,
};
use std::time::{Duration, Instant};

/// Packets in one input at most.
const PACKETS_MAX: usize = 256;

/// The first byte says when things happen; packets follow, each behind its length.
pub fn rtp(data: &[u8]) {
    let Some((&pace, rest)) = data.split_first() else {
        return;
    };
    check_packet(rest);
    let packets = pieces(rest);
    hear(&packets, pace);
    hear_nothing(&packets, pace);
}

/// What follows a length of one byte, as far as there is any.
pub(crate) fn pieces(mut rest: &[u8]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    while let Some((&length, behind)) = rest.split_first()
        && pieces.len() < PACKETS_MAX
    {
        let (piece, after) = behind.split_at(behind.len().min(length.into()));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces
}

/// What was read can be written, and is then the same.
fn check_packet(bytes: &[u8]) {
    let Ok(packet) = RtpPacket::parse(bytes) else {
        return;
    };
    let contributors: Vec<u32> = packet.contributors().collect();
    let extensions: Vec<(u8, &[u8])> = packet.extensions().collect();
    for (id, data) in &extensions {
        assert!(*id != 0 && packet.extension(*id).is_some() && data.len() <= 255);
    }
    let header = RtpHeader {
        marker: packet.marker(),
        payload_type: packet.payload_type(),
        sequence: packet.sequence(),
        timestamp: packet.timestamp(),
        ssrc: packet.ssrc(),
        contributors: &contributors,
        extensions: &extensions,
    };
    let mut written = BytesMut::new();
    header.write(&mut written);
    written.extend_from_slice(packet.payload());
    let again = RtpPacket::parse(&written).expect("what was written can be read");
    assert_eq!(again.payload(), packet.payload());
    assert_eq!(again.extensions().collect::<Vec<_>>(), extensions);
    assert_eq!(again.contributors().collect::<Vec<_>>(), contributors);
    assert_eq!(
        (again.marker(), again.payload_type(), again.sequence()),
        (packet.marker(), packet.payload_type(), packet.sequence())
    );
    assert_eq!(
        (again.timestamp(), again.ssrc()),
        (packet.timestamp(), packet.ssrc())
    );
}

/// A call in the codecs that need nothing, whose peer sends this.
pub(crate) fn engine(protection: Protection, now: Instant) -> VoiceEngine {
    let ids = [0, 8, 13];
    let mut agreed: Vec<PayloadType> = ids.into_iter().filter_map(PayloadType::of_id).collect();
    agreed.push(PayloadType::new(101, "telephone-event", 8_000));
    let config = EngineConfig::new(agreed, "name");
    VoiceEngine::new(&config, protection, [7; 16], now).expect("G.711 is always there")
}

/// Whoever has the keys may say anything: the sound stays within its bounds, and time goes on.
fn hear(packets: &[Bytes], pace: u8) {
    let mut now = Instant::now();
    let mut engine = engine(Protection::Plain, now);
    let mut sound = [0.0; 80];
    let mut taken = 0;
    for packet in packets {
        taken += u64::from(engine.handle_rtp(packet.clone(), now).is_ok());
        play(&mut engine, &mut sound, now);
        assert!(sound.iter().all(|s| s.is_finite() && s.abs() <= 1.5));
        now += Duration::from_millis(u64::from(pace));
    }
    let stats = engine.stats(now).media;
    assert!(stats.received <= taken);
    assert_eq!(taken + stats.refused, packets.len() as u64);
}

/// Whoever has no keys is not heard at all.
fn hear_nothing(packets: &[Bytes], pace: u8) {
    let key = |byte| SrtpMaster::new(SrtpProfile::AeadAes128Gcm, &[byte; 16], &[byte; 12]);
    let (Ok(ours), Ok(theirs)) = (key(1), key(2)) else {
        return;
    };
    let mut now = Instant::now();
    let mut engine = engine(Protection::Srtp { ours, theirs }, now);
    let mut sound = [0.0; 80];
    for packet in packets {
        assert!(engine.handle_rtp(packet.clone(), now).is_err());
        assert!(engine.handle_rtcp(packet.clone(), now).is_err());
        play(&mut engine, &mut sound, now);
        assert!(sound.iter().all(|s| *s == 0.0), "silence");
        now += Duration::from_millis(u64::from(pace));
    }
}

/// Ten milliseconds.
pub(crate) fn play(engine: &mut VoiceEngine, sound: &mut [f32], now: Instant) {
    engine.record(&[0.1; 80], now);
    engine.play(sound, now);
    if engine.poll_timeout().is_some_and(|at| at <= now) {
        engine.handle_timeout(now);
    }
    let mut outputs = 0;
    while let Some(MediaOutput::Rtp(packet) | MediaOutput::Rtcp(packet)) = engine.poll_output() {
        assert!(packet.len() <= 1_500);
        outputs += 1;
        assert!(outputs <= 100, "outputs without end");
    }
}
