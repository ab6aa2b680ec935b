//! What the shell keeps. None of it is folded from the log: accounts, keys and sessions are in the backup, and no
//! rebuild touches them.

use hilum_engines::tables::{Column, Index, Table, Type};

const fn req(name: &'static str, ty: Type) -> Column {
    Column::new(name, ty)
}

const fn opt(name: &'static str, ty: Type) -> Column {
    Column::optional(name, ty)
}

/// Local accounts.
pub const ACCOUNT: Table = Table {
    name: "web_account",
    key_len: 1,
    columns: &[
        req("name", Type::Text),
        req("role", Type::Text),
        opt("password", Type::Text), // PHC string (argon2id); absent = signs in by one-time link only
        req("created", Type::Time),
        req("changed", Type::Time), // of password, role or state: sessions from before end
        req("disabled", Type::Bool),
    ],
    indexes: &[],
    register: None,
};

/// API keys, by digest: the key itself is shown once and kept nowhere.
pub const KEY: Table = Table {
    name: "web_key",
    key_len: 1,
    columns: &[
        req("digest", Type::Bytes),
        req("name", Type::Text),
        req("role", Type::Text),
        req("hint", Type::Text), // the first characters, for people
        req("created", Type::Time),
        opt("revoked", Type::Time),
        opt("used", Type::Time),
    ],
    indexes: &[Index { name: "by_name", columns: &["name"] }],
    register: None,
};

/// Sessions, by digest of the cookie's token.
pub const SESSION: Table = Table {
    name: "web_session",
    key_len: 1,
    columns: &[
        req("digest", Type::Bytes),
        req("account", Type::Text),
        req("created", Type::Time),
        req("seen", Type::Time),
    ],
    indexes: &[
        Index { name: "by_account", columns: &["account"] },
        Index { name: "by_seen", columns: &["seen"] },
    ],
    register: None,
};

/// One-time sign-in links, by digest of their token; used = deleted.
pub const LINK: Table = Table {
    name: "web_link",
    key_len: 1,
    columns: &[req("digest", Type::Bytes), req("account", Type::Text), req("until", Type::Time)],
    indexes: &[],
    register: None,
};

/// What the wiring opens among the process's tables.
pub const ALL: &[&Table] = &[&ACCOUNT, &KEY, &SESSION, &LINK];

/// The audit log: one row per event, each with the keyed hash of itself and the row before.
pub const AUDIT: Table = Table {
    name: "web_audit",
    key_len: 1,
    columns: &[
        req("n", Type::Int), // 1, 2, 3 … without a gap
        req("at", Type::Time),
        req("principal", Type::Text), // empty = nobody proved who they are
        req("role", Type::Text),      // empty likewise
        req("action", Type::Text),
        req("route", Type::Text), // METHOD /template
        opt("patient", Type::Id),
        req("outcome", Type::Int), // HTTP status
        req("detail", Type::Text), // how many rows, which record: ids and counts only
        req("request", Type::Id),
        req("hash", Type::Bytes),
    ],
    indexes: &[
        Index { name: "by_patient", columns: &["patient", "n"] },
        Index { name: "by_principal", columns: &["principal", "n"] },
    ],
    register: None,
};

/// The audit log's end: its last number and hash under the key, so that a missing end shows.
pub const AUDIT_HEAD: Table = Table {
    name: "web_audit_head",
    key_len: 1,
    columns: &[req("id", Type::Int), req("n", Type::Int), req("hash", Type::Bytes), req("seal", Type::Bytes)],
    indexes: &[],
    register: None,
};

/// What the wiring opens on `DIR/audit.sqlite`.
pub const AUDIT_ALL: &[&Table] = &[&AUDIT, &AUDIT_HEAD];
