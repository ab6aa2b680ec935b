//! What the room keeps.

use hilum_engines::tables::{Column, Index, Table, Type};

/// Searches whose pages are linked by a name (`_getpages`), or that are too long for a link: what was asked and the commit,
/// sealed by a key that stands in the link alone. Never a resource; gone when its time is over.
pub const KEPT: Table = Table {
    name: "records_kept",
    key_len: 1,
    columns: &[
        Column::new("handle", Type::Bytes),
        Column::new("until", Type::Time),
        Column::new("sealed", Type::Bytes),
    ],
    indexes: &[Index { name: "by_until", columns: &["until"] }],
    register: None,
};

/// What the wiring opens among the process's tables.
pub const ALL: &[&Table] = &[&KEPT];
