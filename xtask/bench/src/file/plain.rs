//! What others do: quinn by itself, with its defaults, and TCP by itself.

use super::Run;
use bytes::Bytes;
use cpu_time::ProcessTime;
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::{RootCertStore, pki_types::PrivatePkcs8KeyDer};
use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    time::Instant,
};
use tokio::runtime::Builder;

const PIECE: usize = 256 * 1024;
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// One stream of QUIC over loopback, each side on a thread of its own.
pub(super) fn quinn(bytes: u64) -> Run {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::with_single_cert(vec![certificate.clone()], key.into())
        .expect("a certificate and its key");
    let runtime = || Builder::new_current_thread().enable_all().build();
    let (tell, told) = std::sync::mpsc::channel();
    let receiving = std::thread::spawn(move || {
        let runtime = runtime().expect("a runtime");
        runtime.block_on(async {
            let endpoint = Endpoint::server(server, LOOPBACK).expect("a socket");
            tell.send(endpoint.local_addr().expect("bound"))
                .expect("awaited");
            let connection = endpoint.accept().await.expect("a caller");
            let connection = connection.await.expect("a connection");
            let mut stream = connection.accept_uni().await.expect("a stream");
            let mut received = 0;
            while let Some(chunk) = stream.read_chunk(usize::MAX, true).await.expect("bytes") {
                received += chunk.bytes.len() as u64;
            }
            assert_eq!(received, bytes, "everything arrives");
            let ended = (Instant::now(), ProcessTime::now());
            connection.closed().await;
            ended
        })
    });
    let address = told.recv().expect("a socket");
    let runtime = runtime().expect("a runtime");
    let (begun, cpu) = runtime.block_on(async {
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let mut endpoint = Endpoint::client(LOOPBACK).expect("a socket");
        let config = ClientConfig::with_root_certificates(Arc::new(roots)).expect("a config");
        endpoint.set_default_client_config(config);
        let connection = endpoint.connect(address, "localhost").expect("an address");
        let connection = connection.await.expect("a connection");
        let mut stream = connection.open_uni().await.expect("a stream");
        let piece = Bytes::from(vec![0xA5; PIECE]);
        let begun = (Instant::now(), ProcessTime::now());
        let mut left = bytes;
        while left > 0 {
            let size = (PIECE as u64).min(left) as usize;
            stream
                .write_chunk(piece.slice(..size))
                .await
                .expect("a stream");
            left -= size as u64;
        }
        stream.finish().expect("a stream");
        stream.stopped().await.expect("everything acknowledged");
        connection.close(0u32.into(), b"");
        endpoint.wait_idle().await;
        begun
    });
    let ended = receiving
        .join()
        .expect("it panics only when bytes are missing");
    Run {
        wall: ended.0 - begun,
        cpu: ended.1.duration_since(cpu),
    }
}

/// One connection of TCP over loopback, copied from memory and into it by blocking calls, each side on a thread of its own.
pub(crate) fn tcp(bytes: u64) -> Run {
    let listener = TcpListener::bind(LOOPBACK).expect("a port");
    let address = listener.local_addr().expect("bound");
    let receiving = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a caller");
        let (mut received, mut buffer) = (0, vec![0; PIECE]);
        loop {
            match connection.read(&mut buffer).expect("bytes") {
                0 => break,
                count => received += count as u64,
            }
        }
        assert_eq!(received, bytes, "everything arrives");
        (Instant::now(), ProcessTime::now())
    });
    let mut connection = TcpStream::connect(address).expect("a listener");
    let piece = vec![0xA5; PIECE];
    let (begun, cpu) = (Instant::now(), ProcessTime::now());
    let mut left = bytes;
    while left > 0 {
        let size = (PIECE as u64).min(left) as usize;
        connection.write_all(&piece[..size]).expect("a connection");
        left -= size as u64;
    }
    drop(connection);
    let ended = receiving
        .join()
        .expect("it panics only when bytes are missing");
    Run {
        wall: ended.0 - begun,
        cpu: ended.1.duration_since(cpu),
    }
}
