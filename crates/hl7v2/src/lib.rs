//! HL7 v2: from bytes to segments, slots and text, and back to an acknowledgment. Pure: no I/O, no clock, no
//! `unsafe`; never panics on input.
//!
//! | module | what lives there |
//! |---|---|
//! | [`ack`] | acknowledgments, and the header without the rest (clinical-rules 23, 24) |
//! | [`batch`] | files of messages |
//! | [`census`] | the nine values of a census row, for measuring |
//! | [`charset`] | which charset a message is in, and by which rule (clinical-rules 21, 22) |
//! | [`delimiters`] | MSH-1 and MSH-2 |
//! | [`edit`] | changing one place of a message |
//! | [`fields`] | what fields are called |
//! | [`finding`] | what is odd about a message that is nevertheless taken |
//! | [`limits`] | the bounds of this crate |
//! | [`message`] | [`Message`], [`Segment`], [`Slot`] |
//! | [`mllp`] | framing on a socket |
//! | [`path`] | [`Path`]: `PID-3[2].4.1` |
//! | [`time`] | dates and times with their precision (clinical-rules 3) |
//! | [`trigger`] | the ADT events with their effects, the other message types by name |

pub mod ack;
pub mod batch;
pub mod census;
pub mod charset;
pub mod delimiters;
pub mod edit;
mod escape;
pub mod fields;
pub mod finding;
pub mod limits;
pub mod message;
pub mod mllp;
pub mod path;
mod split;
pub mod time;
pub mod trigger;

pub use ack::{Acknowledgment, Answer, Headers, Problem, acknowledge};
pub use charset::{Charset, CharsetError, CharsetSettings};
pub use delimiters::Delimiters;
pub use edit::{EditError, Value};
pub use fields::{field_name, segment_title};
pub use finding::{Finding, Flaw, Flaws};
pub use message::{Decoded, Message, ParseError, Parts, Presence, Segment, Slot};
pub use path::{Path, PathError};
pub use trigger::{Effect, Trigger};
