//! What is typed during a call: each key at once where somebody sits at a terminal, whole lines where not.

use crate::screen::Screen;
use crossterm::{
    event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    terminal,
};
use session_voice::Digit;
use session_xmpp::cli::Stop;
use std::io::{BufRead, IsTerminal};
use tokio::sync::mpsc;

/// Keys that wait at most.
const KEYS_MAX: usize = 32;

/// How a program ends that was interrupted (128 and the number of the signal).
const INTERRUPTED: i32 = 130;

/// What a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// `m`: mutes us, or ends that.
    Mute,
    /// `h`: puts the peer on hold, or ends that.
    Hold,
    /// `q`, or a signal that asks for an end: hangs up.
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

/// What was pressed before the answer, and is done with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// To be muted.
    pub(crate) mute: bool,
    /// To put the peer on hold.
    pub(crate) hold: bool,
}

/// The keys as they come. The terminal is as it was once it is dropped.
#[derive(Debug)]
pub(crate) struct Keys {
    receiver: mpsc::Receiver<Key>,
    is_raw: bool,
    pub(crate) wishes: Wishes,
}

impl Keys {
    /// Reads standard input in a thread that waits there until the program ends. Must be called inside tokio's runtime.
    pub(crate) fn open() -> Self {
        let (sender, receiver) = mpsc::channel(KEYS_MAX);
        let is_raw = std::io::stdin().is_terminal() && terminal::enable_raw_mode().is_ok();
        let read = if is_raw { read_keys } else { read_lines };
        let to = sender.clone();
        std::thread::spawn(move || read(&to));
        tokio::spawn(async move {
            // Without signals the keys remain.
            let Ok(mut stop) = Stop::new() else { return };
            stop.asked().await;
            if sender.send(Key::Quit).await.is_ok() {
                // Whoever interrupts twice does not want to wait for an end in order.
                stop.asked().await;
                restore(terminal::is_raw_mode_enabled().unwrap_or_default());
                std::process::exit(INTERRUPTED);
            }
        });
        Self {
            receiver,
            is_raw,
            wishes: Wishes::default(),
        }
    }

    /// Whether the terminal takes each character as it is.
    pub(crate) fn is_raw(&self) -> bool {
        self.is_raw
    }

    /// A key that was pressed already.
    pub(crate) fn try_next(&mut self) -> Option<Key> {
        self.receiver.try_recv().ok()
    }

    /// Waits until somebody wants to end what is no conversation yet.
    pub(crate) async fn quit(&mut self, screen: &Screen) {
        loop {
            match self.receiver.recv().await {
                Some(Key::Quit) => return,
                Some(key) => self.wish(key, screen),
                None => std::future::pending().await,
            }
        }
    }

    /// A key before the answer: mute and hold wait for it, and a digit has nobody whom it could be for.
    pub(crate) fn wish(&mut self, key: Key, screen: &Screen) {
        let (what, wish) = match key {
            Key::Mute => ("mute", &mut self.wishes.mute),
            Key::Hold => ("hold", &mut self.wishes.hold),
            Key::Digit(_) => return screen.refused("digits are for who has answered"),
            Key::Quit => return,
        };
        *wish = !*wish;
        screen.switched(what, *wish);
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        restore(self.is_raw);
    }
}

fn restore(is_raw: bool) {
    if is_raw {
        // A terminal that is gone needs nothing.
        let _ = terminal::disable_raw_mode();
    }
}

fn read_keys(to: &mpsc::Sender<Key>) {
    while let Ok(event) = crossterm::event::read() {
        let Event::Key(key) = event else { continue };
        if key_of(key).is_some_and(|key| to.blocking_send(key).is_err()) {
            return;
        }
    }
}

/// What is meant by a key of the keyboard; with Ctrl, Alt and their like it is another key than its letter.
fn key_of(event: KeyEvent) -> Option<Key> {
    let KeyCode::Char(character) = event.code else {
        return None;
    };
    if event.kind == KeyEventKind::Release {
        return None;
    }
    match event.modifiers {
        KeyModifiers::NONE | KeyModifiers::SHIFT => Key::new(character),
        // The terminal makes no signal of it now.
        KeyModifiers::CONTROL if character == 'c' => Some(Key::Quit),
        _ => None,
    }
}

fn read_lines(to: &mpsc::Sender<Key>) {
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        for key in line.chars().filter_map(Key::new) {
            if to.blocking_send(key).is_err() {
                return;
            }
        }
    }
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

    #[tokio::test]
    async fn what_is_pressed_before_the_answer_is_kept() {
        let (sender, receiver) = mpsc::channel(KEYS_MAX);
        let mut keys = Keys {
            receiver,
            is_raw: false,
            wishes: Wishes::default(),
        };
        for key in "mh5hq".chars().filter_map(Key::new) {
            sender.send(key).await.ok();
        }
        keys.quit(&Screen::new(false, true, false)).await;
        let muted = Wishes {
            mute: true,
            hold: false,
        };
        assert_eq!(keys.wishes, muted);
    }

    #[test]
    fn a_key_with_ctrl_is_another_key() {
        let pressed = |character, modifiers| {
            let code = KeyCode::Char(character);
            let event = |kind| KeyEvent::new_with_kind(code, modifiers, kind);
            assert_eq!(key_of(event(KeyEventKind::Release)), None);
            let held = key_of(event(KeyEventKind::Repeat));
            assert_eq!(held, key_of(event(KeyEventKind::Press)));
            held
        };
        let digit = |key| Digit::new(key).ok().map(Key::Digit);
        let (none, ctrl, alt) = (KeyModifiers::NONE, KeyModifiers::CONTROL, KeyModifiers::ALT);
        assert_eq!(pressed('h', none), Some(Key::Hold));
        assert_eq!(pressed('*', KeyModifiers::SHIFT), digit('*'));
        assert_eq!(pressed('D', KeyModifiers::SHIFT), digit('d'));
        assert_eq!(pressed('c', ctrl), Some(Key::Quit));
        for character in ['d', 'h', 'm', 'q', '5'] {
            for modifiers in [ctrl, alt, ctrl | alt, ctrl | KeyModifiers::SHIFT] {
                assert_eq!(pressed(character, modifiers), None, "{character}");
            }
        }
        assert_eq!(pressed('c', alt), None);
        let enter = KeyEvent::new(KeyCode::Enter, none);
        assert_eq!(key_of(enter), None);
    }
}
