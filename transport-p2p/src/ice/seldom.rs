//! What few agents have: a value that takes no memory until it is changed.

use std::ops::{Deref, DerefMut};

/// Reads as [`Nothing::nothing`] until it is first changed. One pointer large.
pub(super) struct Seldom<T>(Option<Box<T>>);

/// A type with a value that says that there is nothing.
pub(super) trait Nothing: Default + 'static {
    /// That value, which stands for all that have nothing.
    fn nothing() -> &'static Self;
}

impl<T> Default for Seldom<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Seldom<T> {
    /// The value, if it was ever changed.
    pub(super) fn there(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }
}

impl<T: Nothing> Deref for Seldom<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => T::nothing(),
        }
    }
}

impl<T: Nothing> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
