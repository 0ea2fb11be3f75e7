//! The stream layer: a data channel above any channel that protects datagrams.

use super::{
    Association, ChannelConfig, ChannelEvent, Config, DataChannels, Error, Event,
    MAX_BATCH_PACKETS, SendError as SctpError, State,
};
use crate::below::{self, Finish, Path};
use bytes::Bytes;
use session_core::{
    Batch, ChannelLayer, ChannelOutput, HandshakeSide, LayerNegotiation, Role, SendError,
    TransportChannel, TransportContext, TransportError,
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// What a stream above a data channel is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataChannelConfig {
    /// The association below it.
    pub association: Config,
    /// The channel's label. Default `test`, and its protocol `xmpp-jingle`, as Conversations names them.
    pub label: Arc<str>,
    /// The channel's protocol.
    pub protocol: Arc<str>,
    /// Longest message that is sent, in bytes, unless the peer takes less. Default 60,000.
    pub message_size: usize,
    /// Carry the INIT chunks of both sides in signalling (draft-hancke-tsvwg-snap), which saves a round trip with
    /// peers that do so too, and only with them larger packets are sought
    /// ([`largest_packet`](Config::largest_packet)). Default `true`.
    pub signal_init: bool,
}

impl Default for DataChannelConfig {
    fn default() -> Self {
        Self {
            association: Config::default(),
            label: "test".into(),
            protocol: "xmpp-jingle".into(),
            message_size: 60_000,
            signal_init: true,
        }
    }
}

/// Makes a stream of a datagram channel by WebRTC's data channels, above a layer that protects it (DTLS).
///
/// Each side opens a channel and sends on it, as Conversations does; what comes on any channel is received. In
/// signalling it says `<sctpmap/>` (XEP-0343) beside what the protection says.
///
/// # What a finished stream means
/// [`finish`](TransportChannel::finish) closes our channel once the peer has acknowledged everything
/// ([`ChannelOutput::Delivered`]); a peer's channel that is closed comes as [`ChannelOutput::Finished`] behind its last
/// byte.
#[derive(Clone)]
pub struct DataChannelLayer {
    protection: Arc<dyn ChannelLayer>,
    config: DataChannelConfig,
}

impl std::fmt::Debug for DataChannelLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataChannelLayer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl DataChannelLayer {
    /// A layer above `protection`, which carries datagrams.
    pub fn new(protection: Arc<dyn ChannelLayer>, config: DataChannelConfig) -> Self {
        Self { protection, config }
    }
}

impl ChannelLayer for DataChannelLayer {
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        let inner = self.protection.wrap(inner, context);
        let seed = super::negotiation::seed(&context.seed);
        let agreed = Agreed::default();
        let config = self.config.clone();
        Box::new(StreamChannel::new(
            inner,
            config,
            context.role,
            seed,
            agreed,
        ))
    }

    fn negotiate(&self, context: &TransportContext) -> Option<Box<dyn LayerNegotiation>> {
        let below = self.protection.negotiate(context);
        let protection = Arc::clone(&self.protection);
        Some(Box::new(super::negotiation::Negotiation::new(
            protection,
            below,
            self.config.clone(),
            context.seed,
        )))
    }
}

/// What both sides have said in signalling.
#[derive(Clone, Debug, Default)]
pub(super) struct Agreed {
    /// The peer's port, and the longest message that it takes.
    pub(super) port: Option<u16>,
    pub(super) message_size: Option<usize>,
    /// The peer's INIT chunk, if ours has been told as well.
    pub(super) init: Option<Vec<u8>>,
}

/// The first cookie of an association waits for one turn, so that those above, who are told that they may send, send with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cookie {
    None,
    Held,
    /// They were told, and had their turn.
    Due,
    Sent,
}

/// A channel above another.
pub(super) struct StreamChannel {
    inner: Box<dyn TransportChannel>,
    config: DataChannelConfig,
    agreed: Agreed,
    seed: [u8; 32],
    client: bool,
    /// There from the first path on.
    channels: Option<DataChannels>,
    now: Option<Instant>,
    outputs: VecDeque<ChannelOutput>,
    /// Packets that the channel below has refused.
    unsent: Option<Batch>,
    /// Whether the channel below takes datagrams.
    carries: bool,
    path: Path,
    /// Our channel.
    channel: Option<u16>,
    writable: bool,
    paused: bool,
    finish: Finish,
    peer_finished: Finish,
    failed: bool,
    cookie: Cookie,
}

impl StreamChannel {
    pub(super) fn new(
        inner: Box<dyn TransportChannel>,
        config: DataChannelConfig,
        role: Role,
        seed: [u8; 32],
        agreed: Agreed,
    ) -> Self {
        Self {
            inner,
            config,
            agreed,
            seed,
            // Until the protection says which side it was.
            client: role == Role::Responder,
            channels: None,
            now: None,
            outputs: VecDeque::new(),
            unsent: None,
            carries: false,
            path: Path::default(),
            channel: None,
            writable: false,
            paused: false,
            finish: Finish::No,
            peer_finished: Finish::No,
            failed: false,
            cookie: Cookie::None,
        }
    }

    /// Notes the time of a call.
    fn at(&mut self, now: Instant) {
        self.now = Some(now);
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else a channel wants is for those above"
    )]
    /// The next output of the channel below, or nothing if it has none that concerns those above.
    fn poll_inner(&mut self) -> Option<ChannelOutput> {
        while let Some(output) = self.inner.poll_output() {
            match output {
                ChannelOutput::Packet(batch) => {
                    if let (Some(channels), Some(now)) = (&mut self.channels, self.now) {
                        channels.association_mut().handle_batch(&batch, now);
                    }
                }
                ChannelOutput::Writable(writable) => self.on_writable(writable),
                ChannelOutput::Path(path) => {
                    self.path.explicit = true;
                    self.on_path(path);
                }
                // A channel of datagrams has no end.
                ChannelOutput::Finished | ChannelOutput::Delivered => {}
                ChannelOutput::Failed(error) => self.fail(error),
                ChannelOutput::Secured(secured) => {
                    self.client = secured.side == HandshakeSide::Client;
                    return Some(ChannelOutput::Secured(secured));
                }
                other => return Some(other),
            }
        }
        None
    }

    fn on_writable(&mut self, writable: bool) {
        self.carries = writable;
        if writable
            && self.channels.is_none()
            && !self.failed
            && let Some(now) = self.now
        {
            self.channels = Some(self.begin(now));
        }
        if !self.path.explicit {
            self.on_path(writable);
        }
    }

    /// The association, as signalling has it, and our channel.
    fn begin(&mut self, now: Instant) -> DataChannels {
        let mut config = self.config.association.clone();
        config.remote_port = self.agreed.port.unwrap_or(config.remote_port);
        let signalled = self.agreed.init.take();
        if signalled.is_none() {
            // Who is not known to take larger packets may cut what it reads: aiortc takes 1,500 bytes of a datagram, and
            // the rest for those that follow, so that it is behind from then on.
            config.largest_packet = config.max_packet;
        }
        let most = self.inner.datagram_max();
        // An interface that takes less than every path should carry.
        config.max_packet = config.max_packet.min(most.unwrap_or(usize::MAX));
        let mut association = Association::new(config, self.seed, now);
        association.limit_packets(most);
        if let Some(rtt) = self.inner.round_trip() {
            association.assume_round_trip(rtt);
        }
        if !signalled.is_some_and(|init| association.connect_with(&init, now)) {
            association.connect(now);
        }
        let mut channels = DataChannels::new(association, self.client);
        let config = ChannelConfig {
            label: Arc::clone(&self.config.label),
            protocol: Arc::clone(&self.config.protocol),
            ..ChannelConfig::default()
        };
        // The association is new: there is room.
        self.channel = channels.open(&config, now).ok();
        channels
    }

    fn on_path(&mut self, path: bool) {
        let came = path && !self.path.up;
        self.path.up = path;
        if let (Some(channels), Some(now)) = (&mut self.channels, self.now)
            && came
        {
            let association = channels.association_mut();
            association.limit_packets(self.inner.datagram_max());
            association.handle_path_up(now);
        }
        self.tell_path();
    }

    /// Whether data may leave: with our cookie already.
    fn is_open(&self) -> bool {
        self.channels.as_ref().is_some_and(|channels| {
            let state = channels.association().state();
            matches!(state, State::CookieEchoed | State::Established)
        })
    }

    /// A path without an open association is of no use to those above.
    fn tell_path(&mut self) {
        if self.is_open() {
            self.outputs.extend(self.path.tell(self.path.up));
        }
    }

    fn poll_stream(&mut self) -> Option<ChannelOutput> {
        let now = self.now?;
        self.take_events();
        let channels = self.channels.as_ref();
        if self.cookie == Cookie::None && channels.is_some_and(|c| c.association().may_accompany())
        {
            self.cookie = Cookie::Held;
            self.tell_path();
            self.tell_writable(true);
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let channels = self.channels.as_mut()?;
        if !self.paused {
            if let Some(message) = channels.read(now) {
                return Some(ChannelOutput::Packet(message.payload.into()));
            }
            if self.peer_finished == Finish::Wanted {
                self.peer_finished = Finish::Told;
                return Some(ChannelOutput::Finished);
            }
        }
        if self.finish == Finish::Wanted
            && channels.association().is_delivered()
            && channels.association().state() == State::Established
        {
            self.finish = Finish::Told;
            if let Some(channel) = self.channel {
                channels.close(channel);
            }
            return Some(ChannelOutput::Delivered);
        }
        if channels.association().state() == State::Closed && !self.paused {
            let error = channels.association().error();
            self.fail(transport_error(error));
        }
        self.outputs.pop_front()
    }

    fn take_events(&mut self) {
        while let Some(event) = self.channels.as_mut().and_then(DataChannels::poll_event) {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: ChannelEvent) {
        match event {
            ChannelEvent::Association(Event::Open) => {
                self.tell_path();
                self.tell_writable(true);
            }
            ChannelEvent::Association(Event::Writable) => self.tell_writable(true),
            ChannelEvent::Closed(channel) => {
                let ours = self.channel == Some(channel);
                if (!ours || self.finish == Finish::No) && self.peer_finished == Finish::No {
                    self.peer_finished = Finish::Wanted;
                }
            }
            // The getters tell, when everything that came before was handed out.
            ChannelEvent::Association(_) | ChannelEvent::Opened(..) | ChannelEvent::Accepted(_) => {
            }
        }
    }

    fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    /// Hands packets to the channel below. Returns whether anything happened.
    fn transmit(&mut self) -> bool {
        let (Some(channels), Some(now)) = (&mut self.channels, self.now) else {
            return false;
        };
        if !self.carries {
            return false;
        }
        match self.cookie {
            Cookie::Held => {
                self.cookie = Cookie::Due;
                return false;
            }
            Cookie::Due => self.cookie = Cookie::Sent,
            Cookie::None | Cookie::Sent => {}
        }
        let association = channels.association_mut();
        let batch = self
            .unsent
            .take()
            .or_else(|| association.poll_transmit(now, MAX_BATCH_PACKETS));
        let Some(batch) = batch else { return false };
        match self.inner.send_batch(batch.clone(), now) {
            Ok(()) => {}
            Err(SendError::NotWritable) => {
                // Some of it may have been taken: then it arrives twice, which harms nothing.
                self.carries = false;
                self.unsent = Some(batch);
            }
            Err(SendError::TooLarge) => {
                let size = match batch.segment_size {
                    0 => batch.payload.len(),
                    size => size,
                };
                if !association.handle_too_large(size, now) {
                    self.fail(TransportError::Unacceptable(
                        "the path does not carry datagrams of the usual size",
                    ));
                }
            }
            Err(SendError::NoSuchChannel | SendError::Finished) => {
                self.fail(TransportError::Closed)
            }
        }
        true
    }

    fn fail(&mut self, error: TransportError) {
        if !self.failed {
            self.failed = true;
            self.unsent = None;
            if !self.paused {
                self.hand_out_remains();
            }
            self.outputs.push_back(ChannelOutput::Failed(error));
        }
    }

    /// What had arrived before the end.
    fn hand_out_remains(&mut self) {
        if let (Some(channels), Some(now)) = (&mut self.channels, self.now) {
            while let Some(message) = channels.read(now) {
                self.outputs
                    .push_back(ChannelOutput::Packet(message.payload.into()));
            }
        }
        // The end of a channel may lie behind its opening.
        self.take_events();
        if self.peer_finished == Finish::Wanted {
            self.peer_finished = Finish::Told;
            self.outputs.push_back(ChannelOutput::Finished);
        }
    }

    /// Splits `packet` into messages. The send buffer is exceeded by one packet at most.
    fn send_messages(&mut self, mut packet: Bytes, now: Instant) -> Result<(), SendError> {
        let most = self.agreed.message_size.unwrap_or(usize::MAX);
        let most = self.config.message_size.min(most).max(1);
        let (Some(channels), Some(channel)) = (&mut self.channels, self.channel) else {
            return Err(SendError::NotWritable);
        };
        if !channels.is_open(channel) {
            return Err(SendError::NoSuchChannel);
        }
        let buffered = channels.association().buffered();
        if buffered >= self.config.association.send_buffer as u64 {
            // Asks to be told.
            let refused = channels.send(channel, false, packet, now);
            debug_assert_eq!(refused, Err(SctpError::Full));
            self.tell_writable(false);
            return Err(SendError::NotWritable);
        }
        while !packet.is_empty() {
            let message = packet.split_to(most.min(packet.len()));
            match channels.send_over(channel, message, now) {
                Ok(()) => {}
                Err(SctpError::Full) => return Err(SendError::NotWritable),
                Err(
                    SctpError::Empty
                    | SctpError::NoSuchStream
                    | SctpError::Resetting
                    | SctpError::Closed,
                ) => return Err(SendError::NoSuchChannel),
            }
        }
        Ok(())
    }
}

impl TransportChannel for StreamChannel {
    fn connect(&mut self, now: Instant) {
        self.at(now);
        self.inner.connect(now);
    }

    crate::below::passes_below!();

    fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        if let Some(channels) = &mut self.channels {
            channels.association_mut().handle_timeout(now);
        }
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.at(now);
        if self.finish != Finish::No {
            return Err(SendError::Finished);
        }
        if self.failed {
            return Err(SendError::NoSuchChannel);
        }
        if !self.is_open() {
            return Err(SendError::NotWritable);
        }
        self.send_messages(packet, now)
    }

    /// The batch is one piece of the stream.
    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.send(batch.payload, now)
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        self.at(now);
        self.paused = paused;
        if !paused && self.failed {
            self.hand_out_remains();
        }
    }

    fn finish(&mut self, now: Instant) {
        self.at(now);
        if self.finish == Finish::No {
            self.finish = Finish::Wanted;
        }
    }

    fn close(&mut self) {
        self.outputs.clear();
        if !self.failed
            && self.carries
            && let (Some(channels), Some(now)) = (&mut self.channels, self.now)
        {
            let association = channels.association_mut();
            association.abort();
            if let Some(batch) = association.poll_transmit(now, 1) {
                let _ = self.inner.send_batch(batch, now);
            }
        }
        self.failed = true;
        self.inner.close();
        self.outputs.extend(below::last_words(&mut *self.inner));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let channels = self.channels.as_ref();
        // Without delay, if those above have nothing to send.
        let cookie = self.cookie == Cookie::Due && self.carries;
        [
            self.now.filter(|_| cookie),
            self.inner.poll_timeout(),
            channels.and_then(|channels| channels.association().poll_timeout()),
        ]
        .into_iter()
        .flatten()
        .min()
        .filter(|_| !self.failed)
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.failed {
                return None;
            }
            if let Some(output) = self.poll_inner().or_else(|| self.poll_stream()) {
                return Some(output);
            }
            if self.outputs.is_empty() && !self.transmit() {
                return None;
            }
        }
    }

    fn describe(&self) -> Option<String> {
        let stream = self
            .channels
            .as_ref()
            .and_then(|channels| describe(channels.association()));
        below::describe(&*self.inner, stream)
    }
}

/// A line for people about an association that has measured something.
fn describe(association: &Association) -> Option<String> {
    let rtt = association.srtt()?;
    let stats = association.stats();
    let again = 100.0 * stats.bytes_retransmitted as f64 / stats.bytes_sent.max(1) as f64;
    Some(format!(
        "SCTP, round trip {} ms, {again:.1} % sent again",
        (rtt + Duration::from_micros(500)).as_millis()
    ))
}

fn transport_error(error: Option<Error>) -> TransportError {
    match error {
        None | Some(Error::Reset | Error::Aborted) => TransportError::Closed,
        Some(
            error @ (Error::TimedOut
            | Error::ConnectTimedOut
            | Error::Restarted
            | Error::Violation(_)),
        ) => TransportError::Unreachable(error.to_string().into()),
    }
}
