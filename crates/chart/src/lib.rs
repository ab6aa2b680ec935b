//! One patient, one truth: what is known about a patient as FHIR resources, committed together with the rows, the
//! offset and the outbox of whatever made it; and the runner that feeds projections from the log.
//!
//! | module | what lives there |
//! |---|---|
//! | [`projection`] | the contract of a projection: a pure function between reads and one commit |

pub mod projection;
