//! Who looked, and who did what: an append-only log of its own, each row with the keyed hash of itself and the row
//! before it, and a sealed head, so that a removed, altered or missing row shows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hilum_core::{Id, Kind, Role, Timestamp};
use hilum_engines::tables::{Batch, Expect, Read, Row, Scan, Tables, TablesError, Value, Write};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::limits;
use crate::session::SessionSecret;
use crate::store::{self, StoreError};
use crate::tables::{AUDIT, AUDIT_HEAD};
use crate::typing::Typing;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Opened a page or a record.
    Read,
    /// Looked for something.
    Search,
    /// Opened a view that is made to be printed.
    Print,
    /// Took rows out as a file.
    Export,
    /// Signed in or out, or tried to.
    SignIn,
    /// Sent something in.
    Submit,
    /// Decided about data: a merge, a correction, a replay.
    Decide,
    /// Changed accounts or keys, or read the audit log.
    Admin,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 8] = [
        Self::Read,
        Self::Search,
        Self::Print,
        Self::Export,
        Self::SignIn,
        Self::Submit,
        Self::Decide,
        Self::Admin,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Search => "search",
            Self::Print => "print",
            Self::Export => "export",
            Self::SignIn => "sign-in",
            Self::Submit => "submit",
            Self::Decide => "decide",
            Self::Admin => "admin",
        }
    }
}

/// When an audit event must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the answer leaves.
    AtOnce,
    /// Within a second.
    WithinSecond,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// When.
    pub at: Timestamp,
    /// The account or key; empty when nobody proved who they are.
    pub principal: String,
    /// In which role.
    pub role: Option<Role>,
    /// What.
    pub action: Action,
    /// Method and route template, never the path itself.
    pub route: String,
    /// About which patient.
    pub patient: Option<Id>,
    /// The HTTP status of the answer.
    pub outcome: u16,
    /// Counts and ids, no patient data.
    pub detail: String,
    /// The request.
    pub request: Id,
}

/// One row of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// 1, 2, 3 …
    pub n: i64,
    /// When.
    pub at: Timestamp,
    /// The account or key.
    pub principal: String,
    /// Its role then.
    pub role: String,
    /// What.
    pub action: String,
    /// Method and route template.
    pub route: String,
    /// About which patient.
    pub patient: Option<Id>,
    /// The HTTP status.
    pub outcome: i64,
    /// Counts and ids.
    pub detail: String,
    /// The request.
    pub request: Id,
    hash: Bytes,
}

/// Why the audit log failed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The writer has ended or its queue is full.
    #[error("audit log takes nothing now")]
    Closed,
    /// The last write failed.
    #[error("audit log: {0}")]
    Tables(#[from] TablesError),
    /// A stored row has another shape.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuditError {
    /// What the caller may do.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Closed | Self::Tables(_) => Kind::Transient,
            Self::Store(error) => error.kind(),
        }
    }
}

impl From<AuditError> for crate::outcome::Fault {
    fn from(error: AuditError) -> Self {
        Self::because(error.kind(), &error)
    }
}

/// What [`Audit::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All rows from 1 to `rows` are there, unchanged.
    Whole {
        /// How many.
        rows: i64,
    },
    /// Row `n` is missing.
    Missing {
        /// Its number.
        n: i64,
    },
    /// Row `n`, or the one before it, was altered.
    Altered {
        /// Its number.
        n: i64,
    },
    /// The end of the log is not where its seal says.
    End {
        /// The last row that is there.
        last: i64,
        /// The last row that was written, by the seal; absent when the seal itself is gone or broken.
        sealed: Option<i64>,
    },
}

/// What the chain's key is made for.
const CHAIN: &str = "hilum audit chain 1";
const ACTIVE: i64 = 0;
const ZERO: [u8; 32] = [0; 32];
const LIVE_EVERY_US: i64 = limits::AUDIT_LIVE_EVERY.as_micros() as i64;

/// Who waits for an event to be on disk.
type Done = oneshot::Sender<Result<(), TablesError>>;
type Waiting = Vec<Done>;
/// The events of one request, with their place among all that wait, and who waits for them.
type Queued = (Vec<AuditEvent>, OwnedSemaphorePermit, Option<Done>);

/// What a live page's refreshes are counted by: session or key, route, patient.
type View = ([u8; 32], &'static str, Option<Id>);

#[derive(Debug)]
struct Inner {
    tables: Tables,
    key: [u8; 32],
    durability: Durability,
    queue: mpsc::Sender<Queued>,
    /// A place for each event that waits, also of those that are tried again.
    places: Arc<Semaphore>,
    healthy: Arc<AtomicBool>,
    views: Mutex<HashMap<View, Timestamp>>,
    typing: Typing,
}

/// The audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Inner>);

impl Audit {
    /// The log on `tables` (which hold [`crate::tables::AUDIT_ALL`]) and its one writer, which ends with the last clone.
    pub fn start(tables: Tables, secret: &SessionSecret, durability: Durability) -> Self {
        let (queue, events) = mpsc::channel(limits::AUDIT_QUEUE_MAX);
        let key = secret.derive(CHAIN);
        let healthy = Arc::new(AtomicBool::new(true));
        let writer = Writer { tables: tables.clone(), key, healthy: Arc::clone(&healthy) };
        tokio::spawn(writer.run(events, durability));
        Self(Arc::new(Inner {
            tables,
            key,
            durability,
            queue,
            places: Arc::new(Semaphore::new(limits::AUDIT_WAITING_MAX)),
            healthy,
            views: Mutex::default(),
            typing: Typing::default(),
        }))
    }

    /// Writes an event down; with [`Durability::AtOnce`] it is on disk when this resolves.
    ///
    /// # Errors
    /// [`AuditError::Closed`], [`AuditError::Tables`].
    pub async fn record(&self, event: AuditEvent) -> Result<(), AuditError> {
        self.record_all(vec![event]).await
    }

    /// Writes down the events of one request in their order; where that fails, the first of them may stand.
    ///
    /// # Errors
    /// As [`Self::record`].
    pub async fn record_all(&self, events: Vec<AuditEvent>) -> Result<(), AuditError> {
        if events.is_empty() {
            return Ok(());
        }
        let places = u32::try_from(events.len()).map_err(|_| AuditError::Closed)?;
        let all = Arc::clone(&self.0.places);
        match self.0.durability {
            Durability::AtOnce => {
                let (done, wait) = oneshot::channel();
                let held = all.acquire_many_owned(places).await.map_err(|_| AuditError::Closed)?;
                self.0.queue.send((events, held, Some(done))).await.map_err(|_| AuditError::Closed)?;
                wait.await.map_err(|_| AuditError::Closed)??;
                Ok(())
            }
            Durability::WithinSecond => {
                let held = all.try_acquire_many_owned(places).map_err(|_| AuditError::Closed)?;
                self.0.queue.try_send((events, held, None)).map_err(|_| AuditError::Closed)?;
                if self.is_healthy() { Ok(()) } else { Err(AuditError::Closed) }
            }
        }
    }

    /// Whether the last write worked.
    pub fn is_healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed)
    }

    /// Whether this view by this session counts now: the first time, and again after a quarter of an hour. Only a
    /// live page's own refreshes ask.
    pub(crate) fn counts_again(&self, view: &View, now: Timestamp) -> bool {
        let views = self.0.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(view).is_none_or(|last| now.micros_since(*last) >= LIVE_EVERY_US)
    }

    /// These views were written down. Not before they are: what the log did not take is asked for again.
    pub(crate) fn counted(&self, new: impl ExactSizeIterator<Item = View>, now: Timestamp) {
        let mut views = self.0.views.lock().unwrap_or_else(PoisonError::into_inner);
        if views.len() + new.len() > limits::AUDIT_LIVE_VIEWS_MAX {
            views.retain(|_, last| now.micros_since(*last) < LIVE_EVERY_US);
        }
        let room = limits::AUDIT_LIVE_VIEWS_MAX.saturating_sub(views.len());
        views.extend(new.take(room).map(|view| (view, now)));
    }

    /// The searches that are being typed.
    pub(crate) fn typing(&self) -> &Typing {
        &self.0.typing
    }

    /// One page of the log, newest first, behind row `before`.
    ///
    /// # Errors
    /// [`AuditError::Tables`].
    pub async fn page(&self, filter: &Filter, before: Option<i64>) -> Result<Vec<AuditRow>, AuditError> {
        let mut scan = match filter {
            Filter::All => Scan::by_key(AUDIT.name, Vec::new()),
            Filter::Patient(id) => Scan::by_index(AUDIT.name, "by_patient", vec![Value::Id(*id)]),
            Filter::Principal(name) => {
                Scan::by_index(AUDIT.name, "by_principal", vec![Value::Text(name.clone())])
            }
        };
        scan.to = before.map(Value::Int);
        scan.descending = true;
        scan.limit = limits::AUDIT_PAGE_ROWS;
        let rows = self.0.tables.read(&[Read::Scan(scan)]).await?;
        Ok(rows.iter().flatten().map(decode).collect::<Result<_, _>>()?)
    }

    /// Walks the whole chain.
    ///
    /// # Errors
    /// [`AuditError::Tables`].
    pub async fn verify(&self) -> Result<Verdict, AuditError> {
        // The head first: rows that are written while we walk lie behind it.
        let head = read_head(&self.0.tables, &self.0.key).await?;
        let mut last = 0;
        let mut hash = Bytes::copy_from_slice(&ZERO);
        'walk: loop {
            let mut scan = Scan::by_key(AUDIT.name, Vec::new());
            scan.from = Some(Value::Int(last + 1));
            let rows = self.0.tables.read(&[Read::Scan(scan)]).await?;
            let rows: Vec<_> = rows.into_iter().flatten().collect();
            if rows.is_empty() {
                break;
            }
            for row in &rows {
                let Ok(row) = decode(row) else { return Ok(Verdict::Altered { n: last + 1 }) };
                if row.n != last + 1 {
                    return Ok(Verdict::Missing { n: last + 1 });
                }
                if row.hash.as_ref() != chain(&self.0.key, &hash, &row).as_slice() {
                    return Ok(Verdict::Altered { n: row.n });
                }
                last = row.n;
                hash.clone_from(&row.hash);
                if matches!(&head, Head::At(n, sealed, _) if *n == last && sealed == &hash) {
                    break 'walk;
                }
            }
        }
        match head {
            Head::None if last == 0 => Ok(Verdict::Whole { rows: 0 }),
            Head::At(n, sealed, _) if n == last && sealed == hash => Ok(Verdict::Whole { rows: n }),
            Head::At(n, ..) => Ok(Verdict::End { last, sealed: Some(n) }),
            Head::None | Head::Broken => Ok(Verdict::End { last, sealed: None }),
        }
    }
}

/// Which rows of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// All.
    All,
    /// Who looked at this patient.
    Patient(Id),
    /// What this account or key did.
    Principal(String),
}

/// Events that are not written yet, in their order.
#[derive(Default)]
struct Pending {
    events: Vec<AuditEvent>,
    /// The places of all of them.
    held: Option<OwnedSemaphorePermit>,
}

impl Pending {
    fn take(&mut self, (events, held, done): Queued) -> Option<Done> {
        self.events.extend(events);
        match &mut self.held {
            Some(all) => all.merge(held),
            none => *none = Some(held),
        }
        done
    }

    /// The first ones stand in the log.
    fn wrote(&mut self, many: usize) {
        self.events.drain(..many);
        drop(self.held.as_mut().and_then(|held| held.split(many)));
    }
}

struct Writer {
    tables: Tables,
    key: [u8; 32],
    healthy: Arc<AtomicBool>,
}

impl Writer {
    async fn run(self, mut events: mpsc::Receiver<Queued>, durability: Durability) {
        let mut pending = Pending::default();
        loop {
            // What could not be written is tried again each second, in its order; and whether the log takes anything, when
            // nothing waits: while it does not, nothing that changes something is begun, so nothing new comes to be tried.
            let received = if pending.events.is_empty() && self.healthy.load(Ordering::Relaxed) {
                events.recv().await
            } else {
                let Ok(received) = tokio::time::timeout(limits::AUDIT_DELAY_MAX, events.recv()).await else {
                    self.write(&mut pending, Vec::new()).await;
                    continue;
                };
                received
            };
            let Some(first) = received else { break };
            if durability == Durability::WithinSecond && pending.events.is_empty() {
                tokio::time::sleep(limits::AUDIT_DELAY_MAX / 4).await;
            }
            let mut waiting: Waiting = pending.take(first).into_iter().collect();
            while pending.events.len() < limits::AUDIT_BATCH_MAX {
                let Ok(next) = events.try_recv() else { break };
                waiting.extend(pending.take(next));
            }
            self.write(&mut pending, waiting).await;
        }
        self.write(&mut pending, Vec::new()).await;
    }

    async fn write(&self, pending: &mut Pending, waiting: Waiting) {
        // Without an event the head alone is written anew, as it is.
        if pending.events.is_empty() && self.healthy.load(Ordering::Relaxed) {
            return;
        }
        let mut answer = self.write_some(pending).await;
        while answer.is_ok() && !pending.events.is_empty() {
            answer = self.write_some(pending).await;
        }
        match &answer {
            Ok(()) => {
                if !self.healthy.swap(true, Ordering::Relaxed) {
                    tracing::info!("audit log takes events again");
                }
            }
            Err(error) => {
                if self.healthy.swap(false, Ordering::Relaxed) {
                    tracing::error!(%error, waiting = pending.events.len(), "audit log cannot be written");
                }
                // Who waits is told that it failed, so their event is not written later behind their back.
                if !waiting.is_empty() {
                    *pending = Pending::default();
                }
            }
        }
        for done in waiting {
            // Nobody listens any more when the client went away; the event is written all the same.
            drop(done.send(answer.clone()));
        }
    }

    /// Writes as many as one commit has: a large one would be the slower of two whenever another process writes, too.
    async fn write_some(&self, pending: &mut Pending) -> Result<(), TablesError> {
        let some = pending.events.get(..limits::AUDIT_BATCH_MAX).unwrap_or(&pending.events);
        let mut answer = self.append(some).await;
        let until = Instant::now() + limits::AUDIT_CONFLICT_MAX;
        let mut pause = Duration::from_millis(1);
        // Another process writes into the log too: read its head and go on from there. Whoever was first has written, so
        // it goes on; who lost often waits longer, which leaves the turn to others.
        while matches!(answer, Err(TablesError::Conflict(_))) && Instant::now() < until {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(limits::AUDIT_CONFLICT_PAUSE_MAX);
            answer = self.append(some).await;
        }
        if answer.is_ok() {
            let many = some.len();
            pending.wrote(many);
        }
        answer
    }

    async fn append(&self, pending: &[AuditEvent]) -> Result<(), TablesError> {
        let (mut n, mut hash, was) = match read_head(&self.tables, &self.key).await? {
            Head::At(n, hash, row) => (n, hash, Some(row)),
            Head::None => (0, Bytes::copy_from_slice(&ZERO), None),
            Head::Broken => {
                return Err(TablesError::Engine("the audit log's head is broken: run `hilum doctor`".into()));
            }
        };
        let mut batch = Batch::default();
        batch.expects.push(Expect {
            table: AUDIT_HEAD.name,
            key: vec![Value::Int(ACTIVE)],
            t: was.as_ref().map(|row| row.t),
        });
        for event in pending {
            n += 1;
            let mut row = AuditRow {
                n,
                at: event.at,
                principal: event.principal.clone(),
                role: event.role.map(Role::as_str).unwrap_or_default().to_owned(),
                action: event.action.as_str().to_owned(),
                route: event.route.clone(),
                patient: event.patient,
                outcome: i64::from(event.outcome),
                detail: event.detail.clone(),
                request: event.request,
                hash: Bytes::new(),
            };
            hash = Bytes::copy_from_slice(&chain(&self.key, &hash, &row));
            row.hash.clone_from(&hash);
            batch.writes.push(Write::Put { table: AUDIT.name, values: encode(row) });
        }
        let seal = Bytes::copy_from_slice(&seal(&self.key, n, &hash));
        let head = vec![Value::Int(ACTIVE), Value::Int(n), Value::Bytes(hash), Value::Bytes(seal)];
        batch.writes.push(Write::Put { table: AUDIT_HEAD.name, values: head });
        self.tables.commit(batch).await.map(drop)
    }
}

/// Whether the log on `tables` is sealed with this secret, or has not begun: what another process wrote under another
/// secret cannot be gone on from.
///
/// # Errors
/// The tables'.
pub async fn is_ours(tables: &Tables, secret: &SessionSecret) -> Result<bool, TablesError> {
    let head = read_head(tables, &secret.derive(CHAIN)).await?;
    Ok(!matches!(head, Head::Broken))
}

enum Head {
    None,
    At(i64, Bytes, Row),
    Broken,
}

async fn read_head(tables: &Tables, key: &[u8; 32]) -> Result<Head, TablesError> {
    let Some(row) = store::get(tables, &AUDIT_HEAD, vec![Value::Int(ACTIVE)]).await? else {
        return Ok(Head::None);
    };
    let parts = (
        store::int(&row, 1, &AUDIT_HEAD),
        store::bytes(&row, 2, &AUDIT_HEAD),
        store::bytes(&row, 3, &AUDIT_HEAD),
    );
    let (Ok(n), Ok(hash), Ok(stored)) = parts else { return Ok(Head::Broken) };
    if stored.as_ref() == seal(key, n, &hash).as_slice() {
        Ok(Head::At(n, hash, row))
    } else {
        Ok(Head::Broken)
    }
}

fn seal(key: &[u8; 32], n: i64, hash: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"head").update(&n.to_le_bytes()).update(hash);
    *hasher.finalize().as_bytes()
}

/// The keyed hash of the row before and of this one, each field preceded by its length.
fn chain(key: &[u8; 32], before: &[u8], row: &AuditRow) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    let patient = row.patient.map(|id| id.as_bytes().to_vec()).unwrap_or_default();
    let fields: [&[u8]; 11] = [
        before,
        &row.n.to_le_bytes(),
        &row.at.as_micros().to_le_bytes(),
        row.principal.as_bytes(),
        row.role.as_bytes(),
        row.action.as_bytes(),
        row.route.as_bytes(),
        &patient,
        &row.outcome.to_le_bytes(),
        row.detail.as_bytes(),
        row.request.as_bytes(),
    ];
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes()).update(field);
    }
    *hasher.finalize().as_bytes()
}

fn encode(row: AuditRow) -> Vec<Value> {
    vec![
        Value::Int(row.n),
        Value::Time(row.at),
        Value::Text(row.principal),
        Value::Text(row.role),
        Value::Text(row.action),
        Value::Text(row.route),
        row.patient.map_or(Value::Null, Value::Id),
        Value::Int(row.outcome),
        Value::Text(row.detail),
        Value::Id(row.request),
        Value::Bytes(row.hash),
    ]
}

fn decode(row: &Row) -> Result<AuditRow, StoreError> {
    let table = &AUDIT;
    let patient = match row.values.get(6) {
        Some(Value::Id(id)) => Some(*id),
        Some(Value::Null) => None,
        _ => return Err(StoreError::Shape(table.name)),
    };
    let Some(Value::Id(request)) = row.values.get(9) else { return Err(StoreError::Shape(table.name)) };
    Ok(AuditRow {
        n: store::int(row, 0, table)?,
        at: store::time(row, 1, table)?,
        principal: store::text(row, 2, table)?,
        role: store::text(row, 3, table)?,
        action: store::text(row, 4, table)?,
        route: store::text(row, 5, table)?,
        patient,
        outcome: store::int(row, 7, table)?,
        detail: store::text(row, 8, table)?,
        request: *request,
        hash: store::bytes(row, 10, table)?,
    })
}
