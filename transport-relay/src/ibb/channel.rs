//! The data plane: blocks out, blocks in, and what holds either back.

use super::{
    BLOCK_SIZE_MIN, IbbConfig, IbbStanza, StanzaLimit,
    words::{self, Terms, Word, refusal},
};
use bytes::{Bytes, BytesMut};
use session_core::{
    ChannelOutput, Condition, Datagram, Element, LocalSocket, Peer, PeerError, RequestAnswer,
    RequestKind, Role, SendError, SocketError, StanzaError, TransportChannel, TransportContext,
    TransportError,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Above this many bytes that wait to be sent, a send is refused.
const SEND_BUFFER: usize = 64 * 1024;
/// The largest piece that a single send takes.
const SEND_MAX: usize = 16 * 1024 * 1024;
/// Above this many bytes that the application does not take, the peer's blocks are not answered.
const HOLD_BYTES: usize = 128 * 1024;
/// How long an answer is kept back at most: a peer takes a longer silence for a broken path.
const HOLD_TIME: Duration = Duration::from_secs(20);
/// Above this many bytes nothing is answered before the application takes some.
const HOLD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Answers that are kept back at most: a session has room for twice as many, of each channel.
const UNANSWERED_MAX: usize = 128;
/// Whoever sends more than this without being answered does not keep to the protocol.
const HELD_MAX: usize = 4 * 1024 * 1024;
/// A block so far behind may be a copy of one that was answered; further away it is one that is ahead.
const COPIES: u16 = 1_024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Our `<open/>` with this number awaits its answer.
    Opening(u32),
    Open,
    Failed,
}

pub(super) struct IbbChannel {
    config: IbbConfig,
    limit: StanzaLimit,
    role: Role,
    remote: Peer,
    /// Bytes of both addresses, as a stanza has them.
    addresses: usize,
    offered: Terms,
    terms: Option<Terms>,
    started: bool,
    phase: Phase,
    next_token: u32,
    sending: Sending,
    receiving: Receiving,
    writable: bool,
    outputs: VecDeque<ChannelOutput>,
}

#[derive(Default)]
struct Sending {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    seq: u16,
    /// The blocks that were not answered, and how long their stanzas are.
    flying: BTreeMap<u32, usize>,
    /// All of them.
    flying_bytes: usize,
    finished: bool,
    /// Our `<close/>`.
    close: Option<u32>,
    delivered: bool,
}

#[derive(Default)]
struct Receiving {
    seq: u16,
    /// Kept back while paused.
    waiting: VecDeque<Bytes>,
    bytes: usize,
    paused: bool,
    /// Blocks that are not answered yet, and since when.
    unanswered: VecDeque<(u32, Instant)>,
    closed: bool,
    end_told: bool,
}

impl IbbChannel {
    pub(super) fn new(
        config: IbbConfig,
        limit: StanzaLimit,
        context: &TransportContext,
        offered: Terms,
        agreed: Option<Terms>,
    ) -> Self {
        Self {
            config,
            limit,
            role: context.role,
            remote: context.remote.clone(),
            addresses: words::length(context.remote.as_str())
                + words::length(context.local.as_str()),
            offered,
            terms: agreed,
            started: false,
            phase: Phase::Idle,
            next_token: 0,
            sending: Sending::default(),
            receiving: Receiving::default(),
            writable: false,
            outputs: VecDeque::new(),
        }
    }

    fn token(&mut self) -> u32 {
        self.next_token = self.next_token.wrapping_add(1);
        self.next_token
    }

    fn ask(&mut self, payload: Element, kind: RequestKind, patience: Option<Duration>) -> u32 {
        let token = self.token();
        self.outputs.push_back(ChannelOutput::Request {
            token,
            to: None,
            payload,
            kind,
            patience,
        });
        token
    }

    /// The initiator opens as soon as the terms are known.
    fn open(&mut self) {
        if self.role == Role::Initiator
            && self.started
            && self.phase == Phase::Idle
            && let Some(terms) = &self.terms
        {
            let open = terms.open();
            self.phase = Phase::Opening(self.ask(open, RequestKind::Query, None));
        }
    }

    fn opened(&mut self) {
        self.phase = Phase::Open;
        self.outputs.push_back(ChannelOutput::Path(true));
        self.flush();
    }

    fn fail(&mut self, error: TransportError) {
        if self.phase != Phase::Failed {
            self.phase = Phase::Failed;
            self.sending = Sending::default();
            self.receiving.unanswered.clear();
            self.outputs.push_back(ChannelOutput::Failed(error));
        }
    }

    /// Sends what the window allows.
    fn flush(&mut self) {
        let Some(terms) = self.terms.clone().filter(|_| self.phase == Phase::Open) else {
            return;
        };
        let kind = match terms.stanza {
            IbbStanza::Iq => RequestKind::Query,
            IbbStanza::Message => RequestKind::Notice,
        };
        let envelope = self.addresses + terms.envelope();
        let room = self.limit.get() / 5 * 4;
        let most = block_size(room, envelope, &terms);
        while self.sending.flying.len() < self.config.window {
            let length = envelope + words::encoded_length(most.min(self.sending.bytes));
            let flying = self.sending.flying_bytes;
            if flying > 0 && flying + length > room {
                break;
            }
            let Some(block) = self.sending.block(most) else {
                break;
            };
            let data = terms.data(self.sending.seq, &block);
            self.sending.seq = self.sending.seq.wrapping_add(1);
            let token = self.ask(data, kind, Some(self.config.patience));
            self.sending.flying.insert(token, length);
            self.sending.flying_bytes += length;
        }
        let sending = &self.sending;
        if sending.finished && sending.close.is_none() && sending.is_empty() {
            let patience = Some(self.config.patience);
            self.sending.close = Some(self.ask(terms.close(), RequestKind::Query, patience));
        }
        self.tell_writable();
    }

    fn tell_writable(&mut self) {
        let most = if self.writable {
            SEND_BUFFER
        } else {
            SEND_BUFFER / 2
        };
        let writable = self.phase == Phase::Open && self.sending.bytes < most;
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    fn block_answered(&mut self, response: Result<Option<Element>, StanzaError>) {
        match response {
            Ok(_) => self.flush(),
            // For the peer there is no stream: nothing is left to close.
            Err(error) if error.condition == Condition::ItemNotFound => {
                self.fail(TransportError::Closed);
            }
            Err(error) => self.fail(TransportError::Unreachable(error.to_string().into())),
        }
    }

    fn close_answered(&mut self, response: Result<Option<Element>, StanzaError>) {
        // Where blocks are answered, all were: whatever the peer says to the end, it has everything.
        let acknowledged = self.terms.as_ref().map(|t| t.stanza) == Some(IbbStanza::Iq);
        match response {
            Err(error) if !acknowledged => {
                self.fail(TransportError::Unreachable(error.to_string().into()));
            }
            Ok(_) | Err(_) if !self.sending.delivered => {
                self.sending.delivered = true;
                self.outputs.push_back(ChannelOutput::Delivered);
            }
            Ok(_) | Err(_) => {}
        }
    }
}

/// Bytes of a block: as many as agreed, or fewer, so that the stanzas of two have room together.
fn block_size(room: usize, envelope: usize, terms: &Terms) -> usize {
    let text = (room / 2).saturating_sub(envelope);
    (text / 4 * 3)
        .max(usize::from(BLOCK_SIZE_MIN))
        .min(usize::from(terms.block_size))
}

impl Sending {
    /// Whether nothing waits and everything was answered.
    fn is_empty(&self) -> bool {
        self.bytes == 0 && self.flying.is_empty()
    }

    /// The next block: as much as there is, up to `max` bytes.
    fn block(&mut self, max: usize) -> Option<Bytes> {
        let first = self.waiting.front_mut()?;
        let block = if first.len() >= max {
            let block = first.split_to(max);
            if first.is_empty() {
                self.waiting.pop_front();
            }
            block
        } else {
            let mut block = BytesMut::with_capacity(max.min(self.bytes));
            while let Some(first) = self.waiting.front_mut().filter(|_| block.len() < max) {
                let piece = first.split_to(first.len().min(max - block.len()));
                block.extend_from_slice(&piece);
                if first.is_empty() {
                    self.waiting.pop_front();
                }
            }
            block.freeze()
        };
        self.bytes -= block.len();
        Some(block)
    }
}

/// What the peer says.
impl IbbChannel {
    fn handle_open(&mut self, block_size: u16, stanza: IbbStanza) -> Result<(), PeerError> {
        let Some(terms) = self.terms.as_mut().filter(|_| self.started) else {
            return Err(refusal::unknown());
        };
        if self.role == Role::Initiator {
            return Err(refusal::unwanted());
        }
        if block_size > terms.block_size {
            return Err(refusal::block_size());
        }
        match self.phase {
            Phase::Idle => {
                terms.block_size = block_size;
                terms.stanza = stanza;
                self.opened();
                Ok(())
            }
            // The same again.
            Phase::Open if (block_size, stanza) == (terms.block_size, terms.stanza) => Ok(()),
            Phase::Opening(_) | Phase::Open | Phase::Failed => Err(refusal::sequence()),
        }
    }

    fn handle_data(&mut self, seq: u16, text: &str, now: Instant) -> RequestAnswer {
        let refuse = |error| RequestAnswer::Now(Err(error));
        if let Phase::Opening(_) = self.phase {
            // Who sends has accepted: the answer was overtaken.
            self.opened();
        }
        let Some(terms) = &self.terms else {
            return refuse(refusal::unknown());
        };
        if self.phase != Phase::Open || self.receiving.closed {
            return refuse(refusal::unknown());
        }
        let lost = TransportError::Malformed {
            field: "data",
            problem: "a block is lost or damaged",
        };
        let behind = self.receiving.seq.wrapping_sub(seq);
        if behind != 0 {
            if behind > COPIES {
                self.fail(lost);
            }
            return refuse(refusal::sequence());
        }
        let answered = terms.stanza == IbbStanza::Iq;
        let Some(bytes) = words::decode(text, terms.block_size) else {
            self.fail(lost);
            return refuse(refusal::malformed("no Base64, or more than a block"));
        };
        if self.receiving.bytes + bytes.len() > HELD_MAX {
            self.fail(TransportError::NoResource("the peer does not wait".into()));
            return refuse(refusal::too_much());
        }
        self.receiving.seq = self.receiving.seq.wrapping_add(1);
        if !bytes.is_empty() {
            self.receiving.bytes += bytes.len();
            self.receiving.waiting.push_back(bytes);
        }
        self.hand_out();
        // Nobody awaits the answer to a message.
        if self.receiving.bytes < HOLD_BYTES || !answered {
            return RequestAnswer::Now(Ok(None));
        }
        // Who does not wait for the first is not held back by the others, and a session keeps only so many.
        if self.receiving.unanswered.len() >= UNANSWERED_MAX
            && let Some((token, _)) = self.receiving.unanswered.pop_front()
        {
            self.answer(token);
        }
        let token = self.token();
        self.receiving.unanswered.push_back((token, now));
        RequestAnswer::Later(token)
    }

    fn handle_close(&mut self) -> Result<(), PeerError> {
        match self.phase {
            Phase::Open => {
                self.receiving.closed = true;
                self.hand_out();
                Ok(())
            }
            Phase::Opening(_) => {
                self.fail(TransportError::Closed);
                Ok(())
            }
            Phase::Idle | Phase::Failed => Err(refusal::unknown()),
        }
    }

    /// Gives the application what has arrived, unless it paused.
    fn hand_out(&mut self) {
        if self.receiving.paused {
            return;
        }
        self.receiving.bytes = 0;
        for bytes in self.receiving.waiting.drain(..) {
            self.outputs.push_back(ChannelOutput::Packet(bytes.into()));
        }
        if self.receiving.closed && !self.receiving.end_told {
            self.receiving.end_told = true;
            self.outputs.push_back(ChannelOutput::Finished);
        }
        let unanswered = std::mem::take(&mut self.receiving.unanswered);
        for (token, _) in unanswered {
            self.answer(token);
        }
    }

    fn answer(&mut self, token: u32) {
        let answer = Ok(None);
        self.outputs
            .push_back(ChannelOutput::Answer { token, answer });
    }

    fn answer_due(&self) -> Option<Instant> {
        let (_, since) = self.receiving.unanswered.front()?;
        (self.receiving.bytes < HOLD_BYTES_MAX)
            .then(|| since.checked_add(HOLD_TIME))
            .flatten()
    }
}

impl TransportChannel for IbbChannel {
    fn connect(&mut self, _: Instant) {
        self.started = true;
        self.open();
    }

    fn handle_info(&mut self, info: &Element, _: Instant) -> Result<(), TransportError> {
        let said = Terms::from_element(info)?;
        let terms = match self.role {
            Role::Initiator => {
                said.check_answer_to(&self.offered)?;
                said
            }
            Role::Responder => said.lowered(&self.config),
        };
        match &self.terms {
            None => self.terms = Some(terms),
            // An `<open/>` may have lowered them since.
            Some(known) if known.sid == terms.sid && known.block_size <= terms.block_size => {}
            Some(_) => {
                return Err(TransportError::Unacceptable("the terms are agreed already"));
            }
        }
        self.open();
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_remote(&mut self, remote: &Peer) {
        self.addresses -= words::length(self.remote.as_str());
        self.addresses += words::length(remote.as_str());
        self.remote = remote.clone();
    }

    fn handle_request(
        &mut self,
        from: &Peer,
        payload: &Element,
        now: Instant,
    ) -> Option<RequestAnswer> {
        let terms = self.terms.as_ref()?;
        if *from != self.remote || self.phase == Phase::Failed {
            return None;
        }
        let simple = |result: Result<(), PeerError>| RequestAnswer::Now(result.map(|()| None));
        Some(match words::word(payload, &terms.sid)? {
            Ok(Word::Open { block_size, stanza }) => simple(self.handle_open(block_size, stanza)),
            Ok(Word::Data { seq, text }) => self.handle_data(seq, &text, now),
            Ok(Word::Close) => simple(self.handle_close()),
            Err(error) => simple(Err(error)),
        })
    }

    fn handle_response(
        &mut self,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        _: Instant,
    ) {
        if let Some(length) = self.sending.flying.remove(&token) {
            self.sending.flying_bytes -= length;
            self.block_answered(response);
        } else if self.sending.close == Some(token) {
            self.close_answered(response);
        } else if self.phase == Phase::Opening(token) {
            match response {
                Ok(_) => self.opened(),
                Err(error) => self.fail(TransportError::Unreachable(error.to_string().into())),
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while self.answer_due().is_some_and(|due| due <= now) {
            if let Some((token, _)) = self.receiving.unanswered.pop_front() {
                self.answer(token);
            }
        }
    }

    fn send(&mut self, packet: Bytes, _: Instant) -> Result<(), SendError> {
        if self.phase == Phase::Failed {
            return Err(SendError::NoSuchChannel);
        }
        if self.sending.finished {
            return Err(SendError::Finished);
        }
        if packet.len() > SEND_MAX {
            return Err(SendError::TooLarge);
        }
        if self.phase != Phase::Open || self.sending.bytes >= SEND_BUFFER {
            return Err(SendError::NotWritable);
        }
        if !packet.is_empty() {
            self.sending.bytes += packet.len();
            self.sending.waiting.push_back(packet);
            self.flush();
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool, _: Instant) {
        self.receiving.paused = paused;
        self.hand_out();
    }

    fn finish(&mut self, _: Instant) {
        self.sending.finished = true;
        self.flush();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.answer_due()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.outputs.pop_front()
    }

    fn describe(&self) -> Option<String> {
        let terms = self.terms.as_ref()?;
        let stanza = match terms.stanza {
            IbbStanza::Iq => "iq",
            IbbStanza::Message => "message",
        };
        Some(format!(
            "in-band, {stanza} stanzas of {} bytes",
            terms.block_size
        ))
    }
}
