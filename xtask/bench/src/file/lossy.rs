//! Files over a link of 100 Mbit/s with a round trip of 50 ms, and losses.

use super::{
    data_channels, ends,
    ends::{End, Wire},
    ice, layer, median, ndc, rtc, solo,
};
use crate::link::{Conditions, HOSTS, Link};
use rustix::net::sockopt::set_tcp_congestion;
use session_core::ChannelLayer;
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};
use transport_p2p::sctp::DataChannelConfig;

/// Bytes that a run carries, and one of those who need very long.
const BYTES: u64 = 64 << 20;
const FEW_BYTES: u64 = 4 << 20;
/// Runs of each, in turn.
const RUNS: usize = 3;
const LOSS: f64 = 0.01;

/// What two of ours use, against TCP with BBR.
pub(super) fn lossy(name: &str) {
    against_tcp(name, &layer(), LOSS, "bbr");
}

/// The same with data channels.
pub(super) fn lossy_sctp(name: &str) {
    let layer = data_channels(DataChannelConfig::default());
    against_tcp(name, &layer, LOSS, "bbr");
}

/// What two of ours use, without loss, against TCP with CUBIC.
pub(super) fn clean(name: &str) {
    against_tcp(name, &layer(), 0.0, "cubic");
}

/// The same with data channels.
pub(super) fn clean_sctp(name: &str) {
    let layer = data_channels(DataChannelConfig::default());
    against_tcp(name, &layer, 0.0, "cubic");
}

fn against_tcp(name: &str, layer: &Arc<dyn ChannelLayer>, loss: f64, control: &'static str) {
    let link = match Link::new(Conditions::usual(loss)) {
        Ok(link) => Arc::new(link),
        Err(why) => return println!("check {name} skipped: {why}"),
    };
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(rate(BYTES, ice(layer, Some(&link)).run(BYTES).wall));
        match tcp(&link, control) {
            Ok(time) => peer.push(rate(BYTES, time)),
            Err(why) => return println!("check {name} skipped: TCP with {control}: {why}"),
        }
    }
    report(name, ours, peer, &format!("TCP-{control}"));
}

/// Ours into stock rtc, against rtc into rtc.
pub(super) fn into_rtc(name: &str) {
    into(name, rtc::receive, rtc::send, "rtc");
}

/// Ours into libdatachannel, against libdatachannel into itself.
pub(super) fn into_ndc(name: &str) {
    if let Err(why) = ndc::prepare() {
        return println!("check {name} skipped: {why}");
    }
    into(name, ndc::receive, ndc::send, "libdatachannel");
}

fn into(name: &str, receiver: End, sender: End, peer_is: &str) {
    let link = match Link::new(Conditions::usual(LOSS)) {
        Ok(link) => Arc::new(link),
        Err(why) => return println!("check {name} skipped: {why}"),
    };
    let ours: End = |wire: &Wire, bytes| solo::send(wire, bytes);
    let (mut ours_into, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let took = ends::run([ours, receiver], Some(&link), BYTES / 2);
        ours_into.push(rate(BYTES / 2, took));
        let took = ends::run([sender, receiver], Some(&link), FEW_BYTES);
        peer.push(rate(FEW_BYTES, took));
    }
    report(name, ours_into, peer, peer_is);
}

/// One stream of TCP, from the first byte written to the last that is read.
fn tcp(link: &Link, control: &'static str) -> Result<Duration, String> {
    let listening = link.run(1, || TcpListener::bind((HOSTS[1], 0)));
    let listener = listening.join().map_err(|_| "a thread ended")?;
    let listener = listener.map_err(|why| why.to_string())?;
    let address = listener.local_addr().map_err(|why| why.to_string())?;
    let sending = link.run(0, move || -> std::io::Result<Instant> {
        let mut stream = TcpStream::connect(address)?;
        set_tcp_congestion(&stream, control)?;
        let begun = Instant::now();
        let piece = vec![0xA5; 256 * 1024];
        for _ in 0..BYTES / piece.len() as u64 {
            stream.write_all(&piece)?;
        }
        Ok(begun)
    });
    // A sender that fails before it connects would leave us waiting.
    listener
        .set_nonblocking(true)
        .map_err(|why| why.to_string())?;
    let mut stream = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(_) if sending.is_finished() => return Err("no connection".to_owned()),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    stream
        .set_nonblocking(false)
        .map_err(|why| why.to_string())?;
    let mut piece = vec![0; 256 * 1024];
    let mut received = 0;
    while received < BYTES {
        match stream.read(&mut piece).map_err(|why| why.to_string())? {
            0 => break,
            size => received += size as u64,
        }
    }
    let ended = Instant::now();
    let begun = sending.join().map_err(|_| "a thread ended")?;
    let begun = begun.map_err(|why| why.to_string())?;
    Ok(ended.saturating_duration_since(begun))
}

fn rate(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / time.as_secs_f64()
}

fn report(name: &str, ours: Vec<f64>, peer: Vec<f64>, peer_is: &str) {
    let (ours, peer) = (median(ours), median(peer));
    println!(
        "bench {name} ours={ours:.2}MiB/s peer={peer:.2}MiB/s ratio={:.2} peer_is={peer_is}",
        ours / peer
    );
}
