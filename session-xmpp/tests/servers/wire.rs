//! A connection that a test can cut.

use session_xmpp::client::Server;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes connections on to a port of this machine.
pub(crate) struct Wire {
    port: u16,
    /// Counts the cuts; odd while nobody gets through.
    cuts: watch::Sender<u32>,
}

impl Wire {
    pub(crate) async fn to(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let cuts = watch::Sender::new(0_u32);
        let mut cut = cuts.subscribe();
        tokio::spawn(async move {
            loop {
                // Gone with the wire.
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    ended = cut.changed() => match ended {
                        Ok(()) => continue,
                        Err(_) => return,
                    },
                };
                let Ok((mut near, _)) = accepted else { return };
                let mut cut = cut.clone();
                if *cut.borrow_and_update() % 2 == 1 {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(("127.0.0.1", target)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { port, cuts }
    }

    /// Cuts what is there. New connections get through.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 2);
    }

    /// Cuts, and lets nobody through until it is joined again.
    pub(crate) fn part(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn join(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    pub(crate) fn server(&self) -> Server {
        Server::At {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            direct_tls: false,
        }
    }
}
