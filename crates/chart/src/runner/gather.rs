//! What a batch needs: asked of the projection and read, until it needs nothing more.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use hilum_core::Id;
use hilum_engines::limits::SCAN_ROWS_MAX;
use hilum_engines::tables::{Key, Read, Row, Scan, Table, Value};

use super::fault::Fault;
use super::parts::HeldUp;
use super::{Runner, Stage, Stepped, Taken, compute};
use crate::claims::Claim;
use crate::error::ChartError;
use crate::limits::{NEEDS_ROUNDS_MAX, RANGE_ROWS_MAX};
use crate::projection::{Projection, Reads, Rows};
use crate::{family, port, resources};

impl<P: Projection> Runner<P> {
    /// Asks the projection what it needs and reads it, until it needs nothing more.
    pub(super) async fn gather(&mut self, mut taken: Taken<P>) -> Result<Stepped, ChartError> {
        let mut rounds = 0;
        let fault = loop {
            let projection = Arc::clone(&self.projection);
            let (back, reads) = compute(move || {
                let mut reads = Reads::default();
                let asked = catch_unwind(AssertUnwindSafe(|| match taken.fault {
                    None => projection.needs(&taken.events, &taken.rows, &mut reads),
                    Some(_) => {
                        for event in &taken.events {
                            projection.needs_rejected(event, &taken.rows, &mut reads);
                        }
                    }
                }));
                (taken, asked.map(|()| reads))
            })
            .await?;
            taken = back;
            let Ok(reads) = reads else { break Some(Fault::Panic) };
            let (gets, scans) = only_new(reads, &taken.rows);
            if gets.is_empty() && scans.is_empty() {
                break None;
            }
            rounds += 1;
            if rounds > NEEDS_ROUNDS_MAX {
                break Some(Fault::Rounds);
            }
            if !self.claim(&gets, &mut taken) {
                match self.held_up(&gets, taken).await? {
                    HeldUp::GoesOn(part) => (taken, rounds) = (part, 0),
                    HeldUp::Waits(taken) => {
                        self.stage = Stage::Gather(taken);
                        return Ok(Stepped::Waits);
                    }
                }
                continue;
            }
            if !self.read_rows(gets, scans, &mut taken.rows).await? {
                break Some(Fault::Range);
            }
        };
        // A rejection goes without what cannot be read for it.
        if let Some(fault) = fault.filter(|_| taken.fault.is_none()) {
            return self.cut(taken, fault);
        }
        let records = taken.events.len();
        self.stage = Stage::Apply(taken);
        Ok(Stepped::Read { records })
    }

    /// Claims the heads and families among `gets` before they are read. False when a sibling holds one.
    fn claim(&self, gets: &[(&'static str, Key)], taken: &mut Taken<P>) -> bool {
        let Some(claims) = &self.claims else { return true };
        taken.claim.get_or_insert_with(|| Claim::new(claims)).add(claimed_of(gets))
    }

    /// One round trip, and further ones only for ranges that are longer than one scan gives. False when a range has
    /// more rows than are allowed.
    async fn read_rows(
        &self,
        gets: Vec<(&'static str, Key)>,
        scans: Vec<Scan>,
        rows: &mut Rows,
    ) -> Result<bool, ChartError> {
        let page = |scan: &Scan, after: Option<Vec<Value>>| {
            let mut page = scan.clone();
            page.limit = scan.limit.min(SCAN_ROWS_MAX);
            page.after = after.or(page.after);
            Read::Scan(page)
        };
        let mut reads: Vec<Read> =
            gets.iter().map(|(table, key)| Read::Get { table, key: key.clone() }).collect();
        reads.extend(scans.iter().map(|scan| page(scan, None)));
        let mut answers = port::read(&self.tables, &reads).await?.into_iter();
        for ((table, key), mut found) in gets.into_iter().zip(&mut answers) {
            rows.put_get(table, key, found.pop());
        }
        for (scan, mut found) in scans.into_iter().zip(answers) {
            let mut last = found.len();
            while last == SCAN_ROWS_MAX as usize && found.len() < scan.limit as usize {
                if found.len() >= RANGE_ROWS_MAX {
                    return Ok(false);
                }
                let Some(after) = found.last().and_then(|row| place_of::<P>(&scan, row)) else {
                    return Ok(false);
                };
                let more =
                    port::read(&self.tables, &[page(&scan, Some(after))]).await?.pop().unwrap_or_default();
                last = more.len();
                found.extend(more);
            }
            rows.put_scan(scan, found);
        }
        Ok(true)
    }
}

/// Heads and families among `gets`.
pub(super) fn claimed_of(gets: &[(&'static str, Key)]) -> impl Iterator<Item = Id> {
    let is_family = |table: &str| family::TABLES.iter().any(|one| one.name == table);
    gets.iter().filter(move |(table, _)| is_family(table)).filter_map(|(_, key)| match key.first() {
        Some(Value::Id(id)) => Some(*id),
        _ => None,
    })
}

/// What was not read yet, each once.
fn only_new(reads: Reads, have: &Rows) -> (Vec<(&'static str, Key)>, Vec<Scan>) {
    let mut gets: Vec<_> = reads.gets.into_iter().filter(|(table, key)| !have.has_read(table, key)).collect();
    gets.sort_unstable();
    gets.dedup();
    let mut seen = HashSet::new();
    let mut scans = reads.scans;
    scans.retain(|scan| have.scan(scan).is_none() && seen.insert(scan.clone()));
    (gets, scans)
}

/// Where a range goes on behind `row`.
fn place_of<P: Projection>(scan: &Scan, row: &Row) -> Option<Vec<Value>> {
    let mut known = P::TABLES.iter().chain(family::TABLES).chain(resources::TABLES);
    let table: &Table = known.find(|table| table.name == scan.table)?;
    let mut after = Vec::new();
    if let Some(name) = scan.index {
        let index = table.indexes.iter().find(|index| index.name == name)?;
        for column in index.columns {
            after.push(row.values.get(table.column(column)?)?.clone());
        }
    }
    after.extend(row.values.get(..table.key_len)?.iter().cloned());
    Some(after)
}
