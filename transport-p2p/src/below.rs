//! What every layer of this crate does with the channel below it.

use session_core::{ChannelOutput, TransportChannel};

/// The calls that a layer passes on to the channel below as they are, for its `impl TransportChannel`.
///
/// The layer has that channel as `inner`, and a method `at` that notes the time.
macro_rules! passes_below {
    () => {
        fn handle_info(
            &mut self,
            info: &::session_core::Element,
            now: ::std::time::Instant,
        ) -> Result<(), ::session_core::TransportError> {
            self.at(now);
            self.inner.handle_info(info, now)
        }

        fn handle_bound(
            &mut self,
            socket: ::session_core::LocalSocket,
            address: Result<::std::net::SocketAddr, ::session_core::SocketError>,
            now: ::std::time::Instant,
        ) {
            self.at(now);
            self.inner.handle_bound(socket, address, now);
        }

        fn handle_datagram(
            &mut self,
            datagram: ::session_core::Datagram,
            now: ::std::time::Instant,
        ) {
            self.at(now);
            self.inner.handle_datagram(datagram, now);
        }

        fn handle_stream(
            &mut self,
            socket: ::session_core::LocalSocket,
            event: ::session_core::StreamEvent,
            now: ::std::time::Instant,
        ) {
            self.at(now);
            self.inner.handle_stream(socket, event, now);
        }

        fn handle_finding(
            &mut self,
            inquiry: u32,
            finding: ::session_core::Finding,
            now: ::std::time::Instant,
        ) {
            self.at(now);
            self.inner.handle_finding(inquiry, finding, now);
        }

        fn handle_request(
            &mut self,
            from: &::session_core::Peer,
            payload: &::session_core::Element,
            now: ::std::time::Instant,
        ) -> Option<::session_core::RequestAnswer> {
            self.at(now);
            self.inner.handle_request(from, payload, now)
        }

        fn handle_response(
            &mut self,
            token: u32,
            response: Result<Option<::session_core::Element>, ::session_core::StanzaError>,
            now: ::std::time::Instant,
        ) {
            self.at(now);
            self.inner.handle_response(token, response, now);
        }

        fn round_trip(&self) -> Option<::std::time::Duration> {
            self.inner.round_trip()
        }

        fn report(&self) -> Vec<::session_core::PathReport> {
            self.inner.report()
        }
    };
}

pub(crate) use passes_below;

/// What a stream above a channel of datagrams knows of the path.
#[derive(Debug, Default)]
pub(crate) struct Path {
    /// Whether the channel below speaks of its path; otherwise it has one when it is writable.
    pub(crate) explicit: bool,
    pub(crate) up: bool,
    /// What was told above.
    told: Option<bool>,
}

impl Path {
    /// What those above are to hear, if they have not heard it yet.
    pub(crate) fn tell(&mut self, up: bool) -> Option<ChannelOutput> {
        (self.told != Some(up)).then(|| {
            self.told = Some(up);
            ChannelOutput::Path(up)
        })
    }
}

/// How far the end of a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    No,
    Wanted,
    Told,
}

/// What a channel that is given up still wants to send; whatever else it wants concerns nobody any more.
pub(crate) fn last_words(
    channel: &mut dyn TransportChannel,
) -> impl Iterator<Item = ChannelOutput> {
    std::iter::from_fn(|| channel.poll_output()).filter(leaves)
}

/// Whether this is something that goes to the peer.
pub(crate) fn leaves(output: &ChannelOutput) -> bool {
    matches!(
        output,
        ChannelOutput::Transmit(_) | ChannelOutput::Write(..)
    )
}

/// A line for people about a path and what runs above it.
pub(crate) fn describe(below: &dyn TransportChannel, above: Option<String>) -> Option<String> {
    match (below.describe(), above) {
        (Some(below), Some(above)) => Some(format!("{below}, {above}")),
        (below, above) => below.or(above),
    }
}
