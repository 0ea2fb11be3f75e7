//! Our side of the matrix: what an application does that calls and sends files, and goes by what the peer says of itself.

use bytes::Bytes;
use session_core::{
    ChannelLayer, Dialect, Element, LayeredTransport, SessionManager, Transport, TransportContext,
    TransportFactory, TransportKind,
    testing::persona::{CallHabits, Dtls, Persona, Stranger, Wire},
};
use session_file::{FileClient, FileConfig};
use session_voice::{
    CallConfig, GoogleForm, JingleForm, Media, MediaPacket, PayloadType, RtpDescription,
    VoiceClient,
};
use std::{
    net::IpAddr,
    sync::{Arc, LazyLock, Mutex},
};
use transport_p2p::{
    dtls::{DtlsConfig, DtlsLayer, Identity, Versions},
    ice::{GoogleIceFactory, ICE_UDP, IceConfig, IceTransportFactory},
};
use transport_relay::{
    ibb::{self, Ibb},
    s5b::{self, S5b, S5bConfig},
};

const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
const GOOGLE_SESSION: &str = "http://www.google.com/session";
const JINGLE: &str = "urn:xmpp:jingle:1";

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

/// DTLS as others have it: 1.2, as in nearly all of WebRTC.
fn their_layer() -> DtlsLayer {
    DtlsLayer::srtp(THEIRS.clone()).with_config(DtlsConfig {
        versions: Versions::Dtls12,
        ..DtlsConfig::default()
    })
}

/// The certificates of both sides for all calls of this run: what is tried is what is made of them.
static OURS: LazyLock<Identity> = LazyLock::new(identity);
static THEIRS: LazyLock<Identity> = LazyLock::new(identity);

#[allow(
    clippy::expect_used,
    reason = "a certificate with the defaults of rcgen can be made"
)]
fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["call.invalid".to_owned()])
        .expect("names of ASCII and a key of P-256");
    Identity::new(made.cert.der(), &made.signing_key.serialize_der())
}

/// A transport with DTLS above each channel, as one: personas know no layers.
struct Sealed {
    below: IceTransportFactory,
    layer: Arc<dyn ChannelLayer>,
}

impl TransportFactory for Sealed {
    fn namespace(&self) -> &str {
        self.below.namespace()
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        let below = self.below.create(context);
        Box::new(LayeredTransport::new(below, &self.layer, context))
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

fn ice(address: IpAddr) -> IceConfig {
    IceConfig::new(vec![address])
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
    config.layer = Some(Arc::new(DtlsLayer::srtp(OURS.clone())));
    let mut google = ice(address);
    google.remote_lite = false;
    let mut direct = ice(address);
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
    let mut config = ice(address);
    config.lite = habits.is_some_and(|habits| habits.lite);
    debug_assert!(habits.is_none_or(|habits| habits.dtls != Dtls::Required || !habits.lite));
    let plain = IceTransportFactory::new(config);
    let sealed = |layer: DtlsLayer| Sealed {
        below: plain.clone(),
        layer: Arc::new(layer),
    };
    let stranger = match habits.map(|habits| habits.dtls) {
        Some(Dtls::Required) => stranger.with_transport(sealed(their_layer())),
        Some(Dtls::Offered) => stranger.with_transport(sealed(their_layer().optional())),
        Some(Dtls::Unknown) | None => stranger.with_transport(plain),
    };
    stranger
        .with_transport(GoogleIceFactory::new(ice(address)).with_jingle(true))
        .with_transport(s5b(address, s5b_works))
        .with_transport(Ibb::new())
}

/// The transports of a file, in our order.
pub(super) const FILE_TRANSPORTS: [&str; 2] = [s5b::NAMESPACE, ibb::NAMESPACE];
