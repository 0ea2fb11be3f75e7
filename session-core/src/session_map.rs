//! [`SessionMap`]: what a client keeps for each of its sessions.

use crate::SessionId;
use std::{collections::BTreeMap, fmt};

/// What a [`SessionClient`](crate::SessionClient) keeps for each of its sessions, found without a search: at the place that the
/// manager has given the session. For what every packet asks; a `BTreeMap` does as well where few are kept.
///
/// What was kept for a session stays until it is removed, also when the session is gone and another one has its place. It takes
/// as much room as the highest place that is in use.
///
/// ```
/// use session_core::{Config, SeededEntropy, SessionManager, SessionMap};
/// # use session_core::testing::{epoch, Recorder, RECORDER_NAMESPACE};
/// # let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
/// # manager.add_client(Recorder::new()).unwrap();
/// let mut packets = SessionMap::new();
/// let id = manager.create_session("a@a.example/1".into(), RECORDER_NAMESPACE, epoch()).unwrap();
/// packets.insert(id, 0_u64);
/// *packets.get_mut(id).unwrap() += 1;
/// assert_eq!(packets.remove(id), Some(1));
/// ```
#[derive(Clone)]
pub struct SessionMap<T> {
    places: Vec<Option<Kept<T>>>,
    /// Of sessions that are gone, where another one was put in their place.
    older: BTreeMap<SessionId, T>,
    count: usize,
}

#[derive(Clone)]
struct Kept<T> {
    generation: u32,
    value: T,
}

impl<T> SessionMap<T> {
    /// An empty one, which holds no memory.
    pub fn new() -> Self {
        Self {
            places: Vec::new(),
            older: BTreeMap::new(),
            count: 0,
        }
    }

    /// How many sessions something is kept for.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What is kept for a session.
    pub fn get(&self, id: SessionId) -> Option<&T> {
        match self.places.get(id.slot as usize) {
            Some(Some(kept)) if kept.generation == id.generation => Some(&kept.value),
            Some(_) | None => self.older.get(&id),
        }
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        match self.places.get_mut(id.slot as usize) {
            Some(Some(kept)) if kept.generation == id.generation => Some(&mut kept.value),
            Some(_) | None => self.older.get_mut(&id),
        }
    }

    /// Whether something is kept for a session.
    pub fn contains(&self, id: SessionId) -> bool {
        self.get(id).is_some()
    }

    /// Keeps something for a session; what was kept for it before comes back.
    pub fn insert(&mut self, id: SessionId, value: T) -> Option<T> {
        if let Some(known) = self.get_mut(id) {
            return Some(std::mem::replace(known, value));
        }
        let place = id.slot as usize;
        if self.places.len() <= place {
            self.places.resize_with(place + 1, || None);
        }
        let kept = Kept {
            generation: id.generation,
            value,
        };
        if let Some(Kept { generation, value }) = self.places[place].replace(kept) {
            let slot = id.slot;
            self.older.insert(SessionId { slot, generation }, value);
        }
        self.count += 1;
        None
    }

    /// Lets go of what is kept for a session.
    pub fn remove(&mut self, id: SessionId) -> Option<T> {
        let place = self.places.get_mut(id.slot as usize);
        let here = |kept: &mut Kept<T>| kept.generation == id.generation;
        let value = match place.and_then(|place| place.take_if(here)) {
            Some(kept) => kept.value,
            None => self.older.remove(&id)?,
        };
        while self.places.pop_if(|last| last.is_none()).is_some() {}
        if self.places.is_empty() {
            self.places = Vec::new();
        }
        self.count -= 1;
        Some(value)
    }

    /// All, those of sessions that lost their place first, the others by their places.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &T)> {
        let places = self.places.iter().zip(0..);
        let current = places.filter_map(|(kept, slot)| {
            let Kept { generation, value } = kept.as_ref()?;
            let generation = *generation;
            Some((SessionId { slot, generation }, value))
        });
        self.older
            .iter()
            .map(|(id, value)| (*id, value))
            .chain(current)
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (SessionId, &mut T)> {
        let places = self.places.iter_mut().zip(0..);
        let current = places.filter_map(|(kept, slot)| {
            let Kept { generation, value } = kept.as_mut()?;
            let generation = *generation;
            Some((SessionId { slot, generation }, value))
        });
        self.older
            .iter_mut()
            .map(|(id, value)| (*id, value))
            .chain(current)
    }

    /// The sessions that something is kept for, in the order of [`iter`](Self::iter).
    pub fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.iter().map(|(id, _)| id)
    }
}

impl<T> Default for SessionMap<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for SessionMap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id() -> impl Strategy<Value = SessionId> {
        (0..6_u32, 0..3_u32).prop_map(|(slot, generation)| SessionId { slot, generation })
    }

    proptest! {
        /// It does what a map does, whatever comes in whatever order, and takes no more room than it must.
        #[test]
        fn as_a_map(steps in prop::collection::vec((id(), 0..3), 1..200)) {
            let (mut map, mut model) = (SessionMap::new(), BTreeMap::new());
            for (number, (id, step)) in steps.into_iter().enumerate() {
                match step {
                    0 => prop_assert_eq!(map.insert(id, number), model.insert(id, number)),
                    1 => prop_assert_eq!(map.remove(id), model.remove(&id)),
                    _ => {
                        let (mine, known) = (map.get_mut(id), model.get_mut(&id));
                        prop_assert_eq!(mine.as_deref(), known.as_deref());
                        mine.into_iter().chain(known).for_each(|value| *value += 1_000);
                    }
                }
                prop_assert_eq!(map.get(id), model.get(&id));
                prop_assert_eq!(map.contains(id), model.contains_key(&id));
                prop_assert_eq!((map.len(), map.is_empty()), (model.len(), model.is_empty()));
                let mut all: Vec<_> = map.iter().map(|(id, value)| (id, *value)).collect();
                let same: Vec<_> = map.iter_mut().map(|(id, value)| (id, *value)).collect();
                prop_assert_eq!(&all, &same);
                prop_assert!(map.ids().eq(all.iter().map(|(id, _)| *id)));
                all.sort_unstable();
                prop_assert!(all.into_iter().eq(model.iter().map(|(id, value)| (*id, *value))));
                let most = model.keys().map(|id| id.slot as usize + 1).max().unwrap_or(0);
                prop_assert!(map.places.len() <= most);
            }
        }
    }
}
