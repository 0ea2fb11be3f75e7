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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};
use transport_p2p::sctp::DataChannelConfig;

/// Bytes that a run carries, and one of those who need very long.
const BYTES: u64 = 64 << 20;
const FEW_BYTES: u64 = 4 << 20;
/// Runs of each, in turn.
const RUNS: usize = 3;
const LOSS: f64 = 0.01;
/// What is written or read at once.
const PIECE: usize = 256 * 1024;
/// For how long another stream has the link for itself.
const ALONE: Duration = Duration::from_secs(3);

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

/// What two of ours use, without loss, beside one stream of TCP that was there before: what each gets of the link.
pub(super) fn beside_cubic(name: &str) {
    beside(name, "cubic");
}

/// The same beside BBR.
pub(super) fn beside_bbr(name: &str) {
    beside(name, "bbr");
}

fn beside(name: &str, control: &'static str) {
    let link = match Link::new(Conditions::usual(0.0)) {
        Ok(link) => Arc::new(link),
        Err(why) => return println!("check {name} skipped: {why}"),
    };
    let mut parts = Vec::new();
    for _ in 0..RUNS {
        let (received, over) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let [to, from] = match connect(&link, control) {
            Ok(ends) => ends,
            Err(why) => return println!("check {name} skipped: TCP with {control}: {why}"),
        };
        let writing = {
            let over = Arc::clone(&over);
            thread::spawn(move || write(to, || !over.load(Relaxed)))
        };
        let reading = {
            let received = Arc::clone(&received);
            thread::spawn(move || {
                read(from, |size| {
                    received.fetch_add(size, Relaxed);
                })
            })
        };
        thread::sleep(ALONE);
        let (begun, before) = (Instant::now(), received.load(Relaxed));
        let ours = rate(BYTES, ice(&layer(), Some(&link)).run(BYTES).wall);
        let theirs = rate(received.load(Relaxed) - before, begun.elapsed());
        over.store(true, Relaxed);
        let ends = [writing.join(), reading.join()];
        assert!(ends.iter().all(|end| matches!(end, Ok(Ok(())))), "{ends:?}");
        parts.push(100.0 * ours / (ours + theirs));
    }
    let ours = median(parts);
    let peer = 100.0 - ours;
    println!(
        "bench {name} ours={ours:.0}% peer={peer:.0}% ratio={:.2} reach=25%-75% peer_is=TCP-{control}-beside-it",
        ours / peer
    );
}

/// One stream of TCP, from the first byte written to the last that is read.
fn tcp(link: &Link, control: &'static str) -> Result<Duration, String> {
    let [to, from] = connect(link, control)?;
    let begun = Instant::now();
    let mut left = BYTES;
    let writing = thread::spawn(move || {
        write(to, || {
            left = left.saturating_sub(PIECE as u64);
            left > 0
        })
    });
    let mut received = 0;
    read(from, |size| received += size).map_err(|why| why.to_string())?;
    let took = begun.elapsed();
    let written = writing.join().map_err(|_| "a thread ended")?;
    written.map_err(|why| why.to_string())?;
    match received {
        BYTES => Ok(took),
        _ => Err(format!("{received} bytes came")),
    }
}

/// A connection between the hosts: the end that sends, with this congestion control, and the other.
fn connect(link: &Link, control: &'static str) -> Result<[TcpStream; 2], String> {
    let ended = |_| "a thread ended".to_owned();
    let told = |why: std::io::Error| why.to_string();
    let listener = link.run(1, || TcpListener::bind((HOSTS[1], 0)));
    let listener = listener.join().map_err(ended)?.map_err(told)?;
    let address = listener.local_addr().map_err(told)?;
    let to = link.run(0, move || {
        let stream = TcpStream::connect(address)?;
        set_tcp_congestion(&stream, control)?;
        Ok(stream)
    });
    let to = to.join().map_err(ended)?.map_err(told)?;
    let (from, _) = listener.accept().map_err(told)?;
    Ok([to, from])
}

/// Writes piece after piece as long as there is more.
fn write(mut stream: TcpStream, mut more: impl FnMut() -> bool) -> std::io::Result<()> {
    let piece = vec![0xA5; PIECE];
    loop {
        stream.write_all(&piece)?;
        if !more() {
            return Ok(());
        }
    }
}

/// Reads to the end, and tells how much each time.
fn read(mut stream: TcpStream, mut came: impl FnMut(u64)) -> std::io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            size => came(size as u64),
        }
    }
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
