//! Memory for packets that wait: it comes back when they are gone, so that none is asked for while a call goes on.

use crate::lines::prefetch_room;
use bytes::{Bytes, BytesMut};
use std::mem::offset_of;

/// Bytes of a block: some nine packets of Opus, of which three wait on most networks.
const BLOCK: usize = 1_024;

/// Bytes of a packet of sound, most often.
const PACKET: usize = 128;

/// Two blocks in turn. When one is used up, the packets that were cut from the other have been played, most often; then
/// its memory serves again.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct Memory {
    block: BytesMut,
    before: BytesMut,
}

impl Memory {
    /// So many bytes from its beginning are what each packet touches.
    pub(super) const TOUCHED: usize = offset_of!(Self, before);

    /// Asks the processor for where the next packet will be kept.
    pub(super) fn prefetch(&self) {
        prefetch_room(&self.block, PACKET);
    }

    /// Runs `change` on a copy of a packet, and cuts what is left of it off.
    ///
    /// # Errors
    /// Of `change`; then nothing is kept.
    pub(super) fn keep<E>(
        &mut self,
        packet: &[u8],
        change: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<Bytes, E> {
        // Most often packets wait in the block, and it stays as it is. But whether any do is known far away, and `split` below stands
        // still until the answer is here: so it is asked for before `change`, which takes its time.
        let wanted = BLOCK.max(packet.len());
        if !self.block.try_reclaim(wanted) && self.block.capacity() < packet.len() {
            std::mem::swap(&mut self.block, &mut self.before);
            if !self.block.try_reclaim(wanted) {
                self.block = BytesMut::with_capacity(wanted);
            }
        }
        self.block.extend_from_slice(packet);
        let changed = change(&mut self.block);
        let kept = self.block.split();
        changed.map(|()| kept.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::VecDeque, convert::Infallible};

    fn keep(memory: &mut Memory, packet: &[u8]) -> Bytes {
        let same = |_: &mut BytesMut| Ok::<(), Infallible>(());
        memory
            .keep(packet, same)
            .unwrap_or_else(|never| match never {})
    }

    #[test]
    fn what_waits_keeps_its_bytes_and_what_is_gone_gives_its_memory_back() {
        let (mut memory, mut waiting) = (Memory::default(), VecDeque::new());
        let mut round = |number: u32| {
            let packet = [number as u8; 110];
            waiting.push_back((packet, keep(&mut memory, &packet)));
            if waiting.len() > 5 {
                let (packet, kept) = waiting.pop_front().unwrap();
                assert_eq!(kept, packet[..]);
            }
        };
        (0..100).for_each(&mut round);
        let count = allocation_counter::measure(|| (100..1_000).for_each(&mut round));
        assert_eq!(count.count_total, 0);
    }

    #[test]
    fn more_may_wait_than_two_blocks_hold_and_a_packet_may_be_larger_than_one() {
        let mut memory = Memory::default();
        let sizes = [110, 3_000, 60_000, 0, 1, 2_048, 2_049];
        let packets: Vec<Vec<u8>> = (0..200_usize)
            .map(|number| vec![number as u8; sizes[number % sizes.len()]])
            .collect();
        let kept: Vec<Bytes> = packets.iter().map(|p| keep(&mut memory, p)).collect();
        for (packet, kept) in packets.iter().zip(&kept) {
            assert_eq!(packet[..], kept[..]);
        }
    }

    #[test]
    fn what_is_refused_is_not_kept() {
        let mut memory = Memory::default();
        let first = keep(&mut memory, b"first");
        assert_eq!(memory.keep(b"forged", |_| Err("forged")), Err("forged"));
        assert_eq!(keep(&mut memory, b"second"), b"second"[..]);
        assert_eq!(first, b"first"[..]);
    }
}
