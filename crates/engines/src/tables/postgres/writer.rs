//! The one writer of a process: takes what waits, sends it as one flight, answers each batch for itself.
//!
//! | file | what stands there |
//! |---|---|
//! | `group` | batches that may stand together |
//! | `sql` | the writer's own statements |
//! | `flight` | a group as one transaction, and what its answers mean |
//! | `link` | the connection, and the question after a broken one |

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use hilum_core::{Epoch, Seq};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use self::group::{Waiting, take_group};
use self::sql::Sql;
use super::back::Behind;
use super::tape::Tape;
use super::{Catalog, Patience, heard};
use crate::limits;
use crate::tables::{Batch, TablesError};

mod flight;
mod group;
mod link;
mod sql;

pub(super) use self::group::{Checked, no_nul};

pub(super) type Reply = oneshot::Sender<Result<Seq, TablesError>>;

/// What callers ask of the writer.
pub(super) enum Order {
    Commit(Box<Checked>, Reply),
    Close(oneshot::Sender<()>),
}

/// What the writer works with.
pub(super) struct Setup {
    pub(super) client: tokio_postgres::Config,
    pub(super) allow_weak: bool,
    pub(super) schema: String,
    pub(super) tables: Arc<Catalog>,
    pub(super) behind: Arc<Behind>,
    pub(super) patience: Patience,
    pub(super) tape: Option<Tape>,
}

/// Starts the writer; it ends when all senders are gone or it is told to close.
pub(super) fn start(setup: Setup) -> mpsc::Sender<Order> {
    let (sender, orders) = mpsc::channel(limits::TABLES_QUEUE_MAX);
    let writer = Writer { sql: Sql::new(&setup.schema), setup, link: None, identity: None };
    tokio::spawn(writer.run(orders));
    sender
}

/// A connection with the statements prepared on it.
struct Link {
    client: Client,
    statements: HashMap<String, Statement>,
}

/// This process's row in `hilum_writer`: `seq` counts its flights.
#[derive(Clone, Copy)]
struct Identity {
    writer: Uuid,
    seq: i64,
    /// A flight under `seq + 1` may still be in the air.
    unknown: bool,
}

struct Writer {
    setup: Setup,
    sql: Sql,
    link: Option<Link>,
    identity: Option<Identity>,
}

/// What the checks under the counter found.
#[derive(Debug, Clone)]
enum Verdict {
    Changed {
        table: &'static str,
    },
    Fenced,
    OtherLog {
        stored: Epoch,
    },
    /// Refused, as the writer's row tells; the reason went down with the connection.
    Refused,
}

/// How a flight ended.
enum Landing {
    /// Committed, without the refused batches; batch `n` (from 1) at `base + n`.
    Committed { base: i64, refused: BTreeMap<usize, Verdict> },
    /// Rolled back: every batch was refused.
    AllRefused(BTreeMap<usize, Verdict>),
    /// Rolled back by an error of the server: one of the batches, or its state.
    RolledBack(TablesError),
    /// Not sent, or given up for good.
    Failed(TablesError),
    /// Rolled back: this process's row is not as it was left.
    Unsigned,
    /// The connection broke; the flight may have landed.
    Unknown,
}

impl Writer {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let mut closing: Option<oneshot::Sender<()>> = None;
        loop {
            if waiting.is_empty() {
                if closing.is_some() {
                    break;
                }
                match orders.recv().await {
                    Some(Order::Commit(checked, reply)) => waiting.push_back(Waiting { checked, reply }),
                    Some(Order::Close(done)) => closing = Some(done),
                    None => break,
                }
            }
            // Callers whose commit has just been answered are about to come with their next: without this turn the first
            // of them would fly alone, and the others behind it.
            tokio::task::yield_now().await;
            let mut bytes: usize = waiting.iter().map(|waiting| waiting.checked.size_bytes).sum();
            while closing.is_none()
                && waiting.len() < limits::TABLES_GROUP_BATCHES_MAX * 2
                && bytes < limits::TABLES_GROUP_BYTES_MAX * 2
                && let Ok(order) = orders.try_recv()
            {
                match order {
                    Order::Commit(checked, reply) => {
                        bytes += checked.size_bytes;
                        waiting.push_back(Waiting { checked, reply });
                    }
                    Order::Close(done) => closing = Some(done),
                }
            }
            let group = take_group(&mut waiting);
            if !group.is_empty() {
                self.commit(group).await;
            }
        }
        drop(orders); // who still waits to send, learns that the tables are closed
        if let (Some(link), Some(identity)) = (self.link.take(), self.identity)
            && !identity.unknown
        {
            let limit = Duration::from_secs(limits::UNREGISTER_S_MAX);
            let row: [&(dyn ToSql + Sync); 1] = [&identity.writer];
            let gone = tokio::time::timeout(limit, link.client.execute(&self.sql.unregister, &row)).await;
            if !matches!(gone, Ok(Ok(_))) {
                tracing::debug!("the row of this process stays behind");
            }
        }
        if let Some(done) = closing {
            // Whoever asked to close may have stopped waiting.
            done.send(()).unwrap_or_default();
        }
    }

    async fn commit(&mut self, group: Vec<Waiting>) {
        let landing = self.attempt(&group).await;
        if matches!(landing, Landing::RolledBack(_)) && group.len() > 1 {
            // One of them is what the server cannot take: its neighbours must not fall with it.
            for waiting in group {
                let alone = vec![waiting];
                let landing = self.attempt(&alone).await;
                self.answer(alone, &landing);
            }
            return;
        }
        self.answer(group, &landing);
    }

    async fn attempt(&mut self, group: &[Waiting]) -> Landing {
        match self.fly(group).await {
            Ok(Landing::Unknown) => self.resolve().await,
            Ok(landing) => landing,
            Err(error) => Landing::Failed(error),
        }
    }

    fn answer(&self, group: Vec<Waiting>, landing: &Landing) {
        if let Landing::Committed { base, .. } = landing {
            heard(&self.setup.behind.committed, Seq(base + group.len() as i64));
        }
        for (at, Waiting { checked, reply }) in group.into_iter().enumerate() {
            let n = at + 1;
            let answer = match landing {
                Landing::Committed { base, refused } => match refused.get(&n) {
                    None => Ok(Seq(base + n as i64)),
                    Some(verdict) => Err(refusal(verdict, &checked.batch)),
                },
                Landing::AllRefused(refused) => {
                    Err(refusal(refused.get(&n).unwrap_or(&Verdict::Refused), &checked.batch))
                }
                Landing::RolledBack(error) | Landing::Failed(error) => Err(error.clone()),
                Landing::Unsigned => Err(TablesError::Engine(
                    "postgresql, commit: the row of this process is gone; nothing was written".to_owned(),
                )),
                Landing::Unknown => Err(TablesError::Engine(
                    "postgresql, commit: the connection broke and the server cannot be asked what became of it"
                        .to_owned(),
                )),
            };
            // Whoever asked may have stopped waiting; the commit stands all the same.
            reply.send(answer).unwrap_or_default();
        }
    }
}

/// The error for a batch that was refused.
fn refusal(verdict: &Verdict, batch: &Batch) -> TablesError {
    match (verdict, &batch.offset) {
        (Verdict::Fenced, Some(moved)) => TablesError::Fenced {
            projection: moved.projection.to_owned(),
            stream: moved.stream,
            partition: moved.partition,
        },
        (Verdict::OtherLog { stored }, Some(moved)) => {
            TablesError::OtherLog { stored: *stored, given: moved.epoch }
        }
        (Verdict::Changed { table }, _) => TablesError::Conflict(format!("a row of {table} has changed")),
        _ => TablesError::Conflict("something that the batch was based on has changed".to_owned()),
    }
}
