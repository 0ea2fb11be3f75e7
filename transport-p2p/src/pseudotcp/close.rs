//! How a stream opens and ends, and what the application hears of it.

use super::{Error, Event, PseudoTcp, State};
use std::time::Instant;

/// What [`PseudoTcp::poll_event`] will say, and what it waits for.
#[derive(Debug, Default)]
pub(super) struct Events {
    opened: bool,
    readable: bool,
    writable: bool,
    peer_closed: bool,
    closed: Option<Option<Error>>,
    peer_closed_told: bool,
    /// Nothing tells of data before the application has found the stream empty.
    readable_told: bool,
    pub(super) read_blocked: bool,
    pub(super) write_blocked: bool,
}

impl Events {
    pub(super) fn poll(&mut self) -> Option<Event> {
        if std::mem::take(&mut self.opened) {
            Some(Event::Open)
        } else if std::mem::take(&mut self.readable) {
            Some(Event::Readable)
        } else if std::mem::take(&mut self.writable) {
            Some(Event::Writable)
        } else if std::mem::take(&mut self.peer_closed) {
            Some(Event::PeerClosed)
        } else {
            self.closed.take().map(Event::Closed)
        }
    }

    pub(super) fn on_data(&mut self) {
        if !self.readable_told || std::mem::take(&mut self.read_blocked) {
            self.readable_told = true;
            self.readable = true;
        }
    }

    pub(super) fn on_space(&mut self, space: u64, capacity: usize) {
        if self.write_blocked && space * 2 >= capacity as u64 {
            self.write_blocked = false;
            self.writable = true;
        }
    }

    pub(super) fn on_peer_closed(&mut self) {
        if !self.peer_closed_told {
            self.peer_closed_told = true;
            self.peer_closed = true;
        }
    }
}

impl PseudoTcp {
    /// Ends our direction: what was written is still delivered, then the FIN if both sides know it. The peer's data
    /// can be read on.
    ///
    /// Without FIN the stream is over ([`Event::Closed`]) as soon as everything is acknowledged. With FIN it is over
    /// when the peer has closed too; without a deadline, since half-open streams are legitimate: see
    /// [`abort`](Self::abort).
    pub fn close(&mut self, now: Instant) {
        if self.closing {
            return;
        }
        self.closing = true;
        match self.state {
            State::Listen => self.end(None),
            State::SynSent | State::SynReceived if self.queue.length() == 0 => self.end(None),
            State::SynSent | State::SynReceived => {}
            State::Established => {
                self.state = State::Closing;
                self.advance_close(now);
            }
            State::Closing | State::Lingering | State::Closed => {}
        }
    }

    /// Ends the stream at once; the peer gets an RST with the next [`poll_transmit`](Self::poll_transmit). What was
    /// not acknowledged may be lost.
    pub fn abort(&mut self, _now: Instant) {
        match self.state {
            State::Listen => self.fail(Error::Aborted),
            State::SynSent | State::SynReceived | State::Established | State::Closing => {
                self.fail(Error::Aborted);
                self.reset_due = true;
            }
            State::Lingering | State::Closed => {}
        }
    }

    /// Both CONNECTs have arrived.
    pub(super) fn open(&mut self) {
        self.state = if self.closing {
            State::Closing
        } else {
            State::Established
        };
        self.connect_due = false;
        self.backoff = 0;
        self.events.opened = true;
    }

    /// Looks whether the stream is over after an acknowledgement or a FIN.
    pub(super) fn advance_close(&mut self, now: Instant) {
        if self.state != State::Closing || self.flight.una() < self.stream_end() {
            return;
        }
        if !self.options.fin || self.inbox.is_finished() {
            self.state = State::Lingering;
            self.timers.clear();
            self.arm_linger(now);
            self.events.closed = Some(None);
        }
    }

    /// The peer has reset the stream.
    pub(super) fn on_reset(&mut self) {
        if self.state == State::Lingering || self.only_fin_is_missing() {
            self.end(None);
        } else {
            self.fail(Error::Reset);
        }
    }

    /// Whether all but the acknowledgement of our FIN is done.
    pub(super) fn only_fin_is_missing(&self) -> bool {
        self.closing && self.inbox.is_finished() && self.flight.una() == self.queue.end()
    }

    /// Ends the stream with an error.
    pub(super) fn fail(&mut self, error: Error) {
        if self.state != State::Closed {
            self.error = Some(error);
            self.acknowledgement.clear();
            self.end(Some(error));
        }
    }

    /// Ends the stream; only what can still be read, and a last acknowledgement, remain.
    pub(super) fn end(&mut self, error: Option<Error>) {
        if self.state != State::Lingering {
            self.events.closed = Some(error);
        }
        self.state = State::Closed;
        self.timers.clear();
        self.acknowledgement.at = None;
        self.connect_due = false;
        self.probe_due = false;
        self.window_probe_due = false;
        self.inbox.drop_runs();
        self.queue.release(u64::MAX);
    }

    /// Position behind everything that we will send, the FIN included.
    fn stream_end(&self) -> u64 {
        self.queue.end() + u64::from(self.options.fin)
    }
}
