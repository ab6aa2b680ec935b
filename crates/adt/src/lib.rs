//! The ADT room: HL7 v2 messages come in by three doors, are acknowledged when they are durable, and become
//! encounters, patients and a ward census that any order of arrival leaves the same.

pub mod accept;
pub mod acks;
pub mod announce;
pub mod board;
pub mod content;
mod control_id;
pub mod correction;
pub mod decision;
pub mod facts;
pub mod fold;
pub mod gateways;
pub mod held;
pub mod http;
pub mod identity;
pub mod import;
pub mod kin;
pub mod limits;
pub mod map;
pub mod mllp;
pub mod order;
pub mod project;
mod render;
pub mod routes;
pub mod settings;
pub mod sources;
pub mod state;
pub mod tables;
mod traced;
pub mod unreadable;
pub mod view;
