//! The components of an agent: few, most often one, and looked up with every packet.

use super::component::Component;
use std::sync::Arc;

/// Sorted by number. The names of the methods are those of a map.
pub(super) struct Components {
    all: Vec<Component>,
    /// The numbers once more, to be walked while the components change.
    ids: Arc<[u16]>,
}

impl Components {
    pub(super) fn new() -> Self {
        Self {
            all: Vec::new(),
            ids: Arc::new([]),
        }
    }

    /// In place of one with the same number.
    pub(super) fn insert(&mut self, component: Component) {
        match self.position(component.id) {
            Ok(at) => self.all[at] = component,
            Err(at) => {
                self.all.reserve_exact(1);
                self.all.insert(at, component);
                self.ids = self.all.iter().map(|c| c.id).collect();
            }
        }
    }

    pub(super) fn remove(&mut self, id: &u16) {
        if let Ok(at) = self.position(*id) {
            self.all.remove(at);
            self.ids = self.all.iter().map(|c| c.id).collect();
        }
    }

    pub(super) fn get(&self, id: &u16) -> Option<&Component> {
        self.all.get(self.position(*id).ok()?)
    }

    pub(super) fn get_mut(&mut self, id: &u16) -> Option<&mut Component> {
        let at = self.position(*id).ok()?;
        self.all.get_mut(at)
    }

    pub(super) fn values(&self) -> std::slice::Iter<'_, Component> {
        self.all.iter()
    }

    pub(super) fn values_mut(&mut self) -> std::slice::IterMut<'_, Component> {
        self.all.iter_mut()
    }

    /// The numbers, as they are now.
    pub(super) fn ids(&self) -> Arc<[u16]> {
        self.ids.clone()
    }

    fn position(&self, id: u16) -> Result<usize, usize> {
        self.all.binary_search_by_key(&id, |component| component.id)
    }
}
