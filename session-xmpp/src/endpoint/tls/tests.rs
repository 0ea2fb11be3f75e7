use super::*;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};

/// A server that echoes one line, and whoever trusts it.
async fn server(name: &str) -> (SocketAddr, Trust) {
    let certified = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let certificate = certified.cert.der().clone();
    let mut config = ServerConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"other".to_vec(), b"stun.turn".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let mut line = [0; 5];
            let _ = stream.read_exact(&mut line).await;
            let _ = stream.write_all(&line).await;
            let _ = stream.shutdown().await;
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (address, Trust::new(Some(trusting.into())))
}

fn target(address: SocketAddr, name: &str) -> StreamTarget {
    let tls = TlsTarget {
        server_name: name.into(),
        alpn: vec!["stun.turn".into()],
    };
    StreamTarget {
        tls: Some(tls),
        ..StreamTarget::new(address)
    }
}

#[tokio::test]
async fn a_trusted_server_is_talked_to() {
    let (address, trust) = server("turn.example").await;
    let (connection, local) = connect(&target(address, "turn.example"), &trust)
        .await
        .unwrap();
    assert_eq!(local.ip(), address.ip());
    let Connection::Tls(mut stream) = connection else {
        panic!("a connection without TLS")
    };
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"stun.turn"[..]));
    stream.write_all(b"hello").await.unwrap();
    let mut line = [0; 5];
    stream.read_exact(&mut line).await.unwrap();
    assert_eq!(&line, b"hello");
}

#[tokio::test]
async fn nobody_else_is_talked_to() {
    let (address, trust) = server("turn.example").await;
    for (name, trust) in [
        ("other.example", &trust),
        ("turn.example", &Trust::default()),
        ("", &trust),
    ] {
        let result = connect(&target(address, name), trust).await;
        assert!(result.is_err(), "{name:?}");
    }
}

#[tokio::test]
async fn without_a_listener_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let plain = StreamTarget::new(address);
    let error = connect(&plain, &Trust::default()).await.err().unwrap();
    assert_eq!(error.what, "connect");
}
