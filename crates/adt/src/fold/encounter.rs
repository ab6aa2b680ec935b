//! One visit's facts, in any order, to its encounters: a small state machine over what the cancels leave.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use hilum_core::{Id, InstallationKey};

use super::content::GroupRegister;
use super::stays;
use crate::content::{Diagnosis, Movement, Place, VisitContent, Words};
use crate::facts::{Fact, Kind, Target};
use crate::identity;
use crate::order::Stamp;
use crate::state::{EncounterState, Item, Mark, Moment, Pending, PendingWhat, Span, Status, VisitNumber};

/// Whose visit it is, and how it is known.
#[derive(Debug, Clone)]
pub enum Visit {
    /// By a number: one encounter.
    Numbered(Id),
    /// Inferred from patient, class and begin (rule 17): one encounter per stay.
    Inferred {
        /// The survivor.
        patient: Id,
    },
}

/// Folds the facts of one visit; `facts` in any order, each stamp once. Who the patient is stands in `named` alone:
/// the caller puts the survivor in.
pub fn fold(key: &InstallationKey, visit: &Visit, facts: &[impl Borrow<Fact>]) -> Vec<EncounterState> {
    let mut sorted: Vec<&Fact> = facts.iter().map(Borrow::borrow).collect();
    sorted.sort_by_key(|fact| fact.moved);
    match visit {
        Visit::Numbered(id) => stay(*id, &sorted).into_iter().collect(),
        Visit::Inferred { patient } => {
            let mut states: Vec<EncounterState> = Vec::new();
            for facts in stays::cut(&sorted) {
                let Some(first) = facts.first() else { continue };
                let (class, begin) = stays::named_by(first);
                let id = identity::inferred_encounter_id(key, *patient, class, begin);
                if let Some(mut state) = stay(id, &facts) {
                    state.marks.push(Mark::KeyInferred);
                    state.diagnoses = diagnoses(id, &facts);
                    states.push(state);
                }
            }
            // Two stays that claim one begin are one encounter's id: the later one holds, and says so.
            states.reverse();
            let mut seen = BTreeSet::new();
            states.retain(|state| seen.insert(state.id));
            states.reverse();
            states
        }
    }
}

/// What the facts of one stay say of its diagnoses.
fn diagnoses(encounter: Id, facts: &[&Fact]) -> Vec<Item<Diagnosis>> {
    let mut register = GroupRegister::default();
    for fact in facts {
        if let Some((mode, group)) = &fact.body.diagnoses {
            register.say(fact.said, &fact.source, *mode, group);
        }
    }
    register.items(encounter)
}

/// Which facts the cancels take back, by place in the sorted list.
pub(super) struct Cancels {
    /// Taken back.
    pub(super) cancelled: BTreeSet<usize>,
    /// Cancels that found their target.
    matched: BTreeSet<usize>,
}

/// Matches cancels to targets in the order in which they were said (rule 5): the latest uncancelled event of its kind at
/// the cancel's EVN-6, else the latest one before the cancel; never one that was said after it, and only one that `may`
/// be of the cancel's visit.
pub(super) fn cancels(sorted: &[&Fact], may: impl Fn(&Fact, &Fact) -> bool) -> Cancels {
    let mut order: Vec<usize> =
        (0..sorted.len()).filter(|&at| matches!(sorted[at].kind, Kind::Cancel(_))).collect();
    order.sort_by_key(|&at| sorted[at].said);
    let mut found = Cancels { cancelled: BTreeSet::new(), matched: BTreeSet::new() };
    for at in order {
        let cancel = sorted[at];
        let Kind::Cancel(target) = cancel.kind else { continue };
        let is_open = |&other: &usize| {
            target.is(sorted[other].kind)
                && !found.cancelled.contains(&other)
                && sorted[other].said.may_precede(&cancel.said)
                && may(cancel, sorted[other])
        };
        let open: Vec<usize> = (0..sorted.len()).filter(is_open).collect();
        let at_event = cancel.body.event.and_then(|event| {
            let same = |&&other: &&usize| {
                let fact = sorted[other];
                fact.moved.at().is_some_and(|at| event.may_be(at, fact.moved.precision()))
            };
            open.iter().rev().find(same).copied()
        });
        let before =
            || open.iter().rev().find(|&&other| sorted[other].moved.may_precede(&cancel.said)).copied();
        let Some(hit) = at_event.or_else(before) else { continue };
        found.matched.insert(at);
        found.cancelled.insert(hit);
        if target == Target::Visit {
            // The visit as a whole is taken back: with it whatever moved in between.
            for (other, fact) in sorted.iter().enumerate() {
                let between =
                    fact.moved > sorted[hit].moved && fact.moved < cancel.moved && fact.said < cancel.said;
                let moves = !fact.kind.is_planned() && !matches!(fact.kind, Kind::Cancel(_) | Kind::Update);
                if between && moves && may(cancel, fact) {
                    found.cancelled.insert(other);
                }
            }
        }
    }
    found
}

/// What the walk has come to.
#[derive(Default)]
struct Walk {
    status: Option<Status>,
    statuses: Vec<Span<Status>>,
    classes: Vec<Span<String>>,
    places: Vec<Span<Place>>,
    place: Option<Place>,
    planned_place: Option<Place>,
    emergency: bool,
    planned: bool,
    admitted: bool,
    /// A discharge stands before any admission, and no end behind one.
    discharged_before: bool,
    tracked: Option<Span<Place>>,
    pending: Vec<Pending>,
    start: Option<Moment>,
    end: Option<Moment>,
    continued_by: Option<Id>,
    continues: BTreeSet<Id>,
    deleted: Option<Stamp>,
    begun: Option<Stamp>,
    marks: BTreeSet<Mark>,
    last_ordered: Option<Stamp>,
}

impl Walk {
    fn is_open(&self) -> bool {
        matches!(self.status, Some(Status::Arrived | Status::InProgress | Status::OnLeave))
    }

    fn set_status(&mut self, fact: &Fact, status: Status) {
        if self.status == Some(status) {
            return;
        }
        self.status = Some(status);
        let now = fact.moment();
        close(&mut self.statuses, now.as_ref());
        self.statuses.push(Span { what: status, start: now, end: None, message: fact.message() });
    }

    fn set_class(&mut self, fact: &Fact, class: &str) {
        if class.is_empty() || self.classes.last().is_some_and(|span| span.what == class) {
            return;
        }
        let now = fact.moment();
        close(&mut self.classes, now.as_ref());
        self.classes.push(Span { what: class.to_owned(), start: now, end: None, message: fact.message() });
    }

    /// Moves the bed to PV1-3, if the message says one.
    fn set_place(&mut self, fact: &Fact) {
        let Some(place) = place_of(fact) else { return };
        self.emergency = fact.body.emergency;
        let same = self.place.as_ref().is_some_and(|old| old.is_at(place));
        self.place = Some(place.clone());
        if same && let Some(span) = self.places.last_mut().filter(|span| span.end.is_none()) {
            span.what = place.clone();
            return;
        }
        let now = fact.moment();
        close(&mut self.places, now.as_ref());
        self.places.push(Span { what: place.clone(), start: now, end: None, message: fact.message() });
    }

    /// The patient is in the house: what was announced of the coming is done.
    fn arrive(&mut self, fact: &Fact, status: Status) {
        if !self.is_open() {
            self.start = fact.moment();
            self.end = None;
        }
        self.begun = Some(fact.said.max(self.begun.unwrap_or(Stamp::ZERO)));
        self.admitted = true;
        self.pending.retain(|pending| pending.what != PendingWhat::Admit);
        self.set_status(fact, status);
    }

    /// A movement without a begin seen: the patient is here all the same.
    fn be_here(&mut self, fact: &Fact) {
        match self.status {
            Some(Status::InProgress | Status::OnLeave | Status::Finished) => {}
            Some(Status::Arrived) => self.set_status(fact, Status::InProgress),
            None | Some(Status::Planned | Status::Cancelled | Status::Unknown | Status::EnteredInError) => {
                self.set_status(fact, Status::InProgress);
            }
        }
    }

    fn announce(&mut self, fact: &Fact, what: PendingWhat) {
        let movement = &fact.body.movement;
        let place = movement.pending.value().or_else(|| {
            let own = movement.place.value();
            own.filter(|_| what == PendingWhat::Admit)
        });
        self.pending.retain(|pending| pending.what != what);
        self.pending.push(Pending {
            what,
            place: place.cloned(),
            expected: fact.body.expected.clone(),
            message: fact.message(),
        });
    }

    fn plan(&mut self, fact: &Fact) {
        self.planned = true;
        let place = fact.body.movement.place.value().or(fact.body.movement.pending.value());
        self.planned_place = place.cloned().or(self.planned_place.take());
        if !self.is_open() && self.status != Some(Status::Finished) {
            self.set_status(fact, Status::Planned);
            self.place = self.planned_place.clone();
            self.emergency = fact.body.emergency;
        }
    }

    fn step(&mut self, fact: &Fact) {
        let class = stays::class_of(fact);
        if fact.kind.is_ordered() {
            if self.last_ordered.is_some_and(|last| last.is_uncertain_against(&fact.moved)) {
                self.marks.insert(Mark::OrderUncertain);
            }
            self.last_ordered = Some(fact.moved);
        }
        match fact.kind {
            Kind::PreAdmit => {
                self.plan(fact);
                self.set_class(fact, class);
            }
            Kind::PendAdmit => {
                self.plan(fact);
                self.announce(fact, PendingWhat::Admit);
                self.set_class(fact, class);
            }
            Kind::PendTransfer => self.announce(fact, PendingWhat::Transfer),
            Kind::PendDischarge => self.announce(fact, PendingWhat::Discharge),
            Kind::Admit | Kind::ClassIn | Kind::ClassOut => {
                self.continues.extend(fact.body.other);
                self.arrive(fact, Status::InProgress);
                self.set_class(fact, class);
                self.tracked = None;
                self.set_place(fact);
            }
            Kind::Register => {
                let status = if self.status == Some(Status::InProgress) {
                    Status::InProgress
                } else {
                    Status::Arrived
                };
                self.arrive(fact, status);
                self.set_class(fact, class);
                self.set_place(fact);
            }
            Kind::Transfer | Kind::Swap => {
                if self.status == Some(Status::Finished) {
                    self.marks.insert(Mark::MovementAfterEnd);
                    return;
                }
                self.be_here(fact);
                self.set_class(fact, class);
                self.tracked = None;
                self.pending.retain(|pending| pending.what != PendingWhat::Transfer);
                self.set_place(fact);
            }
            Kind::Depart | Kind::Arrive => self.track(fact),
            Kind::Leave => {
                if self.status != Some(Status::Finished) {
                    self.set_status(fact, Status::OnLeave);
                    if self.place.is_none() {
                        self.set_place(fact);
                    }
                }
            }
            Kind::Return => {
                if self.status != Some(Status::Finished) {
                    self.set_status(fact, Status::InProgress);
                    self.set_place(fact);
                }
            }
            Kind::Discharge | Kind::Continued => {
                if self.place.is_none() {
                    self.set_place(fact);
                }
                // An end behind an admission ends what a wrong clock may have begun: who comes again is not in doubt.
                self.discharged_before =
                    !self.admitted && (self.discharged_before || fact.kind == Kind::Discharge);
                self.set_class(fact, class);
                self.set_status(fact, Status::Finished);
                self.end = fact.moment();
                self.tracked = None;
                self.pending.clear();
                close(&mut self.places, self.end.as_ref());
                if fact.kind == Kind::Continued {
                    self.continued_by = fact.body.other;
                }
            }
            Kind::DeleteVisit => self.deleted = Some(fact.said.max(self.deleted.unwrap_or(Stamp::ZERO))),
            Kind::Update | Kind::MoveVisit | Kind::Cancel(_) => {}
        }
    }

    /// What a cancel leaves at its own time: the state comes back from the fold, the place from the message.
    fn step_cancel(&mut self, fact: &Fact, target: Target, is_matched: bool) {
        if !is_matched {
            self.marks.insert(Mark::CancelUnmatched);
        }
        match target {
            Target::Visit => {
                self.end = None;
                self.tracked = None;
                self.pending.retain(|pending| pending.what == PendingWhat::Admit);
                close(&mut self.places, fact.moment().as_ref());
                self.place = None;
                if self.planned {
                    self.set_status(fact, Status::Planned);
                    self.place = self.planned_place.clone();
                } else {
                    self.set_status(fact, Status::Cancelled);
                }
            }
            Target::PreAdmit | Target::PendAdmit => {
                if !self.planned && !self.is_open() && self.status != Some(Status::Finished) {
                    self.set_status(fact, Status::Cancelled);
                    self.place = None;
                }
            }
            Target::Transfer | Target::Discharge => {
                if target == Target::Discharge && !is_matched {
                    self.set_status(fact, Status::InProgress);
                    self.end = None;
                }
                if self.status == Some(Status::Finished) || self.status == Some(Status::Cancelled) {
                    return;
                }
                self.be_here(fact);
                let disagrees = match (&self.place, place_of(fact)) {
                    (Some(folded), Some(said)) => !folded.is_at(said),
                    (None, _) | (_, None) => false,
                };
                if disagrees && is_matched {
                    self.marks.insert(Mark::PlaceDisagrees);
                }
                self.set_place(fact);
            }
            Target::Leave | Target::Return => {
                let back = if target == Target::Leave { Status::InProgress } else { Status::OnLeave };
                let may = matches!(
                    self.status,
                    None | Some(Status::InProgress | Status::OnLeave | Status::Arrived)
                );
                if !is_matched && may {
                    self.set_status(fact, back);
                }
                if self.place.is_none() {
                    self.set_place(fact);
                }
            }
            Target::Depart | Target::Arrive => {
                if fact.body.movement.temporary.is_said() {
                    self.track(fact);
                }
            }
            Target::PendTransfer | Target::PendDischarge => {}
        }
    }

    /// A09, A10: PV1-11 alone; the bed of the census stays.
    fn track(&mut self, fact: &Fact) {
        if self.status.is_none() {
            self.be_here(fact);
            self.set_place(fact);
        }
        self.tracked = fact.body.movement.temporary.value().map(|place| Span {
            what: place.clone(),
            start: fact.moment(),
            end: None,
            message: fact.message(),
        });
    }
}

fn place_of(fact: &Fact) -> Option<&Place> {
    fact.body.movement.place.value()
}

fn close<T>(spans: &mut [Span<T>], end: Option<&Moment>) {
    if let Some(span) = spans.last_mut().filter(|span| span.end.is_none()) {
        span.end = end.cloned();
    }
}

/// One stay. `None` when it has no facts.
fn stay(id: Id, sorted: &[&Fact]) -> Option<EncounterState> {
    let newest = sorted.iter().max_by_key(|fact| fact.said)?;
    let found = cancels(sorted, |_, _| true);
    let mut walk = Walk::default();
    let mut moved = Movement::default();
    for (at, &fact) in sorted.iter().enumerate() {
        if found.cancelled.contains(&at) {
            continue;
        }
        moved.overlay(&fact.body.movement);
        match fact.kind {
            Kind::Cancel(target) => walk.step_cancel(fact, target, found.matched.contains(&at)),
            _ => walk.step(fact),
        }
    }
    only_updates(&mut walk, sorted);
    withdraw(&mut walk);

    let mut by_said: Vec<&&Fact> = sorted.iter().collect();
    by_said.sort_by_key(|fact| Reverse(fact.said));
    let mut content = protection(&by_said);
    for fact in &by_said {
        content.fill(&fact.body.visit);
    }
    let status = walk.status.unwrap_or(Status::Unknown);
    let has_ended = matches!(status, Status::Finished | Status::EnteredInError);
    let owner = by_said.iter().find(|fact| !fact.provisional).unwrap_or(by_said.first()?);
    if owner.provisional {
        walk.marks.insert(Mark::IdentityUndecided);
    }
    if status.is_open() && !walk.admitted {
        walk.marks.insert(Mark::AdmissionUnseen);
    }
    if status.is_open() && walk.admitted && walk.discharged_before {
        walk.marks.insert(Mark::DischargeBeforeAdmission);
    }
    let effective = |said: fn(&Fact) -> Option<Moment>| {
        let facts = sorted.iter().enumerate().rev().filter(|(at, _)| !found.cancelled.contains(at));
        facts.map(|(_, fact)| *fact).find_map(said)
    };
    let admitted = effective(|fact| {
        let when = fact.body.movement.admitted.value()?.clone();
        Some(Moment { at: fact.body.admitted?, when })
    });
    let discharged = effective(|fact| {
        let when = fact.body.movement.discharged.value()?.clone();
        Some(Moment { at: fact.body.discharged?, when })
    });
    let numbers = numbers(&by_said);
    Some(EncounterState {
        id,
        visit: numbers.first().cloned(),
        also_known_as: numbers.into_iter().skip(1).collect(),
        patient: owner.number,
        named: owner.number,
        status,
        class: walk.classes.last().map(|span| span.what.clone()),
        classes: walk.classes,
        statuses: walk.statuses,
        place: walk.place,
        places: walk.places,
        tracked: walk.tracked,
        pending: walk.pending,
        start: if walk.begun.is_some() || status.is_open() || has_ended {
            admitted.or(walk.start)
        } else {
            None
        },
        end: if has_ended { discharged.or(walk.end) } else { None },
        disposition: moved.disposition.value().filter(|_| has_ended).cloned(),
        discharged_to: moved.discharged_to.value().filter(|_| has_ended).cloned(),
        expected_return: moved.expected_return.value().filter(|_| status == Status::OnLeave).cloned(),
        bed_status: moved.bed_status.value().cloned(),
        content,
        diagnoses: Vec::new(),
        continued_by: walk.continued_by,
        continues: walk.continues.into_iter().collect(),
        emergency_place: walk.emergency,
        marks: walk.marks.into_iter().collect(),
        message: newest.message(),
        last: newest.said,
        source: newest.source.clone(),
    })
}

/// What the messages say of the visit's protection, those that ask for it behind the others of their time.
fn protection(facts: &[&&Fact]) -> VisitContent {
    let mut whole = VisitContent::default();
    let asks = |fact: &Fact| fact.body.visit.is_confidential();
    if facts.iter().any(|fact| asks(fact)) {
        let mut says = facts.to_vec();
        says.sort_by_key(|fact| Reverse(if asks(fact) { fact.said.asking() } else { fact.said }));
        for fact in says {
            whole.fill(&fact.body.visit.protection());
        }
    }
    whole
}

/// Nothing but updates was seen: they say that the visit is there, and where. A place that no movement said comes from
/// them as well, a class from any message.
fn only_updates(walk: &mut Walk, sorted: &[&Fact]) {
    let updates = || sorted.iter().filter(|fact| matches!(fact.kind, Kind::Update | Kind::MoveVisit));
    if walk.status.is_none() {
        let Some(first) = updates().next() else { return };
        let ended = updates().rev().find(|fact| fact.body.movement.discharged.value().is_some());
        walk.set_status(first, Status::InProgress);
        if let Some(ended) = ended {
            walk.set_status(ended, Status::Finished);
        }
    }
    if walk.classes.is_empty() {
        let says =
            |fact: &&&Fact| fact.body.movement.class.value().is_some_and(|class| !class.code.is_empty());
        if let Some(fact) = sorted.iter().rfind(says) {
            let class = fact.body.movement.class.value().map_or("", |class| class.code.as_str());
            walk.set_class(fact, class);
        }
    }
    let placed = || updates().rfind(|fact| place_of(fact).is_some());
    if walk.place.is_none()
        && walk.status != Some(Status::Cancelled)
        && let Some(fact) = placed()
    {
        walk.set_place(fact);
        if walk.status == Some(Status::Finished) {
            let end = walk.end.clone();
            close(&mut walk.places, end.as_ref());
        }
    }
}

/// A23 (rule 9): a closed visit is withdrawn, an open one stays and asks. A stay that was begun later stands.
fn withdraw(walk: &mut Walk) {
    let Some(deleted) = walk.deleted else { return };
    if walk.begun.is_some_and(|begun| begun > deleted) {
        return;
    }
    match walk.status {
        Some(Status::Finished | Status::Cancelled) | None => {
            walk.status = Some(Status::EnteredInError);
            walk.marks.insert(Mark::Withdrawn);
        }
        Some(_) => {
            walk.marks.insert(Mark::DeleteAsked);
        }
    }
}

/// The visit's numbers, the newest message's first, each once.
fn numbers(by_said: &[&&Fact]) -> Vec<VisitNumber> {
    let mut numbers: Vec<VisitNumber> = Vec::new();
    for number in by_said.iter().flat_map(|fact| &fact.body.numbers) {
        if !numbers.contains(number) {
            numbers.push(number.clone());
        }
    }
    // The naming one first: the least field of the ladder that was ever said.
    numbers.sort_by_key(|number| number.field);
    numbers
}
