//! Which actor gets what: message types, events and admission, by registration.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::inbox::Inbox;

/// The registrations of one messenger. Read on every batch, written at start.
#[derive(Debug, Default)]
pub struct Router {
    table: RwLock<Arc<Routes>>,
}

/// One state of the registrations.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    types: BTreeMap<u32, Arc<Inbox>>,
    events: Vec<Arc<Inbox>>,
    admission: Option<Arc<Inbox>>,
    /// An admission was registered once: without it peers are refused, never let in unasked.
    admits: bool,
}

/// The type, or the admission, has a handler already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// That message type is handled by another actor.
    TypeTaken(u32),
    /// Another actor is the admission.
    AdmissionTaken,
}

impl std::fmt::Display for RouteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TypeTaken(kind) => {
                write!(f, "message type {kind:#06x} has a handler already: one actor a type")
            }
            Self::AdmissionTaken => f.write_str("another actor is the admission already"),
        }
    }
}

impl std::error::Error for RouteError {}

impl Router {
    /// The registrations now.
    pub fn routes(&self) -> Arc<Routes> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Registers an inbox for message types, and for events and admission if asked; all or none.
    ///
    /// # Errors
    /// [`RouteError`]; nothing has changed then.
    pub fn register(
        &self,
        inbox: &Arc<Inbox>,
        types: &[u32],
        events: bool,
        admission: bool,
    ) -> Result<(), RouteError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut routes = Routes::clone(&table);
        for kind in types {
            if routes.types.insert(*kind, inbox.clone()).is_some() {
                return Err(RouteError::TypeTaken(*kind));
            }
        }
        if admission && routes.admission.replace(inbox.clone()).is_some() {
            return Err(RouteError::AdmissionTaken);
        }
        routes.admits |= admission;
        if events {
            routes.events.push(inbox.clone());
        }
        *table = Arc::new(routes);
        Ok(())
    }

    /// Takes an inbox out again: its types have no handler, a held peer no admission.
    pub fn unregister(&self, inbox: &Arc<Inbox>) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut routes = Routes::clone(&table);
        routes.types.retain(|_, other| !Arc::ptr_eq(other, inbox));
        routes.events.retain(|other| !Arc::ptr_eq(other, inbox));
        routes.admission = routes.admission.filter(|other| !Arc::ptr_eq(other, inbox));
        *table = Arc::new(routes);
    }
}

impl Routes {
    /// Who handles that type.
    pub fn of_type(&self, kind: u32) -> Option<&Arc<Inbox>> {
        self.types.get(&kind)
    }

    /// The inboxes that handle a type, one for each type.
    pub(crate) fn inboxes(&self) -> impl Iterator<Item = &Arc<Inbox>> {
        self.types.values()
    }

    /// Who wants events.
    pub fn events(&self) -> &[Arc<Inbox>] {
        &self.events
    }

    /// Whether peers are let in only when asked for, also when nobody is left to ask.
    pub fn admits(&self) -> bool {
        self.admits
    }

    /// Who admits peers.
    pub fn admission(&self) -> Option<&Arc<Inbox>> {
        self.admission.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_not_let_in_unasked_once_the_admission_has_left() {
        let router = Router::default();
        assert!(!router.routes().admits(), "nobody ever wanted to be asked");
        let gate = Inbox::new(1);
        router.register(&gate, &[], false, true).expect("free");
        router.unregister(&gate);
        assert!(router.routes().admission().is_none());
        assert!(router.routes().admits(), "its absence refuses, it does not open");
    }

    #[test]
    fn a_taken_type_changes_nothing() {
        let router = Router::default();
        let (first, second) = (Inbox::new(1), Inbox::new(1));
        router.register(&first, &[0x100], false, false).expect("free");
        let refused = router.register(&second, &[0x101, 0x100], true, true);
        assert_eq!(refused, Err(RouteError::TypeTaken(0x100)));
        let routes = router.routes();
        assert!(routes.of_type(0x101).is_none() && routes.events().is_empty());
        assert!(!routes.admits());
    }
}
