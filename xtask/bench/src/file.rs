//! Files between two of ours, against what others carry a file with: whole paths, from a client's write to another's read.

pub(crate) mod plain;
pub(crate) mod sides;

use crate::Figure;
use session_core::{ChannelLayer, SessionManager};
use session_file::TunnelConfig;
use sides::Sides;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    quic::{Config, Identity, QuicLayer},
};

pub(crate) const FIGURES: &[Figure] = &[("file.quic", quic)];

/// Bytes that each run carries: 1 GiB, or what `BENCH_FILE_MIB` says.
pub(crate) fn bytes() -> u64 {
    let mib = std::env::var("BENCH_FILE_MIB").ok();
    mib.and_then(|mib| mib.parse().ok()).unwrap_or(1_024) << 20
}

/// Runs of each, in turn.
const RUNS: usize = 5;

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
        let layer = layer();
        let add = |manager: &mut SessionManager| {
            let ice = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
            manager
                .add_transport(IceTransportFactory::new(ice))
                .expect("the first of its kind");
            TunnelConfig::new(layer.clone())
        };
        ours.push(Sides::new(add).run(bytes));
        peer.push(plain::quinn(bytes));
    }
    report(name, "quinn", bytes, ours, peer);
}

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
