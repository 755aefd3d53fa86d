//! A part of the model's state that is shared until edited, and hashed once an edit.
//!
//! A step of the model touches one session; without this every step would copy and hash both.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) struct Cached<T> {
    value: Arc<T>,
    hash: u64,
}

impl<T: Hash + Clone> Cached<T> {
    pub(crate) fn new(value: T) -> Self {
        let hash = hash_of(&value);
        Self { value: Arc::new(value), hash }
    }

    pub(crate) fn edit<R>(&mut self, edit: impl FnOnce(&mut T) -> R) -> R {
        let result = edit(Arc::make_mut(&mut self.value));
        self.hash = hash_of(&*self.value);
        result
    }
}

fn hash_of<T: Hash>(value: &T) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl<T> std::ops::Deref for Cached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Cached<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
            && (Arc::ptr_eq(&self.value, &other.value) || self.value == other.value)
    }
}

impl<T> Hash for Cached<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.hash.hash(state);
    }
}
