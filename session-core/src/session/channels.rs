//! The channels of a session: their life, their data, and what they want from the world.

use super::{Deferred, Session, SessionEvent};
use crate::{
    Batch, ChannelId, ChannelLayer, ChannelOutput, Datagram, Element, Finding, LocalSocket, Misuse,
    Output, PathReport, Peer, PeerError, RequestAnswer, RequestId, Secured, SendError, SocketError,
    SocketId, StanzaError, StreamEvent, TransportChannel, TransportContext, TransportError,
};
use bytes::Bytes;
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// A named flow of data within a content. Its implementation comes and goes with transports.
pub(crate) struct Channel {
    pub(crate) id: ChannelId,
    pub(crate) name: Arc<str>,
    pub(crate) content: Arc<str>,
    pub(super) layer: Option<Arc<dyn ChannelLayer>>,
    pub(super) implementation: Option<Box<dyn TransportChannel>>,
    /// The transport of `implementation`, and the name that the channel has there.
    namespace: Arc<str>,
    pub(super) wire_name: Arc<str>,
    pub(super) epoch: u16,
    pub(super) sockets: Vec<LocalSocket>,
    pub(super) paused: bool,
    pub(super) finished: bool,
    /// Its client can go on elsewhere although it has finished.
    movable: bool,
    pub(super) writable: bool,
    pub(super) says_path: bool,
    /// It knows all its candidates.
    pub(super) gathered: bool,
    pub(crate) path: bool,
    /// When the path went, while it is away; set once there has been a path.
    pub(crate) path_lost: Option<Instant>,
    /// What protects it.
    pub(super) secured: Option<Box<Secured>>,
}

/// The public face of channels.
impl Session {
    /// A channel of the default content, for datagrams or for a stream, as the transport has it
    /// (libjingle CreateChannel).
    ///
    /// It may be created at any time until the end. Before a transport is chosen it waits for it; after that it connects at
    /// once.
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after the end, [`Misuse::DuplicateChannel`], [`Misuse::TooMany`], [`Misuse::Transport`] when the
    /// chosen transport refuses it and no other can follow. Where one can, the channel waits for that, and the refusal is
    /// told as a failure of the transport.
    pub fn create_channel(&mut self, name: &str, now: Instant) -> Result<ChannelId, Misuse> {
        let content = self.default_content_name();
        self.create_channel_in(&content, name, None, now)
    }

    /// A channel of the default content that carries a stream: `layer` is used when the transport carries datagrams.
    ///
    /// # Errors
    /// As [`create_channel`](Self::create_channel).
    pub fn create_stream_channel(
        &mut self,
        name: &str,
        layer: Arc<dyn ChannelLayer>,
        now: Instant,
    ) -> Result<ChannelId, Misuse> {
        let content = self.default_content_name();
        self.create_channel_in(&content, name, Some(layer), now)
    }

    /// A channel of the default content that is only to be had through `layer`: one that protects datagrams, for example.
    /// Transports over which the layer cannot be had are neither offered nor accepted for the content.
    ///
    /// Channels that share a layer share one negotiation of it. Created before the offer, or before the answer to the
    /// peer's offer, the layer's words are part of that; after it, the layer can only do without.
    ///
    /// # Errors
    /// As [`create_channel`](Self::create_channel); [`Misuse::Transport`] also when the layer cannot do without words.
    pub fn create_layered_channel(
        &mut self,
        name: &str,
        layer: Arc<dyn ChannelLayer>,
        now: Instant,
    ) -> Result<ChannelId, Misuse> {
        let content = self.default_content_name();
        self.create_channel_in(&content, name, Some(layer), now)
    }

    /// A channel of any content, through a layer or not.
    ///
    /// # Errors
    /// As [`create_channel`](Self::create_channel), and [`Misuse::UnknownContent`].
    pub fn create_channel_in(
        &mut self,
        content: &str,
        name: &str,
        layer: Option<Arc<dyn ChannelLayer>>,
        now: Instant,
    ) -> Result<ChannelId, Misuse> {
        let content = self
            .content(content)
            .ok_or_else(|| Misuse::UnknownContent(content.into()))?
            .name
            .clone();
        if self.channel_in(&content, name).is_some() {
            return Err(Misuse::DuplicateChannel(name.into()));
        }
        let max = self.limits().channels;
        if self.channels.len() >= max {
            return Err(Misuse::TooMany {
                limit: "channels",
                max,
            });
        }
        if self.state.is_ended() {
            return Err(Misuse::TooLate(self.state));
        }
        let id = ChannelId(self.next_channel);
        // Most sessions have one or two, and many sessions are idle.
        self.channels.reserve_exact(1);
        self.channels.push(Channel {
            id,
            name: name.into(),
            content: content.clone(),
            layer: layer.clone(),
            implementation: None,
            namespace: "".into(),
            wire_name: name.into(),
            epoch: 0,
            sockets: Vec::new(),
            paused: false,
            finished: false,
            movable: false,
            writable: false,
            says_path: false,
            gathered: false,
            path: false,
            path_lost: None,
            secured: None,
        });
        let joined = match &layer {
            Some(layer) => self.join_layer(&content, layer),
            None => Ok(false),
        };
        let fresh = !matches!(joined, Ok(false));
        let bound = joined.and_then(|_| {
            let bound = self.bind_channels(&content, now);
            bound.or_else(|error| self.go_on_after(&content, error, now))
        });
        if let Err(error) = bound {
            self.channels.retain(|c| c.id != id);
            if let Some(layer) = layer.filter(|_| fresh) {
                self.part_layer(&content, &layer);
            }
            return Err(Misuse::Transport(error));
        }
        self.next_channel += 1;
        Ok(id)
    }

    /// The channel of the default content with this name (libjingle GetChannel).
    pub fn channel(&self, name: &str) -> Option<ChannelId> {
        self.channel_in(&self.default_content_name(), name)
    }

    /// The channel of a content with this name.
    pub fn channel_in(&self, content: &str, name: &str) -> Option<ChannelId> {
        self.channels
            .iter()
            .find(|c| &*c.content == content && &*c.name == name)
            .map(|c| c.id)
    }

    /// The channels there are.
    pub fn channel_ids(&self) -> impl Iterator<Item = ChannelId> {
        self.channels.iter().map(|c| c.id)
    }

    /// A channel's name.
    pub fn channel_name(&self, channel: ChannelId) -> Option<&str> {
        self.channel_at(channel).map(|c| &*c.name)
    }

    /// Closes a channel and its sockets (libjingle DestroyChannel).
    ///
    /// # Errors
    /// [`Misuse::UnknownChannel`].
    pub fn destroy_channel(&mut self, channel: ChannelId, now: Instant) -> Result<(), Misuse> {
        let at = self.position(channel).ok_or(Misuse::UnknownChannel)?;
        self.release(at);
        self.channels.remove(at);
        self.review_clocks(now);
        Ok(())
    }

    /// Whether a channel can take data.
    pub fn writable(&self, channel: ChannelId) -> bool {
        self.channel_at(channel).is_some_and(|c| c.writable)
    }

    /// Whether a channel has a path, as far as it knows.
    pub fn has_path(&self, channel: ChannelId) -> bool {
        self.channel_at(channel).is_some_and(|c| c.path)
    }

    /// Sends a datagram, or the next bytes of a stream.
    ///
    /// # Errors
    /// See [`SendError`]; the packet was not taken.
    pub fn send(
        &mut self,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) -> Result<(), SendError> {
        self.with_sender(channel, now, |implementation| {
            implementation.send(packet, now)
        })
    }

    /// Sends several datagrams of equal size.
    ///
    /// # Errors
    /// See [`SendError`]; packets before the refused one were taken.
    pub fn send_batch(
        &mut self,
        channel: ChannelId,
        batch: Batch,
        now: Instant,
    ) -> Result<(), SendError> {
        self.with_sender(channel, now, |implementation| {
            implementation.send_batch(batch, now)
        })
    }

    /// Stops or resumes receiving on a stream, which holds the peer back. A datagram channel may ignore it.
    pub fn pause(&mut self, channel: ChannelId, paused: bool, now: Instant) {
        if let Some(at) = self.position(channel) {
            self.channels[at].paused = paused;
            if let Some(implementation) = &mut self.channels[at].implementation {
                implementation.pause(paused, now);
            }
            self.collect(at, now);
        }
    }

    /// Nothing more will be sent on this stream.
    ///
    /// When another transport takes over after there was a path ([`Modification::TransportReplaced`](crate::Modification)),
    /// the stream begins anew, and is not finished.
    pub fn finish(&mut self, channel: ChannelId, now: Instant) {
        if let Some(at) = self.position(channel) {
            self.channels[at].finished = true;
            if let Some(implementation) = &mut self.channels[at].implementation {
                implementation.finish(now);
            }
            self.collect(at, now);
        }
    }

    /// Whether a stream can go on over another transport even after it was [finished](Self::finish), because its client
    /// knows from the peer what is missing. Otherwise one that fails after that is gone.
    pub fn set_movable(&mut self, channel: ChannelId, movable: bool) {
        if let Some(at) = self.position(channel) {
            self.channels[at].movable = movable;
        }
    }

    /// The paths that a channel tries, or has tried.
    pub fn report_channel(&self, channel: ChannelId) -> Vec<PathReport> {
        let channel = self.channel_at(channel);
        let implementation = channel.and_then(|channel| channel.implementation.as_ref());
        implementation.map_or_else(Vec::new, |channel| channel.report())
    }

    /// What protects a channel, once that is known.
    pub fn secured(&self, channel: ChannelId) -> Option<&Secured> {
        self.channel_at(channel)?.secured.as_deref()
    }

    /// A line for people about the path that a channel uses.
    pub fn describe_channel(&self, channel: ChannelId) -> Option<String> {
        self.channel_at(channel)?
            .implementation
            .as_ref()?
            .describe()
    }
}

/// What the rest of the session does with channels.
impl Session {
    /// Gives every channel of a content that has none an implementation, if the content has a transport to use now.
    pub(crate) fn bind_channels(
        &mut self,
        content: &str,
        now: Instant,
    ) -> Result<(), TransportError> {
        let Some(host) = self.carrier_host(content) else {
            return Ok(());
        };
        for at in 0..self.channels.len() {
            if &*self.channels[at].content == content && self.channels[at].implementation.is_none()
            {
                self.bind(at, host, now)?;
            }
        }
        self.deliver_early(host, now);
        self.review_clocks(now);
        Ok(())
    }

    /// The content whose first transport the channels of `content` use now: itself or the one it is bundled with.
    pub(crate) fn carrier_host(&self, content: &str) -> Option<usize> {
        let mut at = self.content_position(content)?;
        if let Some(leader) = &self.contents[at].bundled {
            at = self.content_position(leader)?;
        }
        let host = &self.contents[at];
        let started = if host.agreed && self.state.is_accepted() {
            true
        } else {
            let early = self.speculative || (self.batches && self.role == crate::Role::Initiator);
            early && self.state != crate::State::Init && !self.state.is_ended()
        };
        (started && !host.deferred && !host.carriers.is_empty()).then_some(at)
    }

    fn bind(&mut self, at: usize, host: usize, now: Instant) -> Result<(), TransportError> {
        let content = self.channels[at].content.clone();
        let context = self.transport_context(&content);
        let namespace = self.contents[host].carriers[0].namespace.clone();
        // A bundled transport carries the channels of several contents: equal names are told apart by content.
        let name = self.channels[at].name.clone();
        let taken = self.channels.iter().any(|c| {
            c.implementation.is_some()
                && c.namespace == namespace
                && c.wire_name == name
                && self.carrier_host(&c.content) == Some(host)
        });
        let wire_name = if taken {
            format!("{content}/{name}").into()
        } else {
            name
        };

        let carrier = &mut self.contents[host].carriers[0];
        let layer = self.channels[at].layer.as_ref();
        let mut implementation = carrier.create_channel(&wire_name, layer, &context)?;
        let channel = &mut self.channels[at];
        channel.namespace = namespace;
        channel.wire_name = wire_name;
        implementation.connect(now);
        if channel.paused {
            implementation.pause(true, now);
        }
        if channel.finished {
            implementation.finish(now);
        }
        channel.implementation = Some(implementation);
        self.collect(at, now);
        Ok(())
    }

    /// Takes the implementations of a content's channels away; sockets are closed, the channels stay.
    pub(crate) fn unbind_channels(&mut self, content: &str) {
        for at in 0..self.channels.len() {
            if &*self.channels[at].content == content {
                self.release(at);
            }
        }
    }

    /// Removes a content's channels.
    pub(crate) fn remove_channels(&mut self, content: &str) {
        self.unbind_channels(content);
        self.channels.retain(|c| &*c.content != content);
    }

    /// Closes everything: the session is over.
    pub(crate) fn release_all(&mut self) {
        for at in 0..self.channels.len() {
            self.release(at);
        }
    }

    pub(super) fn release(&mut self, at: usize) {
        self.stir();
        if let Some(mut implementation) = self.channels[at].implementation.take() {
            implementation.close();
            while let Some(output) = implementation.poll_output() {
                if let ChannelOutput::Transmit(_) | ChannelOutput::Write(..) = output {
                    self.take_socket_output(at, self.channels[at].id, output);
                }
            }
        }
        let id = self.passing.id;
        let channel = &mut self.channels[at];
        for socket in std::mem::take(&mut channel.sockets) {
            self.data.push_back(Output::Close {
                socket: SocketId {
                    session: id,
                    channel: channel.id,
                    epoch: channel.epoch,
                    socket,
                },
            });
        }
        let gone = channel.id;
        self.refuse_deferred(gone);
        let channel = &mut self.channels[at];
        channel.epoch = channel.epoch.wrapping_add(1);
        if channel.path || channel.path_lost.is_some() {
            // What was sent may not have arrived: the client says again what it has to say, and when that is all.
            channel.finished = false;
        }
        channel.path = false;
        channel.path_lost = None;
        channel.says_path = false;
        channel.gathered = false;
        channel.secured = None;
        if std::mem::take(&mut channel.writable) {
            self.events
                .push_back(SessionEvent::Writable(channel.id, false));
        }
    }

    fn with_sender(
        &mut self,
        channel: ChannelId,
        now: Instant,
        send: impl FnOnce(&mut dyn TransportChannel) -> Result<(), SendError>,
    ) -> Result<(), SendError> {
        let at = self.position(channel).ok_or(SendError::NoSuchChannel)?;
        if self.channels[at].finished {
            return Err(SendError::Finished);
        }
        let implementation = self.channels[at]
            .implementation
            .as_mut()
            .ok_or(SendError::NotWritable)?;
        let result = send(implementation.as_mut());
        if result == Err(SendError::NotWritable) {
            self.channels[at].writable = false;
        }
        self.collect(at, now);
        result
    }

    /// Runs one call of a channel's implementation, if the socket belongs to the implementation of today.
    pub(crate) fn with_socket(
        &mut self,
        socket: SocketId,
        now: Instant,
        call: impl FnOnce(&mut dyn TransportChannel, LocalSocket),
    ) {
        let Some(at) = self.position(socket.channel) else {
            return;
        };
        if self.channels[at].epoch != socket.epoch {
            return;
        }
        if let Some(implementation) = &mut self.channels[at].implementation {
            call(implementation.as_mut(), socket.socket);
            self.collect(at, now);
        }
    }

    /// Whether a stream that fails now has ended by that: we have said our last on it, and it cannot go on elsewhere.
    pub(super) fn ends_by_failure(&self, at: usize) -> bool {
        let channel = &self.channels[at];
        let at = self.content_position(&channel.content);
        let last = at.is_none_or(|at| self.contents[self.host_of(at)].untried.is_empty());
        let moves = channel.movable
            && self.dialect.has_modify
            && (self.role == crate::Role::Responder || !last);
        channel.has_ended() && !moves
    }

    /// Whether a socket belongs to a channel's implementation of today.
    pub(crate) fn owns(&self, socket: SocketId) -> bool {
        let channel = self.channel_at(socket.channel);
        channel.is_some_and(|c| c.epoch == socket.epoch && c.implementation.is_some())
    }

    pub(crate) fn handle_bound(
        &mut self,
        socket: SocketId,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.with_socket(socket, now, |c, s| c.handle_bound(s, address, now));
    }

    pub(crate) fn handle_stream(&mut self, socket: SocketId, event: StreamEvent, now: Instant) {
        if let StreamEvent::Accepted { connection, .. } = &event
            && let Some(at) = self.position(socket.channel)
            && self.channels[at].epoch == socket.epoch
        {
            self.channels[at].sockets.push(*connection);
        }
        self.with_socket(socket, now, |c, s| c.handle_stream(s, event, now));
    }

    pub(crate) fn handle_finding(&mut self, inquiry: SocketId, finding: Finding, now: Instant) {
        self.with_socket(inquiry, now, |c, n| c.handle_finding(n.0, finding, now));
    }

    pub(crate) fn handle_datagram(&mut self, socket: SocketId, datagram: Datagram, now: Instant) {
        self.with_socket(socket, now, |c, _| c.handle_datagram(datagram, now));
    }

    pub(crate) fn handle_response(
        &mut self,
        channel: ChannelId,
        epoch: u16,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        self.asked = self.asked.saturating_sub(1);
        let socket = SocketId {
            session: self.passing.id,
            channel,
            epoch,
            socket: LocalSocket(0),
        };
        self.with_socket(socket, now, |c, _| c.handle_response(token, response, now));
    }

    /// Asks the channels whether a request is theirs.
    ///
    /// The outer `None` says that it is nobody's, the inner one that the answer comes later.
    #[allow(
        clippy::option_option,
        reason = "nobody's, and not yet answered, are two things"
    )]
    pub(crate) fn handle_request(
        &mut self,
        id: RequestId,
        from: &Peer,
        payload: &Element,
        now: Instant,
    ) -> Option<Option<Result<Option<Element>, PeerError>>> {
        (0..self.channels.len()).find_map(|at| {
            let implementation = self.channels[at].implementation.as_mut()?;
            let answer = implementation.handle_request(from, payload, now);
            let answer = answer.map(|answer| match answer {
                RequestAnswer::Now(answer) => Some(answer),
                RequestAnswer::Later(token) => self.defer(at, token, id, from),
            });
            self.collect(at, now);
            answer
        })
    }

    fn defer(
        &mut self,
        at: usize,
        token: u32,
        id: RequestId,
        from: &Peer,
    ) -> Option<Result<Option<Element>, PeerError>> {
        let max = self.limits().transport_requests;
        let channel = self.channels[at].id;
        // Of each channel: those that keep much back take nothing from the others, whose peer waits for answers.
        let kept = self.deferred.iter().filter(|d| d.channel == channel);
        if kept.count() >= max {
            let limit = "transport_requests";
            return Some(Err(PeerError::TooMany { limit, max }));
        }
        self.deferred.push(Deferred {
            channel,
            epoch: self.channels[at].epoch,
            token,
            id,
            from: from.clone(),
        });
        None
    }

    pub(crate) fn channel_timeouts(&mut self, now: Instant) {
        for at in 0..self.channels.len() {
            if let Some(implementation) = &mut self.channels[at].implementation
                && implementation.poll_timeout().is_some_and(|due| due <= now)
            {
                implementation.handle_timeout(now);
                self.collect(at, now);
            }
        }
    }

    pub(crate) fn next_channel_timeout(&self) -> Option<Instant> {
        self.channels
            .iter()
            .filter_map(|c| c.implementation.as_ref()?.poll_timeout())
            .min()
    }

    /// For transports with I/O of their own, which woke us.
    pub(crate) fn collect_all(&mut self, now: Instant) {
        for at in 0..self.channels.len() {
            self.collect(at, now);
        }
    }

    /// Asks the channels that go over the transport of the content at `host` what they want.
    pub(crate) fn collect_hosted(&mut self, host: usize, now: Instant) {
        for at in 0..self.channels.len() {
            if self.carrier_host(&self.channels[at].content) == Some(host) {
                self.collect(at, now);
            }
        }
    }

    /// The peer ends the session: what its streams have received and we held back still belongs to the application.
    pub(crate) fn drain_streams(&mut self, now: Instant) {
        for at in 0..self.channels.len() {
            let channel = &mut self.channels[at];
            if let Some(implementation) = &mut channel.implementation
                && std::mem::take(&mut channel.paused)
            {
                implementation.pause(false, now);
                self.collect(at, now);
            }
        }
    }

    pub(crate) fn position(&self, channel: ChannelId) -> Option<usize> {
        self.channels.iter().position(|c| c.id == channel)
    }

    fn channel_at(&self, channel: ChannelId) -> Option<&Channel> {
        self.channels.iter().find(|c| c.id == channel)
    }

    pub(crate) fn transport_context(&self, content: &Arc<str>) -> TransportContext {
        TransportContext {
            role: self.role,
            local: self.local.clone(),
            remote: self.remote.clone(),
            sid: self.sid.clone(),
            content: content.clone(),
            dialect: self.dialect,
            seed: self.shared.seed(),
            waker: self.waker.clone(),
        }
    }
}

impl Channel {
    pub(super) fn set_path(&mut self, path: bool, now: Instant) {
        match (self.path, path) {
            (true, false) => self.path_lost = Some(now),
            (_, true) => self.path_lost = None,
            (false, false) => {}
        }
        self.path = path;
    }

    /// Whether the transport of this namespace knows the channel by this name.
    pub(crate) fn is_named(&self, name: &str, namespace: &str) -> bool {
        &*self.wire_name == name && &*self.namespace == namespace
    }

    /// Whether it is a stream that had a path, and that we have said our last on.
    fn has_ended(&self) -> bool {
        self.finished && (self.path || self.path_lost.is_some())
    }

    /// Whether an implementation is at work.
    pub(crate) fn is_bound(&self) -> bool {
        self.implementation.is_some()
    }
}
