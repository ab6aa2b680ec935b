//! What every crate of the house speaks: identifiers, time, patient data as a type, envelopes, principals,
//! error kinds. No I/O, no async runtime, no clock and no randomness of its own.
//!
//! | module | what lives there |
//! |---|---|
//! | [`is_blank`] | texts that say nothing though they are not empty |
//! | [`clock`] | time and randomness, handed in by the wiring |
//! | [`envelope`] | what the log keeps: one message with everything that was known when it came in |
//! | [`failpoint`] | named places where a test may kill the process |
//! | [`id`] | newtypes for ids, digests and the installation key that makes ids a function of what they name |
//! | [`kind`] | what a caller may do about an error |
//! | [`limits`] | the bounds of this crate |
//! | [`phi`] | patient data as a type that does not print |
//! | [`principal`] | who asks: [`Authority`](principal::Authority), an argument of every read |
//! | [`time`] | instants on the wire and on disk |
//! | [`trace`] | what a message's steps say of themselves to a collector |

mod blank;
pub mod clock;
pub mod envelope;
pub mod failpoint;
pub mod id;
pub mod kind;
pub mod limits;
pub mod phi;
pub mod principal;
pub mod time;
pub mod trace;

pub use blank::is_blank;
pub use clock::{Clock, Entropy};
pub use envelope::{ContentType, Envelope, Epoch, Position, SourceName, Stream};
pub use id::{Digest, Id, InstallationKey, RecordId};
pub use kind::Kind;
pub use phi::Phi;
pub use principal::{Authority, PatientList, Role};
pub use time::{Seq, Timestamp};
pub use trace::{TraceContext, Tracer};
