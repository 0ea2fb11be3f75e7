//! What there is instead of [`Sealed`] where nobody can encrypt: no value of it.
#![allow(
    clippy::needless_pass_by_ref_mut,
    reason = "what there is with the feature `jet` changes"
)]

use super::Fault;
use crate::{Hash, Progress};
use bytes::Bytes;

#[derive(Debug)]
pub(crate) enum Sealed {}

impl Sealed {
    pub(crate) fn most(&self) -> u64 {
        match *self {}
    }

    pub(crate) fn seal(&mut self, _: Bytes) -> Result<Bytes, Fault> {
        match *self {}
    }

    pub(crate) fn tag(&mut self) -> Option<Bytes> {
        match *self {}
    }

    pub(crate) fn open(&mut self, _: &[u8], _: Option<u64>) -> Result<Bytes, Fault> {
        match *self {}
    }

    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match *self {}
    }

    pub(crate) fn is_proven(&self) -> bool {
        match *self {}
    }

    pub(crate) fn wire_hashes(&self) -> Vec<Hash> {
        match *self {}
    }

    pub(crate) fn of_file(&self, _: Progress) -> Progress {
        match *self {}
    }
}
