//! Our side of the matrix: what an application does that calls and sends files, and goes by what the peer says of itself.

use bytes::Bytes;
use session_core::{
    Dialect, Element, SessionManager, TransportContext, TransportError,
    testing::persona::{CallHabits, Dtls, Persona, Stranger, Wire},
};
use session_file::{FileClient, FileConfig};
use session_voice::{
    CallConfig, GoogleForm, JingleForm, Media, MediaPacket, PayloadType, RtpDescription,
    VoiceClient,
};
use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};
use transport_p2p::ice::{Companion, GoogleIceFactory, ICE_UDP, IceConfig, IceTransportFactory};
use transport_relay::{
    ibb::{self, Ibb},
    s5b::{self, S5b, S5bConfig},
};

const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
const GOOGLE_SESSION: &str = "http://www.google.com/session";
const JINGLE: &str = "urn:xmpp:jingle:1";
/// For stages without DTLS: the digest of a certificate that nobody has.
const FINGERPRINT: &str = "0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9:0A:1B:2C:3D:4E:5F:60:71:82:93:A4:B5:C6:D7:E8:F9";

/// What a peer's capabilities make us do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice {
    pub(super) dialect: &'static Dialect,
    pub(super) call_transport: &'static str,
    pub(super) dtls: bool,
    pub(super) announces: bool,
}

impl Choice {
    pub(super) fn of(features: &[&str]) -> Self {
        let has = |feature: &str| features.contains(&feature);
        Self {
            dialect: match has(JINGLE) || !has(GOOGLE_SESSION) {
                true => Dialect::JINGLE,
                false => Dialect::GTALK_LATE,
            },
            call_transport: match has(ICE_UDP) {
                true => ICE_UDP,
                false => session_core::GOOGLE_P2P,
            },
            dtls: has(DTLS),
            announces: has(session_xmpp::jmi::JMI),
        }
    }
}

/// Adds fingerprints to ICE, and hears those of the peer.
struct Fingerprints;

impl Companion for Fingerprints {
    fn local(&self, context: &TransportContext) -> Vec<Element> {
        let setup = match context.role {
            session_core::Role::Initiator => "actpass",
            session_core::Role::Responder => "active",
        };
        let fingerprint = Element::new(DTLS, "fingerprint")
            .with("hash", "sha-256")
            .with("setup", setup)
            .text(FINGERPRINT);
        vec![fingerprint]
    }

    fn remote(&self, _: &TransportContext, _: Vec<Element>) -> Result<(), TransportError> {
        Ok(())
    }
}

/// Whether calls go in Google's form.
pub(super) fn is_google(persona: &Persona) -> bool {
    persona
        .call
        .is_some_and(|habits| habits.wire == Wire::GoogleSession)
}

fn audio() -> RtpDescription {
    let mut audio = RtpDescription::new(Media::Audio);
    audio.payload_types = vec![PayloadType::opus(111)];
    audio
        .payload_types
        .extend([9, 0, 8].into_iter().filter_map(PayloadType::of_id));
    audio.rtcp_mux = true;
    audio
}

/// What is announced of a call of ours.
pub(super) fn announcement() -> Element {
    Element::new(session_voice::RTP, "description").with("media", "audio")
}

fn ice(address: IpAddr, dtls: bool) -> IceConfig {
    let mut config = IceConfig::new(vec![address]);
    if dtls {
        config.companion = Some(Arc::new(Fingerprints));
    }
    config
}

fn s5b(address: IpAddr, works: bool) -> S5b {
    let listen = works.then_some(address).into_iter().collect();
    S5b::new(S5bConfig {
        listen,
        ..S5bConfig::default()
    })
}

/// Registers everything.
pub(super) fn equip(
    manager: &mut SessionManager,
    persona: &Persona,
    address: IpAddr,
    s5b_works: bool,
    packets: &Arc<Mutex<Vec<Bytes>>>,
) {
    let choice = Choice::of(persona.features);
    let mut config = CallConfig::new(audio());
    config.dtls = choice.dtls;
    config.allow_plain = !choice.dtls;
    let mut google = ice(address, false);
    google.remote_lite = false;
    let mut direct = ice(address, choice.dtls);
    direct.remote_lite = persona.call.is_some_and(|habits| habits.lite);
    let sink = |packets: &Arc<Mutex<Vec<Bytes>>>| {
        let packets = packets.clone();
        move |_, packet, _| {
            let (MediaPacket::Rtp(bytes) | MediaPacket::Rtcp(bytes) | MediaPacket::Other(bytes)) =
                packet;
            if let Ok(mut packets) = packets.lock() {
                packets.push(bytes);
            }
        }
    };
    let mut calls = VoiceClient::<JingleForm>::new(config.clone());
    calls.set_sink(sink(packets));
    let mut old_calls = VoiceClient::<GoogleForm>::new(config);
    old_calls.set_sink(sink(packets));
    let added = [
        manager.add_transport(IceTransportFactory::new(direct)),
        manager.add_transport(GoogleIceFactory::new(google).with_jingle(true)),
        manager.add_transport(s5b(address, s5b_works)),
        manager.add_transport(Ibb::new()),
        manager.add_client(calls),
        manager.add_client(old_calls),
        manager.add_client(FileClient::new(FileConfig::default())),
    ];
    debug_assert!(added.iter().all(Result::is_ok), "{added:?}");
}

/// The data of a stranger.
pub(super) fn equip_stranger(
    stranger: Stranger,
    persona: &Persona,
    address: IpAddr,
    s5b_works: bool,
) -> Stranger {
    let habits: Option<CallHabits> = persona.call;
    let mut config = ice(address, false);
    config.lite = habits.is_some_and(|habits| habits.lite);
    debug_assert!(habits.is_none_or(|habits| habits.dtls != Dtls::Required || !habits.lite));
    stranger
        .with_transport(IceTransportFactory::new(config))
        .with_transport(GoogleIceFactory::new(ice(address, false)).with_jingle(true))
        .with_transport(s5b(address, s5b_works))
        .with_transport(Ibb::new())
}

/// The transports of a file, in our order.
pub(super) const FILE_TRANSPORTS: [&str; 2] = [s5b::NAMESPACE, ibb::NAMESPACE];
