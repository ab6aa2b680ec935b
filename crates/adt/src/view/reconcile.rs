//! Nobody vanishes (clinical-rules 27): the encounters that the fold calls open, the rows of the board and the
//! Encounters of the chart are three writings of one fold. Here they are held against each other, by id.
//!
//! A look reads open encounters by their status's index and the board, so it costs by who is in the house, never by
//! who ever was. It is shared by all who ask, and at most [`LOOK_EVERY_S`] old; the chart is looked at less often
//! ([`CHART_EVERY_S`]), since its bodies must be read. The reads of a look are not one snapshot: what differs is read
//! again, and counts only if it stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hilum_chart::Chart;
use hilum_chart::limits::READ_RESOURCES_MAX;
use hilum_core::{Authority, Clock, Id, Timestamp};
use hilum_engines::limits::SCAN_ROWS_MAX;
use hilum_engines::tables::{Read, Row, Scan, Table, Tables, Value};
use serde::Deserialize;

use super::ViewError;
use super::census::is_readable;
use super::row::Columns;
use crate::limits::{
    RECONCILE_CHART_EVERY_S as CHART_EVERY_S, RECONCILE_CONFIRM_MAX as CONFIRM_MAX,
    RECONCILE_EVERY_S as LOOK_EVERY_S,
};
use crate::state::{BoardList, Status};
use crate::tables::{BOARD, ENCOUNTER};

/// What makes an encounter open: whoever has one of these is in the house.
const OPEN: [Status; 4] = [Status::Arrived, Status::InProgress, Status::OnLeave, Status::Unknown];
/// How often what differs is read again before it counts.
const CONFIRMATIONS: usize = 3;

/// How one encounter's three writings differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Differs {
    /// Open, and on no list of the board.
    NotShown,
    /// On the board, and not open.
    NotOpen,
    /// Open, and not so in the chart.
    NotInChart,
    /// On the board, by a row that cannot be read: a line without a name.
    Unreadable,
}

impl Differs {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::NotShown, Self::NotOpen, Self::NotInChart, Self::Unreadable];

    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotShown => "not_shown",
            Self::NotOpen => "not_open",
            Self::NotInChart => "not_in_chart",
            Self::Unreadable => "unreadable",
        }
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// When.
    pub at: Timestamp,
    /// Open encounters of the fold.
    pub open: usize,
    /// Rows of the board, expected patients left out.
    pub on_board: usize,
    /// Whose writings differ, and how.
    pub differing: BTreeMap<Id, Differs>,
}

impl Reconciled {
    /// How many differ in this way.
    pub fn count(&self, differs: Differs) -> usize {
        self.differing.values().filter(|one| **one == differs).count()
    }
}

/// Looks, and remembers what it saw. One for the process.
#[derive(Debug)]
pub struct Reconciler {
    tables: Tables,
    chart: Chart,
    clock: Clock,
    last: Mutex<Last>,
    /// One look at a time: who comes meanwhile takes what it finds.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Last {
    found: Option<Arc<Reconciled>>,
    chart_at: Option<Timestamp>,
    not_in_chart: BTreeSet<Id>,
}

#[derive(Deserialize)]
struct EncounterBody {
    status: String,
}

impl Reconciler {
    /// Over the room's tables and chart.
    pub fn new(tables: Tables, chart: Chart, clock: Clock) -> Self {
        Self { tables, chart, clock, last: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last look found; absent before the first.
    pub fn seen(&self) -> Option<Arc<Reconciled>> {
        self.last().found.clone()
    }

    fn fresh(&self) -> Option<Arc<Reconciled>> {
        let now = self.clock.now();
        self.seen().filter(|found| now.micros_since(found.at).abs() < LOOK_EVERY_S * 1_000_000)
    }

    /// For a page: what a look of at most [`LOOK_EVERY_S`] ago found, or while somebody else looks, or when the look
    /// fails, the one before. A page is not to wait for what it shows beside its rows.
    ///
    /// # Errors
    /// The engines', before the first look has succeeded.
    pub async fn latest(&self) -> Result<Arc<Reconciled>, ViewError> {
        if self.looking.try_lock().is_err()
            && let Some(found) = self.seen()
        {
            return Ok(found);
        }
        match self.look().await {
            Ok(found) => Ok(found),
            Err(why) => {
                let seen = self.seen().ok_or(why)?;
                tracing::error!(at = %seen.at, "the census could not be reconciled since");
                Ok(seen)
            }
        }
    }

    /// What a look of at most [`LOOK_EVERY_S`] ago found.
    ///
    /// # Errors
    /// The engines'.
    pub async fn look(&self) -> Result<Arc<Reconciled>, ViewError> {
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        let _looking = self.looking.lock().await;
        if let Some(found) = self.fresh() {
            return Ok(found);
        }
        self.look_now().await
    }

    async fn look_now(&self) -> Result<Arc<Reconciled>, ViewError> {
        let at = self.clock.now();
        let mut open = BTreeSet::new();
        for status in OPEN {
            let prefix = vec![Value::Text(status.as_str().to_owned())];
            let scan = Scan::by_index(ENCOUNTER.name, "by_status", prefix);
            ids(&self.tables, &ENCOUNTER, scan, [(&mut open, |_| true)]).await?;
        }
        let (mut on_board, mut unreadable) = (BTreeSet::new(), BTreeSet::new());
        let scan = Scan::by_key(BOARD.name, Vec::new());
        let sorts: [Sort<'_>; 2] =
            [(&mut on_board, is_in_the_house), (&mut unreadable, |row| !is_readable(row))];
        ids(&self.tables, &BOARD, scan, sorts).await?;
        let mut suspects: BTreeMap<Id, Differs> = BTreeMap::new();
        suspects.extend(open.difference(&on_board).map(|id| (*id, Differs::NotShown)));
        suspects.extend(on_board.difference(&open).map(|id| (*id, Differs::NotOpen)));

        let looks_at_chart = {
            let last = self.last();
            let is_old = |then: Timestamp| at.micros_since(then).abs() >= CHART_EVERY_S * 1_000_000;
            last.chart_at.is_none_or(is_old)
        };
        if looks_at_chart {
            // Before the walk: one that is given up by its caller is not begun again by the next.
            self.last().chart_at = Some(at);
        }
        let not_in_chart = if looks_at_chart {
            let all: Vec<Id> = open.iter().copied().collect();
            self.not_in_chart(&all).await?
        } else {
            self.last().not_in_chart.clone()
        };
        for id in &not_in_chart {
            suspects.entry(*id).or_insert(Differs::NotInChart);
        }
        for id in unreadable {
            suspects.entry(id).or_insert(Differs::Unreadable);
        }
        let differing = self.confirmed(suspects).await?;
        // Its age counts from its end: a slow look would be old when it comes.
        let at = self.clock.now();
        let found = Arc::new(Reconciled { at, open: open.len(), on_board: on_board.len(), differing });
        let mut last = self.last();
        let before = last.found.as_ref().map_or(0, |before| before.differing.len());
        if found.differing.len() > before {
            let [not_shown, not_open, not_in_chart, unreadable] = Differs::ALL.map(|one| found.count(one));
            tracing::error!(
                open = found.open,
                not_shown,
                not_open,
                not_in_chart,
                unreadable,
                "the census differs from the fold: stop the server and run `hilum rebuild census`"
            );
        }
        if looks_at_chart {
            last.not_in_chart = not_in_chart;
        }
        last.found = Some(Arc::clone(&found));
        Ok(found)
    }

    /// Those whose Encounter is missing, deleted or closed.
    async fn not_in_chart(&self, open: &[Id]) -> Result<BTreeSet<Id>, ViewError> {
        let authority = Authority::system("reconcile");
        let mut missing = BTreeSet::new();
        for some in open.chunks(READ_RESOURCES_MAX) {
            let wanted: Vec<(&str, Id)> = some.iter().map(|id| ("Encounter", *id)).collect();
            let found = self.chart.read_all(&authority, &wanted).await?;
            for (id, stored) in some.iter().zip(found) {
                let body = stored.filter(|stored| !stored.deleted);
                let body = body.and_then(|stored| serde_json::from_slice::<EncounterBody>(&stored.body).ok());
                if !body.is_some_and(|body| OPEN.iter().any(|status| status.as_str() == body.status)) {
                    missing.insert(*id);
                }
            }
        }
        Ok(missing)
    }

    /// What still differs when it is read again, a few times: a commit between two reads is no difference.
    async fn confirmed(
        &self,
        mut suspects: BTreeMap<Id, Differs>,
    ) -> Result<BTreeMap<Id, Differs>, ViewError> {
        let rest = suspects
            .keys()
            .nth(CONFIRM_MAX)
            .copied()
            .map_or_else(BTreeMap::new, |first| suspects.split_off(&first));
        for _ in 0..CONFIRMATIONS {
            if suspects.is_empty() {
                break;
            }
            let ids: Vec<Id> = suspects.keys().copied().collect();
            let mut reads = Vec::new();
            for id in &ids {
                let by_id = Scan::by_index(ENCOUNTER.name, "by_encounter", vec![Value::Id(*id)]);
                reads.push(Read::Scan(Scan { limit: 1, ..by_id }));
                reads.push(Read::Get { table: BOARD.name, key: vec![Value::Id(*id)] });
            }
            let mut rows = self.tables.read(&reads).await?.into_iter();
            let not_in_chart = self.not_in_chart(&ids).await?;
            for id in ids {
                let (encounter, line) = (rows.next().unwrap_or_default(), rows.next().unwrap_or_default());
                let is_open = match encounter.first() {
                    Some(row) => {
                        let status = Columns { table: &ENCOUNTER, row }.text("status")?;
                        OPEN.iter().any(|open| open.as_str() == status)
                    }
                    None => false,
                };
                let is_shown = line.first().is_some_and(is_in_the_house);
                let differs = match (is_open, is_shown) {
                    (true, false) => Some(Differs::NotShown),
                    (false, true) => Some(Differs::NotOpen),
                    (true, true) if not_in_chart.contains(&id) => Some(Differs::NotInChart),
                    (true, true) | (false, false) => {
                        line.first().filter(|row| !is_readable(row)).map(|_| Differs::Unreadable)
                    }
                };
                match differs {
                    Some(differs) => suspects.insert(id, differs),
                    None => suspects.remove(&id),
                };
            }
        }
        suspects.extend(rest);
        Ok(suspects)
    }
}

/// Whether a row of the board says that somebody is here, not that somebody is expected.
fn is_in_the_house(row: &Row) -> bool {
    let columns = Columns { table: &BOARD, row };
    columns.text("list").is_ok_and(|list| list != BoardList::Expected.as_str())
}

/// Where the encounters of those rows go that are let through.
type Sort<'a> = (&'a mut BTreeSet<Id>, fn(&Row) -> bool);

/// The encounters of all rows of a range, by sort.
async fn ids<const N: usize>(
    tables: &Tables,
    table: &'static Table,
    mut scan: Scan,
    mut sorts: [Sort<'_>; N],
) -> Result<(), ViewError> {
    loop {
        let rows = tables.read(&[Read::Scan(scan.clone())]).await?.into_iter().next().unwrap_or_default();
        for row in &rows {
            for (found, _) in sorts.iter_mut().filter(|(_, counts)| counts(row)) {
                found.insert(Columns { table, row }.id("encounter")?);
            }
        }
        let Some(last) = rows.last().filter(|_| rows.len() >= SCAN_ROWS_MAX as usize) else { return Ok(()) };
        let key = last.values.iter().take(table.key_len).cloned();
        scan.after = Some(scan.prefix.iter().cloned().chain(key).collect());
    }
}
