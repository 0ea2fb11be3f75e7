//! What is typed during a call.

use session_voice::Digit;
use std::io::BufRead;
use tokio::sync::mpsc;

/// Keys that wait at most.
const KEYS_MAX: usize = 32;

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// `m`: mutes us, or ends that.
    Mute,
    /// `h`: puts the peer on hold, or ends that.
    Hold,
    /// `q`: hangs up.
    Quit,
    /// A digit for the peer.
    Digit(Digit),
}

impl Key {
    fn new(key: char) -> Option<Self> {
        match key {
            'm' => Some(Self::Mute),
            'h' => Some(Self::Hold),
            'q' => Some(Self::Quit),
            key => Digit::new(key).ok().map(Self::Digit),
        }
    }
}

/// Reads keys from standard input, each line's at once. Its thread waits for input until the program ends.
pub(crate) fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(KEYS_MAX);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            for key in line.chars().filter_map(Key::new) {
                if sender.blocking_send(key).is_err() {
                    return;
                }
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_meanings() {
        assert_eq!(Key::new('m'), Some(Key::Mute));
        assert_eq!(Key::new('#'), Digit::new('#').ok().map(Key::Digit));
        assert_eq!(Key::new('z'), None);
    }
}
