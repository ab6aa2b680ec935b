//! What conditions and references by searches lead to. Each is asked once.

use std::collections::HashMap;

use hilum_core::{Authority, Timestamp};
use hilum_fhir::FhirId;

use super::document::{Asked, Document};
use super::leads::Leads;
use super::{ImportError, Refusal};
use crate::fhir::answer::Trouble;
use crate::fhir::ask::type_of;
use crate::fhir::condition::{Condition, Met};
use crate::limits::IMPORT_SEARCHES_KEPT;
use crate::{References, Room};

const NOTHING: &str = "a reference by a search finds nothing: import what it is to beside it, or before";

/// What a search found: the one resource, as a reference.
type Found = Result<Option<String>, String>;

/// Whether a document can be written now.
pub(super) enum Resolved {
    Yes,
    /// What a search, or a reference, is to may come behind it.
    Later,
}

pub(super) struct Resolver<'a> {
    room: &'a Room,
    authority: &'a Authority,
    began: Timestamp,
    known: HashMap<String, Found>,
    /// Where references must lead to something.
    leads: Option<Leads<'a>>,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(room: &'a Room, authority: &'a Authority, began: Timestamp) -> Self {
        let must_lead = room.policy.references == References::Exist;
        let leads = must_lead.then(|| Leads::new(room, authority));
        Self { room, authority, began, known: HashMap::new(), leads }
    }

    /// Forgets what was not found: it may be there now.
    pub(super) fn begin_round(&mut self) {
        self.known.retain(|_, found| matches!(found, Ok(Some(_))));
        self.leads.iter_mut().for_each(Leads::begin_round);
    }

    /// Decides, before the last round, what of what was left may come together.
    pub(super) fn settle(&mut self) {
        self.leads.iter_mut().for_each(Leads::settle);
    }

    /// Decides where the document's resources stand, and what its references lead to. In the `last` round a search that finds
    /// nothing refuses what needs it. `text` is what the document was read from.
    pub(super) async fn resolve(
        &mut self,
        text: &str,
        document: &mut Document,
        last: bool,
        refused: &mut Vec<Refusal>,
    ) -> Result<Resolved, ImportError> {
        // Conditions first: what one of them creates is what a reference by the same search is to.
        let mut kept = Vec::with_capacity(document.asked.len());
        for mut asked in std::mem::take(&mut document.asked) {
            match self.condition(&mut asked, document).await? {
                Ok(true) => kept.push(asked),
                Ok(false) => {}
                Err(why) => refused.push(asked.at.refuse_in(asked.resource_type, why)),
            }
        }
        document.asked = kept;
        let searches: Vec<String> = document.searches.iter().cloned().collect();
        for search in searches {
            match self.look(&search).await? {
                Ok(Some(to)) => drop(document.links.known.insert(search, to)),
                Ok(None) if !last => {
                    self.leads.iter_mut().for_each(|leads| leads.hold(text, document));
                    return Ok(Resolved::Later);
                }
                Ok(None) => drop(document.links.lost.insert(search, NOTHING.to_owned())),
                Err(why) => drop(document.links.lost.insert(search, why)),
            }
        }
        match &mut self.leads {
            Some(leads) => leads.look(text, document, last, refused).await,
            None => Ok(Resolved::Yes),
        }
    }

    /// Whether the resource is to be written, its place being decided.
    async fn condition(
        &mut self,
        asked: &mut Asked,
        document: &mut Document,
    ) -> Result<Result<bool, String>, ImportError> {
        let Some(condition) = &asked.condition else { return Ok(Ok(true)) };
        let ours = format!("{}/{}", asked.resource_type, asked.logical);
        let found = match self.look(&condition.search).await? {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        let Some(found) = found else {
            // Whoever refers to it by the same search is answered without the engine.
            self.keep(condition.search.clone(), Ok(Some(ours)));
            return Ok(Ok(true));
        };
        if found == ours {
            // What it would create is there, or on its way: it is compared as any other.
            return Ok(Ok(true));
        }
        let keeps = condition.keeps;
        if !keeps {
            let id = found.rsplit_once('/').and_then(|(_, id)| FhirId::parse(id).ok());
            let Some(id) = id.filter(|_| asked.names) else {
                return Ok(Err("what meets the condition has another id than the resource".to_owned()));
            };
            asked.logical = id;
        }
        if let Some(url) = &asked.full_url {
            document.links.known.insert(url.clone(), found);
        }
        Ok(Ok(!keeps))
    }

    async fn look(&mut self, search: &str) -> Result<Found, ImportError> {
        if let Some(found) = self.known.get(search) {
            return Ok(found.clone());
        }
        let found = self.ask(search).await?;
        self.keep(search.to_owned(), found.clone());
        Ok(found)
    }

    fn keep(&mut self, search: String, found: Found) {
        if self.known.len() >= IMPORT_SEARCHES_KEPT {
            self.known.clear();
        }
        self.known.insert(search, found);
    }

    async fn ask(&self, search: &str) -> Result<Found, ImportError> {
        let (ty, criteria) = search.split_once('?').unwrap_or_default();
        let condition = match type_of(ty).and_then(|ty| Condition::parse(ty, criteria)) {
            Ok(condition) => condition,
            Err(why) => return Ok(Err(why.text())),
        };
        match condition.look_whole(self.room, self.authority, self.began).await {
            Ok(Met::Nothing) => Ok(Ok(None)),
            Ok(Met::One(place)) => Ok(Ok(Some(format!("{}/{}", place.resource_type, place.logical)))),
            Ok(Met::Several) => Ok(Err(Trouble::Several.text())),
            Err(Trouble::Fault(_)) => Err(ImportError::Search),
            Err(other) => Ok(Err(other.text())),
        }
    }
}
