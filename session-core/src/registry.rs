//! [`TransportRegistry`]: the transports that sessions may use.

use crate::{Element, Misuse, PeerError, TransportFactory};
use std::{fmt, sync::Arc};

/// The registered transports, in order of registration. Cheap to clone; every session holds one.
#[derive(Clone, Default)]
pub struct TransportRegistry {
    factories: Arc<Vec<Arc<dyn TransportFactory>>>,
}

impl TransportRegistry {
    /// Adds a transport.
    ///
    /// # Errors
    /// [`Misuse::DuplicateTransport`] when its namespace is registered already.
    pub fn register(&mut self, factory: impl TransportFactory + 'static) -> Result<(), Misuse> {
        if self.factory(factory.namespace()).is_some() {
            return Err(Misuse::DuplicateTransport(factory.namespace().into()));
        }
        Arc::make_mut(&mut self.factories).push(Arc::new(factory));
        Ok(())
    }

    /// The factory registered under this namespace.
    pub fn factory(&self, namespace: &str) -> Option<&Arc<dyn TransportFactory>> {
        self.factories.iter().find(|f| f.namespace() == namespace)
    }

    /// What a request is answered whose words a transport knows, and that no channel took.
    pub(crate) fn unclaimed_request(&self, payload: &Element) -> Option<PeerError> {
        self.factories
            .iter()
            .find_map(|factory| factory.unclaimed_request(payload))
    }

    /// All factories, in order of registration.
    pub fn factories(&self) -> impl Iterator<Item = &Arc<dyn TransportFactory>> {
        self.factories.iter()
    }
}

impl fmt::Debug for TransportRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.factories.iter().map(|f| f.namespace()))
            .finish()
    }
}
