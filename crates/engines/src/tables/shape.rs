//! What fits a declared table, decided once for every engine: declarations, rows, keys, batches and scans. Errors
//! name table and column, never a value.

use std::collections::HashMap;

use super::{Batch, Expect, Index, Key, Scan, Table, TablesError, Type, Value, Write};
use crate::limits;

/// The declared tables by name.
#[derive(Debug)]
pub(crate) struct Schema {
    tables: Vec<&'static Table>,
    by_name: HashMap<&'static str, usize>,
}

pub(crate) fn shape(table: &str, why: impl Into<String>) -> TablesError {
    TablesError::Shape { table: table.to_owned(), why: why.into() }
}

fn is_name(raw: &str, bytes_max: usize) -> bool {
    raw.len() <= bytes_max
        && raw.starts_with(|first: char| first.is_ascii_lowercase())
        && raw.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Checks one declaration: names, key, indexes, register.
fn check_declaration(table: &Table) -> Result<(), TablesError> {
    let no = |why: String| Err(shape(table.name, why));
    if !is_name(table.name, limits::TABLE_NAME_BYTES_MAX) || table.name.starts_with("hilum_") {
        return no("the name must be snake_case, at most 40 bytes, and not begin with hilum_".into());
    }
    if table.key_len == 0 || table.key_len > table.columns.len() {
        return no("the key must have one column at least".into());
    }
    if table.columns.len() > limits::TABLE_COLUMNS_MAX {
        return no(format!("more than {} columns", limits::TABLE_COLUMNS_MAX));
    }
    for (at, column) in table.columns.iter().enumerate() {
        if !is_name(column.name, limits::TABLE_NAME_BYTES_MAX) || column.name == "t_" {
            return no(format!("column {}: not a name", column.name));
        }
        if table.column(column.name) != Some(at) {
            return no(format!("column {}: declared twice", column.name));
        }
        if at < table.key_len && column.optional {
            return no(format!("column {}: a key column cannot be optional", column.name));
        }
    }
    for (at, index) in table.indexes.iter().enumerate() {
        if !is_name(index.name, limits::TABLE_NAME_BYTES_MAX) || index.columns.is_empty() {
            return no(format!("index {}: not a name, or without columns", index.name));
        }
        if table.indexes.iter().position(|other| other.name == index.name) != Some(at) {
            return no(format!("index {}: declared twice", index.name));
        }
        for (i, column) in index.columns.iter().enumerate() {
            if table.column(column).is_none() {
                return no(format!("index {}: there is no column {column}", index.name));
            }
            if index.columns.iter().position(|other| other == column) != Some(i) {
                return no(format!("index {}: column {column} twice", index.name));
            }
        }
    }
    if let Some(register) = table.register {
        let fits = table
            .columns
            .iter()
            .skip(table.key_len)
            .any(|column| column.name == register && matches!(column.ty, Type::Bytes | Type::Int));
        if !fits {
            return no(format!("register {register}: must be a column of bytes or int outside the key"));
        }
    }
    Ok(())
}

/// Checks one value against its column. `in_write` allows what stands for the
/// commit: [`Value::ThisCommit`], [`Value::ThisCommitNth`], [`Value::ThisMoment`].
pub(super) fn check_value(
    table: &Table,
    at: usize,
    value: &Value,
    in_write: bool,
) -> Result<(), TablesError> {
    let column = &table.columns[at];
    let fits = match value {
        Value::Null => column.optional,
        Value::Bool(_) => column.ty == Type::Bool,
        Value::Int(int) => column.ty == Type::Int && !(in_write && stands_for_nth(*int)),
        Value::ThisCommitNth(n) => column.ty == Type::Int && in_write && *n < limits::NTH_END,
        Value::Time(_) => column.ty == Type::Time,
        Value::Seq(_) => column.ty == Type::Seq,
        Value::Id(_) => column.ty == Type::Id,
        Value::Bytes(_) => column.ty == Type::Bytes,
        Value::ThisCommit => column.ty == Type::Seq && in_write,
        Value::ThisMoment => column.ty == Type::Time && in_write,
        Value::ThisSnapshot => false,
        Value::Text(text) => {
            if column.ty == Type::Text && memchr_nul(text) {
                return Err(shape(table.name, format!("column {}: text with NUL", column.name)));
            }
            column.ty == Type::Text
        }
    };
    if fits {
        return Ok(());
    }
    let why = if matches!(value, Value::Null) {
        format!("column {}: absent, but not optional", column.name)
    } else {
        format!("column {}: not of type {:?}", column.name, column.ty)
    };
    Err(shape(table.name, why))
}

/// Whether a number stands for one that the commit gives out, on PostgreSQL's wire: no engine takes it as itself.
fn stands_for_nth(int: i64) -> bool {
    (limits::NTH_BEGIN..limits::NTH_BEGIN + i64::from(limits::NTH_END)).contains(&int)
}

fn memchr_nul(text: &str) -> bool {
    text.as_bytes().contains(&0)
}

fn check_key_text(table: &Table, key: &[Value]) -> Result<(), TablesError> {
    let text_bytes: usize =
        key.iter().map(|value| if let Value::Text(text) = value { text.len() } else { 0 }).sum();
    if text_bytes > limits::KEY_TEXT_BYTES_MAX {
        return Err(shape(table.name, format!("key text longer than {} bytes", limits::KEY_TEXT_BYTES_MAX)));
    }
    Ok(())
}

fn check_values(table: &Table, values: &[Value]) -> Result<(), TablesError> {
    if values.len() != table.columns.len() {
        return Err(shape(
            table.name,
            format!("a row has {} columns, not {}", table.columns.len(), values.len()),
        ));
    }
    for (at, value) in values.iter().enumerate() {
        check_value(table, at, value, true)?;
    }
    check_key_text(table, &values[..table.key_len])?;
    table.indexes.iter().try_for_each(|index| check_index_text(table, index, values))
}

/// Checks which columns are set and to what, and brings them into the table's order.
fn check_set(table: &Table, columns: &mut [(&'static str, Value)]) -> Result<(), TablesError> {
    for (name, value) in columns.iter() {
        let behind = table.column(name).filter(|at| *at >= table.key_len);
        let at = behind.ok_or_else(|| shape(table.name, format!("column {name}: none behind the key")))?;
        check_value(table, at, value, true)?;
        let is_long = matches!(table.columns[at].ty, Type::Text | Type::Bytes);
        if is_long && table.indexes.iter().any(|index| index.columns.contains(name)) {
            return Err(shape(table.name, format!("column {name}: stands in an index, put the whole row")));
        }
    }
    columns.sort_by_key(|(name, _)| table.column(name));
    if columns.is_empty() || columns.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(shape(table.name, "columns are set twice, or none"));
    }
    Ok(())
}

/// Text and bytes in an index are bounded as in a key, so that every engine can hold them in a page of its tree.
fn check_index_text(table: &Table, index: &Index, values: &[Value]) -> Result<(), TablesError> {
    let text_bytes: usize = index
        .columns
        .iter()
        .filter_map(|name| values.get(table.column(name)?))
        .map(|value| match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 0,
        })
        .sum();
    if text_bytes > limits::KEY_TEXT_BYTES_MAX {
        let (name, max) = (index.name, limits::KEY_TEXT_BYTES_MAX);
        return Err(shape(table.name, format!("index {name}: text longer than {max} bytes")));
    }
    Ok(())
}

fn check_key(table: &Table, key: &[Value], in_write: bool) -> Result<(), TablesError> {
    if key.len() != table.key_len {
        return Err(shape(table.name, format!("a key has {} columns, not {}", table.key_len, key.len())));
    }
    for (at, value) in key.iter().enumerate() {
        check_value(table, at, value, in_write)?;
    }
    check_key_text(table, key)
}

impl Write {
    /// The table's name.
    pub(crate) const fn table(&self) -> &'static str {
        match self {
            Self::Put { table, .. }
            | Self::PutIfNewer { table, .. }
            | Self::Set { table, .. }
            | Self::Delete { table, .. } => table,
        }
    }
}

/// A write's key within its table.
pub(crate) fn key_of<'a>(table: &Table, write: &'a Write) -> &'a [Value] {
    match write {
        Write::Put { values, .. } | Write::PutIfNewer { values, .. } => &values[..table.key_len],
        Write::Set { key, .. } | Write::Delete { key, .. } => key,
    }
}

/// A scan that fits: which columns order it and where it starts.
#[derive(Debug)]
pub(crate) struct Ordered<'a> {
    /// The table.
    pub(crate) table: &'static Table,
    /// The columns that order it: the index's, then those of the key that it lacks.
    pub(crate) columns: Vec<usize>,
    /// As in the scan: values of the first of `columns`.
    pub(crate) prefix: &'a [Value],
    /// One value for each of `columns`; the first are those of `prefix`.
    pub(crate) after: Option<Vec<&'a Value>>,
    /// The scan itself, for bounds, limit and direction.
    pub(crate) scan: &'a Scan,
}

impl Schema {
    /// Checks all declarations.
    ///
    /// # Errors
    /// [`TablesError::Shape`] names table and column.
    pub(crate) fn new(tables: &[&'static Table]) -> Result<Self, TablesError> {
        let mut by_name = HashMap::new();
        for (at, table) in tables.iter().enumerate() {
            check_declaration(table)?;
            if by_name.insert(table.name, at).is_some() {
                return Err(shape(table.name, "declared twice"));
            }
        }
        Ok(Self { tables: tables.to_vec(), by_name })
    }

    /// All tables, in the order of declaration.
    pub(crate) fn tables(&self) -> &[&'static Table] {
        &self.tables
    }

    /// The place of a table among [`Schema::tables`].
    pub(crate) fn at(&self, name: &str) -> Result<usize, TablesError> {
        self.by_name.get(name).copied().ok_or_else(|| shape(name, "not declared"))
    }

    /// A table by name.
    pub(crate) fn table(&self, name: &str) -> Result<&'static Table, TablesError> {
        Ok(self.tables[self.at(name)?])
    }

    /// Checks a key that is read, and gives its table.
    pub(crate) fn check_get(&self, table: &str, key: &Key) -> Result<&'static Table, TablesError> {
        let table = self.table(table)?;
        check_key(table, key, false)?;
        Ok(table)
    }

    /// Checks a batch, and sorts its expectations and its writes by (table, key): the order in which every engine
    /// locks and writes. Gives about the bytes of its values.
    ///
    /// # Errors
    /// [`TablesError::Shape`]; also for two writes of one key.
    pub(crate) fn check_batch(&self, batch: &mut Batch) -> Result<usize, TablesError> {
        if batch.writes.len() > limits::BATCH_WRITES_MAX {
            return Err(shape("(batch)", format!("more than {} writes", limits::BATCH_WRITES_MAX)));
        }
        for Expect { table, key, .. } in &batch.expects {
            self.check_get(table, key)?;
        }
        for write in &mut batch.writes {
            let table = self.table(write.table())?;
            match write {
                Write::Set { key, columns, .. } => {
                    check_key(table, key, false)?;
                    check_set(table, columns)?;
                }
                Write::Put { values, .. } => check_values(table, values)?,
                Write::PutIfNewer { values, .. } => {
                    if table.register.is_none() {
                        return Err(shape(table.name, "is no register"));
                    }
                    check_values(table, values)?;
                }
                Write::Delete { key, .. } => check_key(table, key, false)?,
            }
        }
        // To 0: the log is gone through anew.
        if let Some(offset) = &batch.offset
            && ((offset.to < offset.from && offset.to > 0) || i64::try_from(offset.to).is_err())
        {
            return Err(shape("(offset)", "does not go forward"));
        }
        for outgoing in &batch.outbox {
            if memchr_nul(outgoing.topic) {
                return Err(shape("(outbox)", "topic with NUL"));
            }
        }
        batch.expects.sort_by(|a, b| (a.table, &a.key).cmp(&(b.table, &b.key)));
        // Every slice begins with the key, so comparing whole slices sorts by key.
        batch.writes.sort_by(|a, b| (a.table(), whole(a)).cmp(&(b.table(), whole(b))));
        for pair in batch.writes.windows(2) {
            let table = self.table(pair[0].table())?;
            if table.name == pair[1].table() && key_of(table, &pair[0]) == key_of(table, &pair[1]) {
                return Err(shape(table.name, "two writes of one key in a batch"));
            }
        }
        let size_bytes = size_bytes(batch);
        if size_bytes > limits::BATCH_BYTES_MAX {
            return Err(shape("(batch)", format!("more than {} bytes", limits::BATCH_BYTES_MAX)));
        }
        Ok(size_bytes)
    }

    /// Checks a scan and says what orders it.
    ///
    /// # Errors
    /// [`TablesError::Shape`].
    pub(crate) fn check_scan<'a>(&self, scan: &'a Scan) -> Result<Ordered<'a>, TablesError> {
        let table = self.table(scan.table)?;
        let mut columns: Vec<usize> = Vec::new();
        let mut indexed = 0;
        if let Some(name) = scan.index {
            let index = table
                .indexes
                .iter()
                .find(|index| index.name == name)
                .ok_or_else(|| shape(table.name, format!("index {name}: not declared")))?;
            columns.extend(index.columns.iter().filter_map(|column| table.column(column)));
            indexed = columns.len();
        }
        for at in 0..table.key_len {
            if !columns.contains(&at) {
                columns.push(at);
            }
        }
        if scan.prefix.len() > columns.len() {
            return Err(shape(table.name, "scan: prefix longer than the index"));
        }
        for (&at, value) in columns.iter().zip(&scan.prefix) {
            check_value(table, at, value, false)?;
        }
        for bound in [&scan.from, &scan.to].into_iter().flatten() {
            let Some(&at) = columns.get(scan.prefix.len()) else {
                return Err(shape(table.name, "scan: no column left for a bound"));
            };
            if matches!(bound, Value::Null) {
                return Err(shape(table.name, format!("column {}: an absent bound", table.columns[at].name)));
            }
            check_value(table, at, bound, false)?;
        }
        let after = match &scan.after {
            None => None,
            Some(after) => Some(Self::check_after(table, scan, &columns, indexed, after)?),
        };
        Ok(Ordered { table, columns, prefix: &scan.prefix, after, scan })
    }

    fn check_after<'a>(
        table: &Table,
        scan: &Scan,
        columns: &[usize],
        indexed: usize,
        after: &'a [Value],
    ) -> Result<Vec<&'a Value>, TablesError> {
        if after.len() != indexed + table.key_len {
            return Err(shape(
                table.name,
                format!("scan: after has {} values, not {}", indexed + table.key_len, after.len()),
            ));
        }
        let (index_values, key_values) = after.split_at(indexed);
        for (at, value) in key_values.iter().enumerate() {
            check_value(table, at, value, false)?;
        }
        let mut ordered = Vec::with_capacity(columns.len());
        for (i, &at) in columns.iter().enumerate() {
            let value = if i < indexed { &index_values[i] } else { &key_values[at] };
            check_value(table, at, value, false)?;
            ordered.push(value);
        }
        if scan.prefix.iter().zip(&ordered).any(|(prefix, value)| prefix != *value) {
            return Err(shape(table.name, "scan: after does not lie under the prefix"));
        }
        Ok(ordered)
    }
}

fn size_bytes(batch: &Batch) -> usize {
    let of = |values: &[Value]| -> usize {
        let value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
            _ => 16,
        };
        values.iter().map(value).sum()
    };
    let expects: usize = batch.expects.iter().map(|expect| of(&expect.key)).sum();
    let set = |write: &Write| match write {
        Write::Set { columns, .. } => {
            columns.iter().map(|(_, value)| of(std::slice::from_ref(value))).sum::<usize>()
        }
        _ => 0,
    };
    let writes: usize = batch.writes.iter().map(|write| of(whole(write)) + set(write)).sum();
    let outbox: usize = batch.outbox.iter().map(|outgoing| 32 + outgoing.body.len()).sum();
    expects + writes + outbox
}

fn whole(write: &Write) -> &[Value] {
    match write {
        Write::Put { values, .. } | Write::PutIfNewer { values, .. } => values,
        Write::Set { key, .. } | Write::Delete { key, .. } => key,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tables::Column;

    static BED: Table = Table {
        name: "bed",
        key_len: 2,
        columns: &[
            Column::new("unit", Type::Text),
            Column::new("id", Type::Int),
            Column::optional("patient", Type::Id),
            Column::new("at", Type::Seq),
        ],
        indexes: &[Index { name: "by_patient", columns: &["patient", "unit"] }],
        register: None,
    };

    fn put(values: Vec<Value>) -> Batch {
        Batch { writes: vec![Write::Put { table: "bed", values }], ..Batch::default() }
    }

    fn text(raw: &str) -> Value {
        Value::Text(raw.to_owned())
    }

    #[test]
    fn a_row_that_does_not_fit_is_named_without_its_value() {
        let schema = Schema::new(&[&BED]).unwrap();
        let cases = [
            ("fits", put(vec![text("A"), Value::Int(1), Value::Null, Value::ThisCommit]), ""),
            ("arity", put(vec![text("A"), Value::Int(1)]), "a row has 4 columns, not 2"),
            (
                "type",
                put(vec![text("secret"), text("secret"), Value::Null, Value::ThisCommit]),
                "column id: not of type Int",
            ),
            (
                "absent",
                put(vec![text("secret"), Value::Null, Value::Null, Value::ThisCommit]),
                "column id: absent, but not optional",
            ),
            (
                "NUL",
                put(vec![text("sec\0ret"), Value::Int(1), Value::Null, Value::ThisCommit]),
                "column unit: text with NUL",
            ),
            (
                "long key",
                put(vec![text(&"secret".repeat(200)), Value::Int(1), Value::Null, Value::ThisCommit]),
                "key text longer than 1024 bytes",
            ),
            (
                "no register",
                Batch {
                    writes: vec![Write::PutIfNewer { table: "bed", values: vec![] }],
                    ..Batch::default()
                },
                "is no register",
            ),
            (
                "this commit in a key that is read",
                Batch {
                    expects: vec![Expect { table: "bed", key: vec![text("A"), Value::ThisCommit], t: None }],
                    ..Batch::default()
                },
                "column id: not of type Int",
            ),
        ];
        for (why, mut batch, want) in cases {
            let got = schema.check_batch(&mut batch).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(got.ends_with(want) && got.is_empty() == want.is_empty(), "{why}: {got}");
            assert!(!got.contains("secret"), "{why}: {got}");
        }
    }

    #[test]
    fn writes_are_sorted_and_a_key_is_written_once() {
        let schema = Schema::new(&[&BED]).unwrap();
        let row = |unit: &str, id| Write::Put {
            table: "bed",
            values: vec![text(unit), Value::Int(id), Value::Null, Value::ThisCommit],
        };
        let delete = |unit: &str, id| Write::Delete { table: "bed", key: vec![text(unit), Value::Int(id)] };
        let mut batch = Batch { writes: vec![row("B", 1), delete("A", 2), row("A", 1)], ..Batch::default() };
        schema.check_batch(&mut batch).unwrap();
        assert_eq!(batch.writes, vec![row("A", 1), delete("A", 2), row("B", 1)]);
        let mut twice = Batch { writes: vec![row("A", 1), delete("A", 1)], ..Batch::default() };
        assert!(schema.check_batch(&mut twice).is_err());
    }

    #[test]
    fn declarations_are_checked() {
        static NO_KEY: Table = Table { key_len: 0, ..BASE };
        static OPTIONAL_KEY: Table = Table { columns: &[Column::optional("a", Type::Int)], ..BASE };
        static TWICE: Table =
            Table { columns: &[Column::new("a", Type::Int), Column::new("a", Type::Int)], ..BASE };
        static HIDDEN: Table =
            Table { columns: &[Column::new("a", Type::Int), Column::new("t_", Type::Int)], ..BASE };
        static NO_COLUMN: Table = Table { indexes: &[Index { name: "i", columns: &["b"] }], ..BASE };
        static REGISTER: Table = Table { register: Some("a"), ..BASE };
        static OURS: Table = Table { name: "hilum_x", ..BASE };
        const BASE: Table = Table {
            name: "x",
            key_len: 1,
            columns: &[Column::new("a", Type::Int)],
            indexes: &[],
            register: None,
        };
        for bad in [&NO_KEY, &OPTIONAL_KEY, &TWICE, &HIDDEN, &NO_COLUMN, &REGISTER, &OURS] {
            assert!(Schema::new(&[bad]).is_err(), "{bad:?}");
        }
        assert!(Schema::new(&[&BED, &BED]).is_err(), "declared twice");
    }

    #[test]
    fn scans_are_ordered_by_index_and_then_the_rest_of_the_key() {
        let schema = Schema::new(&[&BED]).unwrap();
        let mut scan = Scan::by_index("bed", "by_patient", vec![Value::Null]);
        scan.after = Some(vec![Value::Null, text("A"), text("A"), Value::Int(7)]);
        let ordered = schema.check_scan(&scan).unwrap();
        assert_eq!(ordered.columns, vec![2, 0, 1]);
        assert_eq!(ordered.after, Some(vec![&Value::Null, &text("A"), &Value::Int(7)]));
        scan.after = Some(vec![Value::Null, text("A")]);
        assert!(schema.check_scan(&scan).is_err(), "arity of after");
        scan.after = None;
        scan.from = Some(Value::Null);
        assert!(schema.check_scan(&scan).is_err(), "absent bound");
        scan.from = Some(Value::Int(1));
        assert!(schema.check_scan(&scan).is_err(), "bound of the wrong type");
        scan.from = None;
        scan.prefix = vec![Value::Null, text("A"), Value::Int(1), Value::Int(1)];
        assert!(schema.check_scan(&scan).is_err(), "prefix too long");
    }
}
