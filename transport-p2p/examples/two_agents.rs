//! Two ICE agents find each other over real sockets, without sessions and without XMPP:
//! `cargo run -p transport-p2p --example two_agents`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "an example is a driver: sockets, the clock and the terminal are its own"
)]

use session_core::{Datagram, LocalSocket, Role};
use std::{collections::BTreeMap, error::Error, net::IpAddr, net::UdpSocket, time::Instant};
use transport_p2p::{Agent, ice::IceConfig, ice::Output};

fn main() -> Result<(), Box<dyn Error>> {
    // The addresses of this host, and for each agent 32 bytes that nobody can guess.
    let interfaces: Vec<IpAddr> = vec![[127, 0, 0, 1].into(), "::1".parse()?];
    let agent = |role, seed| Agent::new(IceConfig::new(interfaces.clone()), role, seed);
    let mut agents = [
        agent(Role::Initiator, [1; 32]),
        agent(Role::Responder, [2; 32]),
    ];
    let mut sockets: [BTreeMap<LocalSocket, UdpSocket>; 2] = Default::default();
    for me in 0..2 {
        for attribute in agents[1 - me].local_credentials().attributes() {
            agents[me].handle_remote_attribute(&attribute.to_string(), Instant::now())?;
        }
        agents[me].gather(Instant::now());
    }
    let mut greeted = 0;
    while greeted < 2 {
        for me in 0..2 {
            let now = Instant::now();
            while let Some(output) = agents[me].poll_output() {
                match output {
                    Output::Bind(id, _, address) => {
                        let socket = UdpSocket::bind(address)?;
                        socket.set_nonblocking(true)?;
                        agents[me].handle_bound(id, Ok(socket.local_addr()?), now);
                        sockets[me].insert(id, socket);
                    }
                    Output::Transmit(transmit) => {
                        let socket = &sockets[me][&transmit.socket];
                        socket.send_to(&transmit.payload, transmit.destination)?;
                    }
                    // Signalling: here the other agent is at hand.
                    Output::Candidate(candidate) => {
                        println!("agent {me}: a={candidate}");
                        agents[1 - me].handle_remote_attribute(&candidate.to_string(), now)?;
                    }
                    Output::Writable(component, true) => {
                        agents[me].send(component, bytes::Bytes::from("hello"), now)?;
                    }
                    Output::Packet(component, batch) => {
                        let path = agents[me].selected_pair(component).ok_or("no path")?;
                        println!("agent {me}: {:?} over {path}", batch.payload);
                        greeted += 1;
                    }
                    Output::Failed(_, why) => return Err(why.into()),
                    _ => {}
                }
            }
            let mut buffer = [0; 2_048];
            for (id, socket) in &sockets[me] {
                while let Ok((size, source)) = socket.recv_from(&mut buffer) {
                    let payload = bytes::Bytes::copy_from_slice(&buffer[..size]);
                    let (socket, segment_size) = (*id, 0);
                    let datagram = Datagram {
                        socket,
                        source,
                        payload,
                        segment_size,
                    };
                    agents[me].handle_datagram(datagram, now);
                }
            }
            if agents[me].poll_timeout().is_some_and(|at| at <= now) {
                agents[me].handle_timeout(now);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(())
}
