//! Memory by the lines of the processor's cache: in thousands of calls, each is one that has to come from far away.

use prefetch_index::prefetch_index;
use std::ops::{Deref, DerefMut, Range};

/// Bytes of a line.
pub(crate) const LINE: usize = 64;

/// The beginning of something in memory: nothing by itself, and where the first field of a `repr(C)` is.
pub(crate) type Start = [u64; 0];

/// Asks for these bytes, counted from here on, of which there is one at least, and does not wait for them. They may begin anywhere
/// in a line. It costs least with a range that the compiler knows.
#[inline]
pub(crate) fn prefetch(start: &Start, bytes: Range<usize>) {
    for at in bytes.clone().step_by(LINE) {
        prefetch_index(start, at / size_of::<u64>());
    }
    prefetch_index(start, (bytes.end - 1) / size_of::<u64>());
}

/// Asks for so many bytes from where these begin, which may be more than they are. They may begin anywhere in a line.
pub(crate) fn prefetch_room(bytes: &[u8], room: usize) {
    for at in (0..room).step_by(LINE).chain([room]) {
        prefetch_index(bytes, at);
    }
}

/// Asks for all of a slice, which begins where it likes.
pub(crate) fn prefetch_all<T>(slice: &[T]) {
    let step = (LINE / size_of::<T>().max(1)).max(1);
    for at in (0..slice.len()).step_by(step).chain([slice.len()]) {
        prefetch_index(slice, at);
    }
}

/// Begins where a line does, so that it lies in as few of them as it can.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Lines<T> {
    start: Start,
    value: T,
}

impl<T> Lines<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { start: [], value }
    }

    /// Asks for these bytes of it.
    pub(crate) fn prefetch(&self, bytes: Range<usize>) {
        prefetch(&self.start, bytes);
    }
}

impl<T> Deref for Lines<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Lines<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_begins_where_its_lines_do() {
        let lines: Vec<Lines<[u8; 65]>> = vec![Lines::new([7; 65]), Lines::new([8; 65])];
        for (lines, byte) in lines.iter().zip([7, 8]) {
            let value: *const [u8; 65] = &raw const **lines;
            assert_eq!(value.addr() % LINE, 0);
            assert_eq!(lines.start.as_ptr().addr(), value.addr());
            assert_eq!(**lines, [byte; 65]);
        }
        assert_eq!(size_of::<Lines<[u8; 65]>>(), 2 * LINE);
    }
}
