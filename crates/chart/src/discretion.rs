//! What of a projection's resources is shown to whom: its room knows, and every window asks it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hilum_core::Authority;

use crate::error::ChartError;
use crate::resources::Stored;
use crate::search::Withheld;

/// What a room answers: the resource as who asks may see it, with `meta.versionId` and `meta.lastUpdated`; `None` = as if
/// there were none.
pub type Shown<'a> = Pin<Box<dyn Future<Output = Result<Option<String>, ChartError>> + Send + 'a>>;

/// A room's say on resources that its projection owns, registered by the wiring. Asked with each resource that a window
/// reads, current or earlier, and never with one that a door wrote.
pub trait Discretion: Send + Sync {
    /// The resource as `authority` may see it.
    fn show<'a>(&'a self, authority: &'a Authority, stored: &'a Stored) -> Shown<'a>;

    /// Whom no search may find, as far as that can be said of rows.
    fn withheld(&self) -> Withheld;
}

/// The rooms' say, by owner. What nobody has a say on is shown to nobody: a projection that is forgotten in the wiring hides
/// too much, not too little.
#[derive(Clone, Default)]
pub struct Discretions {
    by_owner: Vec<(&'static str, Option<Arc<dyn Discretion>>)>,
}

impl Discretions {
    /// With the say of `owner`'s room.
    #[must_use]
    pub fn of(mut self, owner: &'static str, discretion: Arc<dyn Discretion>) -> Self {
        self.by_owner.push((owner, Some(discretion)));
        self
    }

    /// With a door whose resources every reader of charts sees.
    #[must_use]
    pub fn open_door(mut self, owner: &'static str) -> Self {
        self.by_owner.push((owner, None));
        self
    }

    /// Whom no search may find, by the say of every room.
    pub fn withheld(&self) -> Vec<Withheld> {
        self.by_owner.iter().filter_map(|(_, room)| room.as_ref().map(|room| room.withheld())).collect()
    }

    /// The resource as `authority` may see it; a deletion has nothing to show and is known to those who may know all.
    ///
    /// # Errors
    /// The engines'; [`ChartError::Stored`].
    pub async fn show(&self, authority: &Authority, stored: &Stored) -> Result<Option<String>, ChartError> {
        let owner = self.by_owner.iter().find(|(owner, _)| *owner == stored.owner);
        match owner {
            _ if !authority.reads_charts() => Ok(None),
            Some((_, None)) if stored.deleted => Ok(Some(String::new())),
            Some((_, None)) => stored.json().map(Some),
            Some((_, Some(_))) if stored.deleted => Ok(authority.decides().then(String::new)),
            Some((_, Some(room))) => room.show(authority, stored).await,
            None => Ok(None),
        }
    }
}

impl fmt::Debug for Discretions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_owner.iter().map(|(owner, _)| owner)).finish()
    }
}
