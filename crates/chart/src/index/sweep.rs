//! Removes the rows of values that are gone, once no page of a walk can ask for them. There is no index by the commit that
//! closed a row: it would cost each close more than going through all rows now and then costs in all.

use hilum_core::Seq;
use hilum_engines::tables::{Batch, Row, Scan, Tables, Value, Write};

use super::tables::TABLES;
use crate::chart::page;
use crate::error::ChartError;
use crate::limits::WALK_PAGE_ROWS;
use crate::port;

/// A way through all rows of the index.
#[derive(Debug, Default)]
pub struct Sweep {
    table: usize,
    after: Option<Vec<Value>>,
}

/// What one step did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Step {
    /// Rows that were looked at.
    pub rows: u64,
    /// Rows that were removed.
    pub removed: u64,
    /// That these were the last ones: the next step begins anew.
    pub is_round: bool,
}

impl Sweep {
    /// Looks at some rows more, and removes those that were closed at `until` or before. Safe beside whoever writes: a row
    /// that was closed is never written again.
    ///
    /// # Errors
    /// The engine's; the next step goes on where this one began.
    pub async fn step(&mut self, tables: &Tables, until: Seq) -> Result<Step, ChartError> {
        let Some(table) = TABLES.get(self.table) else {
            return Ok(Step { is_round: true, ..Step::default() });
        };
        let key = |row: &Row| row.values.get(..table.key_len).unwrap_or_default().to_vec();
        let scan =
            Scan { after: self.after.clone(), limit: WALK_PAGE_ROWS, ..Scan::by_key(table.name, Vec::new()) };
        let rows = page(tables, scan).await?;
        let to_t = table.column("to_t").unwrap_or_default();
        let is_gone = |row: &&Row| matches!(row.values.get(to_t), Some(Value::Seq(t)) if *t <= until);
        let gone = rows.iter().filter(is_gone);
        let writes: Vec<Write> = gone.map(|row| Write::Delete { table: table.name, key: key(row) }).collect();
        let mut step = Step { rows: rows.len() as u64, removed: writes.len() as u64, is_round: false };
        if !writes.is_empty() {
            port::commit(tables, Batch { writes, ..Batch::default() }).await?;
        }
        self.after = rows.last().map(key);
        if rows.len() < WALK_PAGE_ROWS as usize {
            (self.after, self.table) = (None, (self.table + 1) % TABLES.len());
            step.is_round = self.table == 0;
        }
        Ok(step)
    }
}
