//! The ports, each with its real engines, and nothing else of the house: no FHIR, no HL7, no room.
//!
//! | port | engines | promise |
//! |---|---|---|
//! | [`log`] | embedded (SQLite), Kafka to come | what came in, durable before anyone is told so |
//! | [`tables`] | SQLite, PostgreSQL | typed rows; one commit, all or nothing, validated against what it was based on |
//!
//! SQL and engine names end here: nobody above writes a statement.

pub mod bare;
pub mod checkup;
pub mod limits;
pub mod log;
pub mod sqlite_file;
pub mod tables;
