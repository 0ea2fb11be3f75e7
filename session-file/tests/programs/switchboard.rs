//! The server that `cargo xtask switchboard` runs, in a thread of its own, behind a door that can be shut.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::wildcard_enum_match_arm,
    reason = "it is shared with the tool that runs it"
)]

#[path = "../../../xtask/src/switchboard/auth.rs"]
mod auth;
#[path = "../../../xtask/src/switchboard/connection.rs"]
mod connection;
#[path = "../../../xtask/src/switchboard/router.rs"]
mod router;
#[path = "../../../xtask/src/switchboard/server.rs"]
mod server;

use server::{Config, Relay, Server};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

/// A server with the accounts `alice`, `bob` and `carol`, whose password is "secret".
pub(crate) struct Running {
    runtime: Runtime,
    /// Behind the door.
    inner: u16,
    /// The door's port, the same whenever it is open.
    port: Arc<AtomicU16>,
    door: Option<tokio::task::JoinHandle<()>>,
    pub(crate) authority: String,
}

impl Running {
    /// With relays, as HOST, PORT and secret.
    pub(crate) fn new(relays: &[(&str, u16, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let relay = |(host, port, secret): &(&str, u16, &str)| Relay {
            host: (*host).to_owned(),
            port: *port,
            secret: Some((*secret).to_owned()),
        };
        let accounts = ["alice", "bob", "carol"].map(|name| (name.to_owned(), "secret".to_owned()));
        let config = Config {
            domain: "localhost".to_owned(),
            accounts: BTreeMap::from(accounts),
            anonymous: false,
            relays: relays.iter().map(relay).collect(),
        };
        let bound = runtime.block_on(Server::bind(([127, 0, 0, 1], 0).into(), config));
        let server = bound.unwrap();
        let (inner, authority) = (server.port(), server.authority().to_owned());
        runtime.spawn(server.serve());
        let mut running = Self {
            runtime,
            inner,
            port: Arc::default(),
            door: None,
            authority,
        };
        running.open();
        running
    }

    /// Where clients come in.
    pub(crate) fn port(&self) -> u16 {
        self.port.load(Ordering::Relaxed)
    }

    /// Lets clients in.
    pub(crate) fn open(&mut self) {
        let (port, inner) = (self.port(), self.inner);
        let bind = TcpListener::bind(("127.0.0.1", port));
        let listener = self.runtime.block_on(bind).unwrap();
        let port = listener.local_addr().unwrap().port();
        self.port.store(port, Ordering::Relaxed);
        self.door = Some(self.runtime.spawn(async move {
            let mut guests = JoinSet::new();
            loop {
                let Ok((mut guest, _)) = listener.accept().await else {
                    continue;
                };
                guests.spawn(async move {
                    let inside = TcpStream::connect(("127.0.0.1", inner)).await;
                    if let Ok(mut inside) = inside {
                        let _ = copy_bidirectional(&mut guest, &mut inside).await;
                    }
                });
            }
        }));
    }

    /// Cuts every connection, and lets nobody in.
    pub(crate) fn shut(&mut self) {
        if let Some(door) = self.door.take() {
            door.abort();
            let _ = self.runtime.block_on(door);
        }
    }
}
