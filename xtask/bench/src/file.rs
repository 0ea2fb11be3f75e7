//! Files between two of ours, against what others carry a file with: whole paths, from a client's write to another's read.

mod ends;
mod lossy;
mod ndc;
mod open;
pub(crate) mod plain;
mod program;
mod rtc;
mod said;
pub(crate) mod sides;
mod solo;

use crate::{
    Figure,
    link::{HOSTS, Link},
};
use cpu_time::ProcessTime;
use session_core::{ChannelLayer, SessionManager};
use session_file::TunnelConfig;
use sides::Sides;
use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};
use transport_p2p::{
    dtls::{self, DtlsLayer},
    ice::{IceConfig, IceTransportFactory},
    quic::{Config, Identity, QuicLayer},
    sctp::{DataChannelConfig, DataChannelLayer},
};

pub(crate) use program::FIGURES as PROGRAM;

pub(crate) const FIGURES: &[Figure] = &[
    ("file.quic", quic),
    ("file.sctp", sctp),
    ("file.sctp_window", window),
    ("file.lossy", lossy::lossy),
    ("file.lossy_sctp", lossy::lossy_sctp),
    ("file.lossy_clean", lossy::clean),
    ("file.lossy_clean_sctp", lossy::clean_sctp),
    ("file.beside_cubic", lossy::beside_cubic),
    ("file.beside_bbr", lossy::beside_bbr),
    ("file.lossy_rtc", lossy::into_rtc),
    ("file.lossy_ndc", lossy::into_ndc),
    ("file.open", open::open),
    ("file.s5b", crate::relay::s5b),
];

/// Bytes that each run carries: 1 GiB, or what `BENCH_FILE_MIB` says.
pub(crate) fn bytes() -> u64 {
    let mib = std::env::var("BENCH_FILE_MIB").ok();
    mib.and_then(|mib| mib.parse().ok()).unwrap_or(1_024) << 20
}

/// Runs of each, in turn.
const RUNS: usize = 5;
/// And where two of ours are compared, which differ by less than runs do.
const PAIRS: usize = 11;

/// One run: how long it took, and the CPU time of the whole process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Run {
    fn rate(&self, bytes: u64) -> f64 {
        bytes as f64 / f64::from(1 << 20) / self.wall.as_secs_f64()
    }
}

/// A QUIC stream over an ICE path: endpoints, sockets and all, against quinn by itself.
fn quic(name: &str) {
    let bytes = bytes();
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(ice(&layer(), None).run(bytes));
        peer.push(plain::quinn(bytes));
    }
    report(name, "quinn", bytes, ours, peer);
}

/// A tunnel over ICE with this layer above it, on loopback or between the two hosts of a link.
fn ice(layer: &Arc<dyn ChannelLayer>, link: Option<&Arc<Link>>) -> Sides {
    let host = Cell::new(0);
    let add = |manager: &mut SessionManager| {
        let address = link.map_or(Ipv4Addr::LOCALHOST, |_| HOSTS[host.replace(1)]);
        let ice = IceConfig::new(vec![IpAddr::V4(address)]);
        // A program knows it, too.
        let mtu = link.map_or_else(loopback_mtu, |_| Some(crate::link::MTU));
        let mtu = mtu.map(|mtu| (IpAddr::V4(address), mtu));
        ice.interfaces.set_mtus(mtu.into_iter().collect());
        manager
            .add_transport(IceTransportFactory::new(ice))
            .expect("the first of its kind");
        TunnelConfig::new(layer.clone())
    };
    Sides::new(add).on(link)
}

fn loopback_mtu() -> Option<usize> {
    let said = std::fs::read_to_string("/sys/class/net/lo/mtu").ok()?;
    said.trim().parse().ok()
}

/// A data channel over DTLS and ICE, against stock rtc (webrtc-rs), which has ICE and a socket of its own.
fn sctp(name: &str) {
    let bytes = bytes();
    let layer = data_channels(DataChannelConfig::default());
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(ice(&layer, None).run(bytes));
        let cpu = ProcessTime::now();
        let wall = ends::run([rtc::send, rtc::receive], None, bytes);
        let cpu = cpu.elapsed();
        peer.push(Run { wall, cpu });
    }
    report(name, "rtc", bytes, ours, peer);
}

/// The same with windows of 8 MiB, against ours with 1 MiB.
fn window(name: &str) {
    let bytes = bytes();
    let layer = |window: usize| {
        let mut config = DataChannelConfig::default();
        config.association.receive_buffer = window;
        config.association.send_buffer = window;
        data_channels(config)
    };
    let layers = [layer(8 << 20), layer(1 << 20)];
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // By turns the first: a machine that slows down or speeds up favours neither.
        for turn in [pair % 2, 1 - pair % 2] {
            let runs = [&mut ours, &mut peer];
            runs[turn].push(ice(&layers[turn], None).run(bytes));
        }
    }
    report(name, "ours-with-1-MiB", bytes, ours, peer);
}

/// Our data channels, protected by DTLS.
fn data_channels(config: DataChannelConfig) -> Arc<dyn ChannelLayer> {
    let made =
        rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).expect("a certificate");
    let key = made.signing_key.serialize_der();
    let protection = DtlsLayer::data(dtls::Identity::new(made.cert.der(), &key));
    Arc::new(DataChannelLayer::new(Arc::new(protection), config))
}

/// What two of ours use.
fn layer() -> Arc<dyn ChannelLayer> {
    let made =
        rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).expect("a certificate");
    let key = made.signing_key.serialize_der();
    let identity = Identity::new(made.cert.der(), &key).expect("a certificate and its key");
    Arc::new(QuicLayer::new(identity, Config::default()))
}

pub(crate) fn report(name: &str, peer_is: &str, bytes: u64, ours: Vec<Run>, peer: Vec<Run>) {
    let gib = bytes as f64 / f64::from(1 << 30);
    let rates = |runs: &[Run]| median(runs.iter().map(|run| run.rate(bytes)).collect());
    let cpu = |runs: &[Run]| median(runs.iter().map(|run| run.cpu.as_secs_f64() / gib).collect());
    // Runs beside each other met the same machine.
    let pairs = ours.iter().zip(&peer);
    let ratios = pairs.map(|(a, b)| b.wall.as_secs_f64() / a.wall.as_secs_f64());
    println!(
        "bench {name} ours={:.0}MiB/s peer={:.0}MiB/s ratio={:.2} ours_cpu={:.2}s/GiB peer_cpu={:.2}s/GiB peer_is={peer_is}",
        rates(&ours),
        rates(&peer),
        median(ratios.collect()),
        cpu(&ours),
        cpu(&peer),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
