//! What the server carries by itself: requests and answers that are ready bytes, between two components that do nothing else.

use super::server::{ANSWERING, ASKING, Prosody, SECRET};
use session_core::ElementLimits;
use session_xmpp::client::{
    Password,
    component::{ComponentOutput, ComponentStream},
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Requests a second that are answered, with so many under way at once.
pub(super) fn round_trips(server: &Prosody, time: Duration, window: usize) -> f64 {
    let answering = connect(server, ANSWERING);
    let other_end = answering.try_clone().expect("a handle");
    let answerer = thread::spawn(move || answer(answering));
    let mut asking = connect(server, ASKING);
    let request = format!(
        "<iq type='get' id='q' from='{ASKING}' to='{ANSWERING}'><ping xmlns='urn:xmpp:ping'/></iq>"
    );
    asking
        .write_all(request.repeat(window).as_bytes())
        .expect("the server reads");
    let mut starts = Starts::default();
    let mut count = 0_usize;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let more = starts.read(&mut asking);
        count += more;
        asking
            .write_all(request.repeat(more).as_bytes())
            .expect("the server reads");
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    for stream in [asking, other_end] {
        let _ = stream.shutdown(Shutdown::Both);
    }
    let _ = answerer.join();
    rate
}

fn answer(mut stream: TcpStream) {
    let reply = format!("<iq type='result' id='q' from='{ANSWERING}' to='{ASKING}'/>");
    let mut starts = Starts::default();
    loop {
        let count = starts.read(&mut stream);
        if count == 0 && starts.ended {
            return;
        }
        if stream.write_all(reply.repeat(count).as_bytes()).is_err() {
            return;
        }
    }
}

/// Counts stanzas by their beginnings, which may come in pieces.
#[derive(Default)]
struct Starts {
    tail: Vec<u8>,
    ended: bool,
}

impl Starts {
    fn read(&mut self, stream: &mut TcpStream) -> usize {
        const START: &[u8] = b"<iq";
        let mut buffer = [0; 16 * 1024];
        let count = stream.read(&mut buffer).unwrap_or(0);
        self.ended = count == 0;
        self.tail.extend_from_slice(&buffer[..count]);
        let found = self.tail.windows(START.len());
        let found = found.filter(|window| *window == START).count();
        let keep = self.tail.len().min(START.len() - 1);
        self.tail.drain(..self.tail.len() - keep);
        found
    }
}

fn connect(server: &Prosody, domain: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("it listens");
    stream.set_nodelay(true).expect("a TCP socket");
    let secret = Password::new(SECRET);
    let mut machine = ComponentStream::new(domain, secret, ElementLimits::default());
    machine.handle_connected();
    let mut buffer = [0; 4_096];
    loop {
        stream
            .write_all(&machine.transmit())
            .expect("the server reads");
        match machine.poll_output() {
            Some(ComponentOutput::Up) => return stream,
            Some(other) => panic!("{other:?}"),
            None => {}
        }
        let count = stream.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "the server goes on");
        machine.handle_bytes(&buffer[..count]);
    }
}
