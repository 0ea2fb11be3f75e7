//! What a peer of ICE may say: attributes of SDP, elements of XML, datagrams.

use session_core::{
    Datagram, Dialect, ElementLimits, Role, TransportContext, TransportFactory as _, testing::epoch,
};
use session_xmpp::xml::{self, Context};
use std::{net::SocketAddr, task::Waker, time::Duration};
use transport_p2p::{
    Agent,
    ice::{Attribute, Candidate, IceConfig, IceTransportFactory, Output},
};

/// The first byte says what the rest is: attributes line by line, an element, or datagrams with their sizes before them.
pub fn ice(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    match kind % 3 {
        0 => attributes(&String::from_utf8_lossy(rest)),
        1 => element(rest),
        _ => datagrams(rest),
    }
}

fn config() -> IceConfig {
    IceConfig::new(vec![[192, 0, 2, 1].into()])
}

/// What is read of a line is written and read again; all lines together are told to an agent, which stays in bounds.
fn attributes(text: &str) {
    let now = epoch();
    let mut agent = Agent::new(config(), Role::Initiator, [1; 32]);
    agent.gather(now);
    bind(&mut agent);
    for line in text.lines() {
        if let Ok(attribute) = line.parse::<Attribute>() {
            let written = attribute.to_string();
            let again: Attribute = written.parse().expect("it was written");
            if let (Attribute::Candidate(one), Attribute::Candidate(other)) = (&attribute, &again) {
                let other = Candidate {
                    network: one.network,
                    ..other.clone()
                };
                assert_eq!(*one, other, "{written}");
            }
        }
        let _ = agent.handle_remote_attribute(line, now);
    }
    run(agent);
}

/// An element as an offer and as a transport-info.
fn element(bytes: &[u8]) {
    let Ok(element) = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()) else {
        return;
    };
    let now = epoch();
    let mut transport = IceTransportFactory::new(config()).create(&TransportContext {
        role: Role::Responder,
        local: "a@example.org/1".into(),
        remote: "b@example.org/2".into(),
        sid: "sid".into(),
        content: "main".into(),
        dialect: Dialect::JINGLE,
        seed: [1; 32],
        waker: Waker::noop().clone(),
    });
    let mut channel = transport.create_channel("data").expect("the first");
    let accepted = transport.accept_offer(&element).is_ok();
    channel.connect(now);
    if let Ok(parts) = transport.split_info(&element) {
        for (_, part) in parts {
            let taken = channel.handle_info(&part, now);
            assert!(taken.is_ok() || !accepted, "an info was split that is none");
        }
    }
    let mut outputs = 0;
    while channel.poll_output().is_some() {
        outputs += 1;
        assert!(outputs < 1_000, "one element has bounded effects");
    }
}

/// Datagrams of strangers and of one whom the agent knows.
fn datagrams(mut data: &[u8]) {
    let mut now = epoch();
    let mut agent = Agent::new(config(), Role::Initiator, [1; 32]);
    agent.gather(now);
    let socket = bind(&mut agent);
    for line in [
        "ice-ufrag:peer",
        "ice-pwd:the-password-of-the-peer",
        "candidate:1 1 udp 1 198.51.100.1 9 typ host",
    ] {
        agent
            .handle_remote_attribute(line, now)
            .expect("it is well-formed");
    }
    while let Some((&[from, size], rest)) = data.split_first_chunk::<2>() {
        let (payload, rest) = rest.split_at(usize::from(size).min(rest.len()));
        data = rest;
        agent.handle_datagram(
            Datagram {
                socket,
                source: SocketAddr::from(([198, 51, 100, from % 4], 9)),
                payload: payload.to_vec().into(),
                segment_size: usize::from(from / 4),
            },
            now,
        );
        now += Duration::from_millis(u64::from(from));
        let mut answers = 0;
        while let Some(output) = agent.poll_output() {
            answers += usize::from(matches!(output, Output::Transmit(_)));
            let stranger = matches!(output, Output::Packet(..) | Output::Writable(..));
            assert!(!stranger, "nobody knows the credentials");
        }
        assert!(answers <= 1, "nothing is answered but by our own pace");
    }
    assert_eq!(agent.stats().checks_received, 0);
}

/// Gives the agent its socket.
fn bind(agent: &mut Agent) -> session_core::LocalSocket {
    let Some(Output::Bind(socket, _, address)) = agent.poll_output() else {
        panic!("it needs a socket");
    };
    agent.handle_bound(socket, Ok((address.ip(), 4_000).into()), epoch());
    socket
}

/// A minute without any answer.
fn run(mut agent: Agent) {
    let mut now = epoch();
    let (mut sent, mut steps) = (0, 0);
    while let Some(at) = agent.poll_timeout().filter(|_| steps < 2_000) {
        now = now.max(at);
        agent.handle_timeout(now);
        while let Some(output) = agent.poll_output() {
            sent += usize::from(matches!(output, Output::Transmit(_)));
        }
        steps += 1;
    }
    assert!(sent <= 64 * 8, "no more than the checks of 64 candidates");
}
