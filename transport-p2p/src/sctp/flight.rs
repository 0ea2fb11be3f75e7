//! What was sent and is not acknowledged: a ring indexed by transmission sequence number, and beside it the order of
//! departure, from which losses are concluded as RFC 8985 (RACK) does. No work grows with what is on its way.

use super::outbound::{Fragment, Limit};
use crate::pseudotcp::ranges::Ranges;
use bytes::Bytes;
use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

/// Packets that must have overtaken one that counts as lost, as long as no reordering was seen.
const OVERTAKEN: u64 = 3;
/// Below this, the clock's and the scheduler's noise looks like reordering.
const LEAST_REORDERING: Duration = Duration::from_millis(2);
/// What a chunk counts beside its data.
const OVERHEAD: u64 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    OnWay,
    Lost,
    Arrived,
    Abandoned,
}

/// A chunk that was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) fragment: Fragment,
    fate: Fate,
    /// Number of the packet that carried it last.
    packet: u64,
    at: Instant,
    pub(super) times: u16,
}

impl Sent {
    fn size(&self) -> u64 {
        self.fragment.payload.len() as u64 + OVERHEAD
    }
}

/// What an acknowledgement or a deadline has brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes that are newly known to have arrived.
    pub(super) delivered: u64,
    /// When the newest of them was sent, and its round trip.
    pub(super) sent: Option<Instant>,
    pub(super) rtt: Option<Duration>,
    /// Whether the cumulative acknowledgement moved.
    pub(super) advanced: bool,
    /// Something thought to be lost had only been late.
    pub(super) spurious: bool,
}

/// Bytes that are newly thought to be lost, and when the newest of them was sent.
pub(super) type Losses = Option<(u64, Instant)>;

#[derive(Debug)]
pub(super) struct Flight {
    /// Number of the first chunk: behind the cumulative acknowledgement.
    base: u64,
    chunks: VecDeque<Sent>,
    /// What arrived behind the base.
    arrived: Ranges,
    /// Packet and chunk, in the order of departure. Entries of chunks that left again are skipped.
    order: VecDeque<(u64, u64)>,
    lost: VecDeque<u64>,
    on_way: u64,
    outstanding: u64,
    packets: u64,
    /// The newest packet that is known to have arrived, when it left and how long it took.
    newest: Option<(u64, Duration)>,
    reordering: bool,
    /// In quarters of the shortest round trip.
    patience: u32,
    abandoned: usize,
}

impl Flight {
    pub(super) fn new(base: u64) -> Self {
        Self {
            base,
            chunks: VecDeque::new(),
            arrived: Ranges::default(),
            order: VecDeque::new(),
            lost: VecDeque::new(),
            on_way: 0,
            outstanding: 0,
            packets: 0,
            newest: None,
            reordering: false,
            patience: 1,
            abandoned: 0,
        }
    }

    /// Number of the first chunk that is not acknowledged.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// Number of the next new chunk.
    pub(super) fn next(&self) -> u64 {
        self.base + self.chunks.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Bytes thought to be on their way.
    pub(super) fn on_way(&self) -> u64 {
        self.on_way
    }

    /// Bytes of data that are not known to have arrived.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding
    }

    pub(super) fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Begins a packet: what is sent from here on is in it.
    pub(super) fn begin_packet(&mut self) {
        self.packets += 1;
    }

    pub(super) fn get(&self, number: u64) -> Option<&Sent> {
        self.chunks.get(index(self.base, number)?)
    }

    /// A new chunk leaves; returns its number.
    pub(super) fn push(&mut self, fragment: Fragment, now: Instant) -> u64 {
        let number = self.next();
        let sent = Sent {
            fragment,
            fate: Fate::OnWay,
            packet: self.packets,
            at: now,
            times: 1,
        };
        self.on_way += sent.size();
        self.outstanding += sent.fragment.payload.len() as u64;
        self.order.push_back((self.packets, number));
        self.chunks.push_back(sent);
        number
    }

    /// The first chunk that is to be sent again.
    pub(super) fn next_lost(&mut self) -> Option<u64> {
        while let Some(&number) = self.lost.front() {
            if self.get(number).is_some_and(|sent| sent.fate == Fate::Lost) {
                return Some(number);
            }
            self.lost.pop_front();
        }
        None
    }

    /// The last chunks that are on their way and have room for together with `header` each, for a probe of the tail. It is
    /// as large as other packets: it must not arrive where those do not.
    pub(super) fn tail(&self, mut room: usize, header: usize) -> Vec<u64> {
        let on_way = |(at, sent): (usize, &Sent)| {
            (sent.fate == Fate::OnWay)
                .then_some((self.base + at as u64, sent.fragment.payload.len()))
        };
        let last = self.chunks.iter().enumerate().rev().filter_map(on_way);
        let mut tail: Vec<u64> = last
            .map_while(|(number, length)| {
                room = room.checked_sub(super::wire::padded(header + length))?;
                Some(number)
            })
            .collect();
        tail.reverse();
        tail
    }

    /// A chunk leaves again.
    pub(super) fn resend(&mut self, number: u64, now: Instant) {
        let packet = self.packets;
        let Some(at) = index(self.base, number) else {
            return;
        };
        let Some(sent) = self.chunks.get_mut(at) else {
            return;
        };
        if sent.fate == Fate::Lost {
            self.on_way += sent.size();
        }
        sent.fate = Fate::OnWay;
        sent.packet = packet;
        sent.at = now;
        sent.times = sent.times.saturating_add(1);
        self.order.push_back((packet, number));
    }

    /// Everything up to `cumulative` (exclusive) and in `blocks` has arrived.
    pub(super) fn on_sack(
        &mut self,
        cumulative: u64,
        blocks: impl Iterator<Item = Range<u64>>,
        least: Option<Duration>,
        now: Instant,
    ) -> Progress {
        let mut progress = Progress::default();
        let end = self.next();
        let cumulative = cumulative.min(end);
        progress.advanced = cumulative > self.base;
        let mut news = Newest::default();
        for number in self.base..cumulative {
            self.arrive(number, least, now, &mut progress, &mut news);
        }
        for _ in self.base..cumulative {
            if let Some(sent) = self.chunks.pop_front()
                && sent.fate == Fate::Abandoned
            {
                self.abandoned -= 1;
            }
        }
        self.base = self.base.max(cumulative);
        self.arrived.remove_below(self.base);
        for block in blocks {
            let block = block.start.max(self.base)..block.end.min(end);
            self.on_block(block, least, now, &mut progress, &mut news);
        }
        if let Some((packet, at, rtt)) = news.best {
            progress.sent = Some(at);
            progress.rtt = news.rtt;
            if self.newest.is_none_or(|(newest, _)| packet > newest) {
                self.newest = Some((packet, rtt));
            }
        }
        progress
    }

    fn on_block(
        &mut self,
        block: Range<u64>,
        least: Option<Duration>,
        now: Instant,
        progress: &mut Progress,
        news: &mut Newest,
    ) {
        if block.is_empty() {
            return;
        }
        let mut from = block.start;
        loop {
            let gap = self.arrived.gaps(from..block.end).next();
            let Some(gap) = gap else { break };
            for number in gap.clone() {
                self.arrive(number, least, now, progress, news);
            }
            from = gap.end;
        }
        self.arrived.insert(block);
    }

    fn arrive(
        &mut self,
        number: u64,
        least: Option<Duration>,
        now: Instant,
        progress: &mut Progress,
        news: &mut Newest,
    ) {
        let newest = self.newest.map_or(0, |(packet, _)| packet);
        let Some(sent) = index(self.base, number).and_then(|at| self.chunks.get_mut(at)) else {
            return;
        };
        let late = match sent.fate {
            Fate::Arrived | Fate::Abandoned => return,
            Fate::OnWay => {
                self.on_way -= sent.size();
                false
            }
            Fate::Lost => true,
        };
        sent.fate = Fate::Arrived;
        self.outstanding -= sent.fragment.payload.len() as u64;
        progress.delivered += sent.size();
        let rtt = now.saturating_duration_since(sent.at);
        // Karn: too early for the repetition, so it is the first that has arrived after all. (A small packet may take a
        // little less time than any before it.)
        let early = sent.times > 1 && least.is_none_or(|least| rtt < least * 3 / 4);
        if late || early {
            progress.spurious = true;
            self.reordering = true;
            self.patience = (self.patience + 1).min(8);
        }
        if late || early {
            return;
        }
        self.reordering |= sent.times == 1 && sent.packet + OVERTAKEN < newest;
        if news.best.is_none_or(|(packet, _, _)| sent.packet > packet) {
            news.best = Some((sent.packet, sent.at, rtt));
            news.rtt = (sent.times == 1).then_some(rtt);
        }
    }

    /// Concludes what is lost. Returns it, and when there is more to conclude.
    pub(super) fn judge(
        &mut self,
        least: Option<Duration>,
        now: Instant,
    ) -> (Losses, Option<Instant>) {
        let mut losses: Losses = None;
        let Some((newest, rtt)) = self.newest else {
            return (None, None);
        };
        let window = (least.unwrap_or_default() * self.patience / 4).max(LEAST_REORDERING);
        while let Some(&(packet, number)) = self.order.front() {
            let at = index(self.base, number);
            let sent = at.and_then(|at| self.chunks.get_mut(at));
            let Some(sent) = sent.filter(|sent| sent.fate == Fate::OnWay && sent.packet == packet)
            else {
                self.order.pop_front();
                continue;
            };
            if packet >= newest {
                break;
            }
            let overtaken = !self.reordering && newest >= packet + OVERTAKEN;
            let deadline = sent.at + rtt + window;
            if !overtaken && deadline > now {
                return (losses, Some(deadline));
            }
            sent.fate = Fate::Lost;
            self.on_way -= sent.size();
            let so_far = losses.map_or(0, |(bytes, _)| bytes);
            losses = Some((so_far + sent.size(), sent.at));
            self.lost.push_back(number);
            self.order.pop_front();
        }
        (losses, None)
    }

    /// What is on its way since a time that `is_old` recognises was thrown away by the peer.
    pub(super) fn lose(&mut self, is_old: impl Fn(Instant) -> bool) {
        for (at, sent) in self.chunks.iter_mut().enumerate() {
            if sent.fate == Fate::OnWay && is_old(sent.at) {
                sent.fate = Fate::Lost;
                self.on_way -= sent.size();
                self.lost.push_back(self.base + at as u64);
            }
        }
    }

    /// Nothing was heard for a timeout: all that is on its way is lost. With `all`, also what the peer had and may have
    /// thrown away (RFC 9260 §6.2: it may).
    pub(super) fn on_timeout(&mut self, all: bool) {
        self.order.clear();
        self.lost.clear();
        if all {
            self.arrived.clear();
        }
        for (at, sent) in self.chunks.iter_mut().enumerate() {
            if all && sent.fate == Fate::Arrived {
                self.outstanding += sent.fragment.payload.len() as u64;
                sent.fate = Fate::Lost;
            }
            if sent.fate == Fate::OnWay {
                sent.fate = Fate::Lost;
            }
            if sent.fate == Fate::Lost {
                self.lost.push_back(self.base + at as u64);
            }
        }
        self.on_way = 0;
    }

    /// Whether a chunk's message is to be given up instead of sent again.
    pub(super) fn is_expired(&self, number: u64, now: Instant) -> bool {
        self.get(number)
            .is_some_and(|sent| match sent.fragment.limit {
                Limit::Never => false,
                Limit::Repeated(times) => sent.times > times,
                Limit::At(at) => at <= now,
            })
    }

    /// A number for what of a message was never sent and is given up, so that the peer can be told to skip to its end:
    /// it may have everything else.
    pub(super) fn push_abandoned(&mut self, rest: Fragment, now: Instant) {
        self.chunks.push_back(Sent {
            fragment: rest,
            fate: Fate::Abandoned,
            packet: 0,
            at: now,
            times: 0,
        });
        self.abandoned += 1;
    }

    /// Gives up the message of a chunk, with all of its fragments. Returns what stands for those that have not left.
    pub(super) fn abandon(&mut self, number: u64) -> Option<Fragment> {
        let at = index(self.base, number)?;
        let fragment = &self.chunks.get(at)?.fragment;
        let message = fragment.message;
        let rest = Fragment {
            flags: fragment.flags & super::wire::UNORDERED | super::wire::END,
            payload: Bytes::new(),
            ..*fragment
        };
        let mut from = at;
        while from > 0 && !self.is_edge(from, message, super::wire::BEGIN) {
            from -= 1;
        }
        for at in from..self.chunks.len() {
            let sent = &mut self.chunks[at];
            if sent.fragment.message != message {
                continue;
            }
            match sent.fate {
                Fate::OnWay => self.on_way -= sent.size(),
                Fate::Lost | Fate::Arrived => {}
                Fate::Abandoned => continue,
            }
            if sent.fate != Fate::Arrived {
                self.outstanding -= sent.fragment.payload.len() as u64;
            }
            sent.fate = Fate::Abandoned;
            self.abandoned += 1;
            if sent.fragment.flags & super::wire::END != 0 {
                break;
            }
        }
        Some(rest)
    }

    fn is_edge(&self, at: usize, message: u64, flag: u8) -> bool {
        let fragment = &self.chunks[at].fragment;
        fragment.message == message && fragment.flags & flag != 0
    }

    /// The chunks at the front that the peer need not wait for: given up, or arrived among such (RFC 3758 §3.5).
    pub(super) fn skippable(&self) -> impl Iterator<Item = (u64, Option<&Fragment>)> {
        let most = if self.abandoned > 0 {
            self.chunks.len()
        } else {
            0
        };
        let base = self.base;
        self.chunks
            .iter()
            .take(most)
            .take_while(|sent| matches!(sent.fate, Fate::Arrived | Fate::Abandoned))
            .enumerate()
            .map(move |(at, sent)| {
                let given_up = sent.fate == Fate::Abandoned;
                (base + at as u64, given_up.then_some(&sent.fragment))
            })
    }

    /// Whether everything of a stream is acknowledged.
    pub(super) fn is_idle(&self, stream: u16) -> bool {
        self.chunks
            .iter()
            .all(|sent| sent.fragment.stream != stream)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.next());
    }
}

/// The newest packet of an acknowledgement: number, departure and round trip, and that if it says something.
#[derive(Default)]
struct Newest {
    best: Option<(u64, Instant, Duration)>,
    rtt: Option<Duration>,
}

fn index(base: u64, number: u64) -> Option<usize> {
    number.checked_sub(base).map(|at| at as usize)
}
