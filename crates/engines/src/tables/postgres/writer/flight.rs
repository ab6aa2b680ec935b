//! A group as the statements of one transaction, and what its answers mean.

use std::collections::BTreeMap;
use std::io;

use hilum_core::{Epoch, Timestamp};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Row as PgRow, Statement};
use uuid::Uuid;

use super::sql::{GATE, Sql};
use super::{Identity, Landing, Verdict};
use crate::tables::postgres::plan::Planned;
use crate::tables::postgres::tape::Tape;
use crate::tables::postgres::wire::{Item, Param};
use crate::tables::postgres::{Call, Catalog, engine, key_columns};
use crate::tables::shape::shape;
use crate::tables::{Batch, Expect, Key, OffsetMove, Outgoing, TablesError, Value, Write};

/// What a call's answer is good for.
enum Part {
    /// Nothing but its success.
    Done,
    Take,
    /// Rows of (batch, place in the list) whose row is not as it was.
    Expects(&'static str),
    /// Rows of (batch, the other log's epoch if that is why).
    Offsets,
    Gate,
    Sign,
}

/// A group as the statements of one transaction.
pub(super) struct Flight<'a> {
    pub(super) calls: Vec<Call<'a>>,
    parts: Vec<Part>,
}

fn int4(n: usize) -> Item<'static> {
    Item::Int4(i32::try_from(n).unwrap_or(i32::MAX))
}

impl<'a> Flight<'a> {
    pub(super) fn new(
        tables: &'a Catalog,
        sql: &Sql,
        batches: &[&'a Batch],
        identity: Identity,
    ) -> Result<Self, TablesError> {
        let mut flight = Self { calls: Vec::new(), parts: Vec::new() };
        let batch_count = Param::One(int4(batches.len()));
        let moment = batches.iter().filter_map(|batch| batch.moment).max();
        let moment = Param::One(Item::opt_int8(moment.map(Timestamp::as_micros)));
        flight.push("begin", Part::Done, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE".into(), vec![]);
        flight.push("counter", Part::Take, sql.take.clone(), vec![batch_count, moment]);
        let numbered = || batches.iter().enumerate().map(|(at, batch)| (at + 1, *batch));

        let mut expects: BTreeMap<&'static str, Vec<(usize, &'a Expect)>> = BTreeMap::new();
        let mut writes: BTreeMap<(&'static str, u8), Rows<'a>> = BTreeMap::new();
        let mut sets: BTreeMap<(&'static str, u64), Vec<Set<'a>>> = BTreeMap::new();
        let mut offsets: Vec<(usize, &'a OffsetMove)> = Vec::new();
        let mut outbox: Vec<(usize, usize, &'a Outgoing)> = Vec::new();
        for (n, batch) in numbered() {
            for expect in &batch.expects {
                expects.entry(expect.table).or_default().push((n, expect));
            }
            for write in &batch.writes {
                let (entry, row) = match write {
                    Write::Set { table, key, columns } => {
                        sets.entry((*table, changed(tables, table, columns)?))
                            .or_default()
                            .push((n, key, columns));
                        continue;
                    }
                    Write::Delete { table, key } => ((*table, 0), key),
                    Write::Put { table, values } => ((*table, 1), values),
                    Write::PutIfNewer { table, values } => ((*table, 2), values),
                };
                writes.entry(entry).or_default().push((n, row));
            }
            offsets.extend(batch.offset.as_ref().map(|moved| (n, moved)));
            outbox.extend(batch.outbox.iter().enumerate().map(|(at, outgoing)| (n, at, outgoing)));
        }

        for (table, expects) in &expects {
            let planned = tables.get(table)?;
            let mut params = vec![
                Param::Many(expects.iter().map(|(n, _)| int4(*n)).collect()),
                Param::Many((0..expects.len()).map(int4).collect()),
                Param::Many(expects.iter().map(|(_, e)| Item::opt_int8(e.t.map(|t| t.0))).collect()),
            ];
            params.extend(key_columns(planned.table, expects.iter().map(|(_, expect)| &expect.key)));
            flight.push("expectations", Part::Expects(table), planned.expect.clone(), params);
        }
        if !offsets.is_empty() {
            let params = offset_params(&offsets, |moved| moved.from);
            flight.push("offsets", Part::Offsets, sql.offsets.clone(), params);
        }
        if !expects.is_empty() || !offsets.is_empty() {
            flight.push("gate", Part::Gate, GATE.to_owned(), vec![Param::One(int4(batches.len()))]);
        }
        for ((table, kind), rows) in &writes {
            let planned = tables.get(table)?;
            flight.push_writes(planned, *kind, rows);
        }
        for ((table, changed), rows) in &sets {
            let planned = tables.get(table)?;
            let mut params = vec![Param::Many(rows.iter().map(|(n, ..)| int4(*n)).collect())];
            params.extend(key_columns(planned.table, rows.iter().map(|(_, key, _)| *key)));
            let width = rows.first().map_or(0, |(_, _, columns)| columns.len());
            params.extend((0..width).map(|at| {
                let column =
                    |columns: &'a Columns| columns.get(at).map_or(Item::Null, |(_, value)| value.into());
                Param::Many(rows.iter().map(|(_, _, columns)| column(columns)).collect())
            }));
            flight.push("set", Part::Done, planned.set(*changed), params);
        }
        if !offsets.is_empty() {
            let mut params = offset_params(&offsets, |moved| moved.to);
            let last =
                |moved: &OffsetMove| moved.last.map_or(Item::Null, |last| Item::Id(*last.as_id().as_bytes()));
            params.push(Param::Many(offsets.iter().map(|(_, moved)| last(moved)).collect()));
            flight.push("offsets", Part::Done, sql.move_offsets.clone(), params);
        }
        if !outbox.is_empty() {
            let params = vec![
                Param::Many(outbox.iter().map(|(n, _, _)| int4(*n)).collect()),
                Param::Many(outbox.iter().map(|(_, at, _)| Item::Int8(*at as i64)).collect()),
                Param::Many(outbox.iter().map(|(_, _, o)| Item::Text(o.topic)).collect()),
                Param::Many(outbox.iter().map(|(_, _, o)| Item::Id(*o.key.as_bytes())).collect()),
                Param::Many(outbox.iter().map(|(_, _, o)| Item::Bytes(&o.body)).collect()),
            ];
            flight.push("outbox", Part::Done, sql.outbox.clone(), params);
        }
        let writer = Param::One(Item::Id(*identity.writer.as_bytes()));
        let next = Param::One(Item::Int8(identity.seq + 1));
        flight.push("sign", Part::Sign, sql.sign.clone(), vec![writer, next]);
        flight.push("commit", Part::Done, "COMMIT".into(), vec![]);
        Ok(flight)
    }

    fn push(&mut self, step: &'static str, part: Part, sql: String, params: Vec<Param<'a>>) {
        self.calls.push(Call { step, sql, params });
        self.parts.push(part);
    }

    fn push_writes(&mut self, planned: &Planned, kind: u8, rows: &[(usize, &'a Vec<Value>)]) {
        let batch = Param::Many(rows.iter().map(|(n, _)| int4(*n)).collect());
        let mut params = vec![batch];
        let width = if kind == 0 { planned.table.key_len } else { planned.table.columns.len() };
        for at in 0..width {
            params.push(Param::Many(
                rows.iter().map(|(_, row)| row.get(at).map_or(Item::Null, Item::from)).collect(),
            ));
        }
        let (step, sql) = match (kind, &planned.put_if_newer) {
            (0, _) => ("delete", planned.delete.clone()),
            (2, Some(put_if_newer)) => ("put if newer", put_if_newer.clone()),
            _ => ("put", planned.put.clone()),
        };
        self.push(step, Part::Done, sql, params);
    }

    /// Writes down what changed rows.
    pub(super) fn record(
        &self,
        tape: &mut Tape,
        statements: &[Statement],
        base: i64,
        refused: &BTreeMap<usize, Verdict>,
    ) -> io::Result<()> {
        let bad: Vec<String> = refused.keys().map(usize::to_string).collect();
        let changed = self.calls.iter().zip(statements).zip(&self.parts);
        let changed =
            changed.filter(|((call, _), part)| matches!(part, Part::Done) && !call.params.is_empty());
        tape.commit(changed.map(|(taped, _)| taped), base, &format!("{{{}}}", bad.join(",")))
    }

    /// Reads the answers.
    pub(super) fn land(&self, answers: Vec<Result<Vec<PgRow>, tokio_postgres::Error>>) -> Landing {
        let mut refused: BTreeMap<usize, Verdict> = BTreeMap::new();
        let mut base = None;
        for ((answer, part), call) in answers.into_iter().zip(&self.parts).zip(&self.calls) {
            let rows = match answer {
                Ok(rows) => rows,
                Err(error) if ends_the_connection(&error) => return Landing::Unknown,
                Err(error) => {
                    let none_left = error.code() == Some(&SqlState::DIVISION_BY_ZERO);
                    return match part {
                        Part::Gate if none_left => Landing::AllRefused(refused),
                        Part::Sign if none_left => Landing::Unsigned,
                        Part::Done if call.is_write() && refuses_the_data(&error) => {
                            Landing::RolledBack(refused_data(call.step, &error))
                        }
                        _ => Landing::RolledBack(engine(call.step, &error)),
                    };
                }
            };
            if let Err(error) = read_part(part, &rows, &mut base, &mut refused) {
                return Landing::Failed(engine(call.step, &error));
            }
        }
        match base {
            Some(base) => Landing::Committed { base, refused },
            None => Landing::Unknown,
        }
    }
}

/// Whether the server says that the rows are at fault, not it: a value out of its type's range, a constraint, a row too
/// large for an index. It would say so again.
fn refuses_the_data(error: &tokio_postgres::Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    matches!(class, Some("22" | "23" | "54"))
}

fn refused_data(step: &str, error: &tokio_postgres::Error) -> TablesError {
    let code = error.code().map_or("", SqlState::code);
    shape("(batch)", format!("postgresql, {step}: sqlstate {code}"))
}

/// Whether nothing follows from an error about the transaction: the connection is lost, or the server has ended it
/// (which it may do behind a commit that waits for a standby).
fn ends_the_connection(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::Severity;
    error.as_db_error().is_none_or(|said| {
        matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
            || said.severity() == "FATAL"
    })
}

type Columns = Vec<(&'static str, Value)>;
/// A batch, the key of a row, and what is set there.
type Set<'a> = (usize, &'a Key, &'a Columns);

/// Which columns are set: a bit for each.
fn changed(tables: &Catalog, table: &str, columns: &Columns) -> Result<u64, TablesError> {
    let table = tables.get(table)?.table;
    let set = columns.iter().filter_map(|(name, _)| table.column(name));
    Ok(set.fold(0, |changed, at| changed | (1 << at)))
}

type Rows<'a> = Vec<(usize, &'a Vec<Value>)>;

fn offset_params<'a>(
    offsets: &[(usize, &'a OffsetMove)],
    place: impl Fn(&OffsetMove) -> u64,
) -> Vec<Param<'a>> {
    vec![
        Param::Many(offsets.iter().map(|(n, _)| int4(*n)).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Text(m.projection)).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Text(m.stream.as_str())).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Int4(i32::from(m.partition))).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Id(*m.epoch.0.as_bytes())).collect()),
        Param::Many(offsets.iter().map(|(_, m)| Item::Int8(place(m) as i64)).collect()),
    ]
}

fn read_part(
    part: &Part,
    rows: &[PgRow],
    base: &mut Option<i64>,
    refused: &mut BTreeMap<usize, Verdict>,
) -> Result<(), tokio_postgres::Error> {
    match part {
        Part::Take => *base = rows.first().map(|row| row.try_get(0)).transpose()?,
        Part::Expects(table) => {
            for row in rows {
                let n = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
                refused.entry(n).or_insert(Verdict::Changed { table });
            }
        }
        Part::Offsets => {
            for row in rows {
                let n = usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or_default();
                let other: Option<Uuid> = row.try_get(1)?;
                // The offset tells more than a changed row: a fenced worker must not simply read again.
                refused.insert(
                    n,
                    other.map_or(Verdict::Fenced, |other| Verdict::OtherLog { stored: Epoch(other) }),
                );
            }
        }
        Part::Done | Part::Gate | Part::Sign => {}
    }
    Ok(())
}
