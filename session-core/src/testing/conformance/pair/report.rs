//! What happened, for the reader of a report.

use super::{Channel, Pair, TRACE_LINES};
use crate::{ChannelOutput, testing::conformance::Breach};

impl Pair {
    pub(in super::super) fn breach(&mut self, rule: &'static str, what: String) {
        self.note(|| format!("BREACH of {rule}: {what}"));
        self.breach.get_or_insert_with(|| Breach::new(rule, what));
    }

    pub(in super::super) fn trace(&self) -> String {
        self.trace
            .iter()
            .fold(String::new(), |text, line| text + "\n    " + line)
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        let time = self.now.saturating_duration_since(self.start);
        let mut line = line();
        if let Some((at, _)) = line.char_indices().nth(160) {
            line.truncate(at);
            line.push('…');
        }
        self.trace
            .push_back(format!("{:>9.3}s {line}", time.as_secs_f64()));
    }

    pub(super) fn digest(&mut self, end: usize, output: &ChannelOutput) {
        let name = Self::title(end);
        let time = self.now.saturating_duration_since(self.start);
        let text = format!("{time:?}{name}{output:?}");
        for byte in text.bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.note(|| format!("{name} -> {output:?}"));
    }

    pub(super) fn title(end: usize) -> char {
        if end == 0 { 'A' } else { 'B' }
    }
}

impl Channel {
    pub(in super::super) fn summary(&self) -> String {
        format!(
            "{} writable={} path={:?} failed={:?} sockets={} refused infos={:?}",
            self.name,
            self.writable,
            self.path,
            self.failed,
            self.sockets.len(),
            self.refused
        )
    }
}
