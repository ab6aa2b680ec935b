//! References to nothing (`fhir.references = "exist"`): what an import takes leads to what stands, or to what comes with it.
//!
//! A document that refers to what does not stand yet is read again, behind what it waits for. What is left when no round
//! helps any more may refer to each other: of that is taken what leads nowhere else.

use std::collections::{BTreeMap, HashSet};

use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::{Authority, Id};

use super::document::{Document, draft};
use super::resolve::Resolved;
use super::work::checked;
use super::{ImportError, Refusal};
use crate::fhir::ask::Place;
use crate::fhir::references::led;
use crate::limits::IMPORT_STANDING_KEPT;
use crate::{Room, logical};

const NOTHING: &str = "the reference leads to nothing here: import what it leads to beside it, or before";

type Target = (&'static str, Id);

/// A resource of a document, and what it refers to; absent: nothing that could be.
struct Refers {
    /// Its place among what the document asks for.
    at: usize,
    target: Target,
    to: Vec<(String, Option<Place>)>,
}

/// A resource that waits, and for what.
struct Waits {
    target: Target,
    to: Vec<Option<Target>>,
}

pub(super) struct Leads<'a> {
    room: &'a Room,
    authority: &'a Authority,
    /// What is known to stand.
    standing: HashSet<Target>,
    /// Of the documents that this round left.
    waiting: Vec<Waits>,
    /// What these would write: what comes behind one of them waits with it, or the older would stand.
    held: HashSet<Target>,
    /// What of them may come, since it leads to each other and to what stands.
    together: HashSet<Target>,
}

impl<'a> Leads<'a> {
    pub(super) fn new(room: &'a Room, authority: &'a Authority) -> Self {
        let (standing, held, together) = (HashSet::new(), HashSet::new(), HashSet::new());
        Self { room, authority, standing, waiting: Vec::new(), held, together }
    }

    /// Forgets what the round before left.
    pub(super) fn begin_round(&mut self) {
        self.waiting.clear();
        self.held.clear();
    }

    /// Decides what of the documents left may come together.
    pub(super) fn settle(&mut self) {
        loop {
            let before = self.waiting.len();
            self.together = self.waiting.iter().map(|one| one.target).collect();
            let comes = |to: &Option<Target>| to.is_some_and(|to| self.together.contains(&to));
            self.waiting.retain(|one| one.to.iter().all(comes));
            if self.waiting.len() == before {
                return;
            }
        }
    }

    /// Of a document that waits for something else: what it would write, and refers to.
    pub(super) fn hold(&mut self, text: &str, document: &Document) {
        self.wait(self.refers(text, document));
    }

    /// Whether a document can be written now. In the `last` round what leads to nothing is refused, and the rest is written.
    pub(super) async fn look(
        &mut self,
        text: &str,
        document: &mut Document,
        last: bool,
        refused: &mut Vec<Refusal>,
    ) -> Result<Resolved, ImportError> {
        let mut all = self.refers(text, document);
        if !last && all.iter().any(|one| self.held.contains(&one.target)) {
            self.wait(all);
            return Ok(Resolved::Later);
        }
        self.find(&all).await?;
        let mut lost = BTreeMap::new();
        loop {
            let beside: HashSet<Target> = all.iter().map(|one| one.target).collect();
            let leads = |to: &Option<Place>| {
                let target = to.as_ref().map(|to| (to.resource_type, to.id));
                target.is_some_and(|to| {
                    beside.contains(&to)
                        || self.standing.contains(&to)
                        || (last && self.together.contains(&to))
                })
            };
            let before = lost.len();
            all.retain(|one| {
                let wrong = one.to.iter().find(|(_, to)| !leads(to));
                wrong.map(|(expression, _)| lost.insert(one.at, expression.clone())).is_none()
            });
            if lost.len() == before {
                break;
            }
            if !last {
                self.wait(self.refers(text, document));
                return Ok(Resolved::Later);
            }
        }
        let mut at = 0;
        document.asked.retain(|asked| {
            let expression = lost.remove(&at);
            at += 1;
            let Some(expression) = expression else { return true };
            let refusal = asked.at.refuse_in(asked.resource_type, NOTHING);
            refused.push(Refusal { expression: Some(expression), ..refusal });
            false
        });
        Ok(Resolved::Yes)
    }

    /// What the document's resources refer to; those that are no resources are refused further on.
    fn refers(&self, text: &str, document: &Document) -> Vec<Refers> {
        let mut all = Vec::with_capacity(document.asked.len());
        for (at, asked) in document.asked.iter().enumerate() {
            let Ok(draft) = draft(text, asked, &document.links, &self.room.key) else { continue };
            let Ok(json) = checked(draft.body()) else { continue };
            let to = led(self.room, &json);
            all.push(Refers { at, target: (draft.resource_type, draft.id), to });
        }
        all
    }

    fn wait(&mut self, all: Vec<Refers>) {
        let standing = &self.standing;
        self.held.extend(all.iter().map(|one| one.target));
        self.waiting.extend(all.into_iter().map(|one| {
            let to = one.to.into_iter().map(|(_, to)| to.map(|to| (to.resource_type, to.id)));
            let to = to.filter(|to| to.is_none_or(|to| !standing.contains(&to))).collect();
            Waits { target: one.target, to }
        }));
    }

    /// Looks for what is referred to and not known to stand.
    async fn find(&mut self, all: &[Refers]) -> Result<(), ImportError> {
        if self.standing.len() >= IMPORT_STANDING_KEPT {
            self.standing.clear();
        }
        let beside: HashSet<Target> = all.iter().map(|one| one.target).collect();
        let mut asked: BTreeMap<Target, &Place> = BTreeMap::new();
        for to in all.iter().flat_map(|one| &one.to).filter_map(|(_, to)| to.as_ref()) {
            let target = (to.resource_type, to.id);
            if !beside.contains(&target) && !self.standing.contains(&target) {
                asked.insert(target, to);
            }
        }
        let asked: Vec<(Target, &Place)> = asked.into_iter().collect();
        for some in asked.chunks(READ_RESOURCES_MAX) {
            let targets: Vec<Target> = some.iter().map(|(target, _)| *target).collect();
            let found = self.room.chart.read_all(self.authority, &targets).await?;
            for ((target, place), stored) in some.iter().zip(found) {
                if stored.is_some_and(|stored| !stored.deleted && logical::is_of(&stored, &place.logical)) {
                    self.standing.insert(*target);
                }
            }
        }
        Ok(())
    }
}
