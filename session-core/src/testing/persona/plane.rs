//! The data of a [`Stranger`](super::Stranger): one transport and its channels.

use crate::{
    ChannelOutput, Element, InfoTarget, Transport, TransportChannel, TransportContext,
    TransportError, TransportFactory,
};
use std::time::Instant;

/// How many channels a plane has at most, and the distance between the numbers of planes.
const CHANNELS: u32 = 2;

pub(super) struct Plane {
    /// Its channels have this number and those that follow.
    pub(super) number: u32,
    transport: Box<dyn Transport>,
    names: &'static [&'static str],
    channels: Vec<Box<dyn TransportChannel>>,
    /// What arrived before there were channels: for whom, or for all.
    held: Vec<(InfoTarget, Element)>,
}

impl Plane {
    pub(super) fn new(
        count: u32,
        names: &'static [&'static str],
        factory: &dyn TransportFactory,
        context: &TransportContext,
    ) -> Self {
        Self {
            number: count * CHANNELS,
            transport: factory.create(context),
            names,
            channels: Vec::new(),
            held: Vec::new(),
        }
    }

    pub(super) fn namespace(&self) -> &str {
        self.transport.namespace()
    }

    pub(super) fn has(&self, number: u32) -> bool {
        (self.number..self.number + CHANNELS).contains(&number)
    }

    /// Goes without the second channel.
    pub(super) fn narrow(&mut self) {
        self.names = &self.names[..1];
        self.channels.truncate(1);
    }

    pub(super) fn offer(&mut self) -> Element {
        self.transport.offer()
    }

    pub(super) fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        let answer = self.transport.accept_offer(offer)?;
        self.held.extend(self.transport.split_info(offer)?);
        Ok(answer)
    }

    pub(super) fn accept_answer(
        &mut self,
        answer: &Element,
        now: Instant,
    ) -> Result<(), TransportError> {
        self.transport.accept_answer(answer)?;
        self.handle_info(answer, now)
    }

    pub(super) fn handle_info(
        &mut self,
        info: &Element,
        now: Instant,
    ) -> Result<(), TransportError> {
        self.held.extend(self.transport.split_info(info)?);
        self.pass_held(now)
    }

    fn pass_held(&mut self, now: Instant) -> Result<(), TransportError> {
        if self.channels.is_empty() {
            return Ok(());
        }
        for (target, info) in self.held.drain(..) {
            for (name, channel) in self.names.iter().zip(&mut self.channels) {
                let fits = match &target {
                    InfoTarget::Channel(wanted) => **wanted == **name,
                    InfoTarget::All => true,
                };
                if fits {
                    channel.handle_info(&info, now)?;
                }
            }
        }
        Ok(())
    }

    /// Begins to look for a path.
    pub(super) fn connect(&mut self, now: Instant) -> Result<(), TransportError> {
        if self.channels.is_empty() {
            for name in self.names {
                let mut channel = self.transport.create_channel(name)?;
                channel.connect(now);
                self.channels.push(channel);
            }
        }
        self.pass_held(now)
    }

    /// Puts together what channels want to say, each with its number.
    pub(super) fn wrap(&mut self, infos: Vec<(u32, Element)>) -> Element {
        let named = infos.into_iter().map(|(number, info)| {
            let at = number.saturating_sub(self.number) as usize;
            (self.names.get(at).copied().unwrap_or_default().into(), info)
        });
        self.transport.wrap_info(named.collect())
    }

    /// The channel with this number.
    pub(super) fn channel_of(&mut self, number: u32) -> Option<&mut dyn TransportChannel> {
        let at = number.checked_sub(self.number)? as usize;
        match self.channels.get_mut(at) {
            Some(channel) => Some(&mut **channel),
            None => None,
        }
    }

    /// The first channel.
    pub(super) fn channel(&mut self) -> Option<&mut dyn TransportChannel> {
        self.channel_of(self.number)
    }

    pub(super) fn channels(
        &mut self,
    ) -> impl Iterator<Item = (u32, &mut Box<dyn TransportChannel>)> {
        (self.number..).zip(&mut self.channels)
    }

    pub(super) fn poll_output(&mut self) -> Option<(u32, ChannelOutput)> {
        self.channels()
            .find_map(|(number, channel)| Some((number, channel.poll_output()?)))
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        for (_, channel) in self.channels() {
            if channel.poll_timeout().is_some_and(|at| at <= now) {
                channel.handle_timeout(now);
            }
        }
    }

    pub(super) fn close(&mut self) {
        for (_, channel) in self.channels() {
            channel.close();
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let channels = self.channels.iter();
        channels.filter_map(|channel| channel.poll_timeout()).min()
    }
}
