//! What a caller may do about an error.

/// Each crate's error enum answers `kind()` with one of these; one place turns kinds into answers
/// (`web::outcome` for HTTP, `hl7v2::ack` for MLLP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// What was sent is not acceptable; sending it again changes nothing.
    Invalid,
    /// Nobody proved who they are.
    Unauthenticated,
    /// Known, but not allowed.
    Forbidden,
    /// There is no such thing, or the caller may not know that there is.
    NotFound,
    /// Larger than a bound allows.
    TooLarge,
    /// Another writer was first; read again and try again.
    Conflict,
    /// An engine or the disk does not answer now; nothing was lost; try later.
    Transient,
    /// A broken invariant of ours.
    Internal,
}
