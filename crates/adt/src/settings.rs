//! What a source's own settings are: everything that `docs/OPERATIONS.md` calls *by source*, with the default that
//! works unconfigured. A source's settings are kept by digest, so that a rebuild folds a message by the settings
//! that applied when it came in.

use std::collections::BTreeMap;

use hilum_core::Digest;
use serde::{Deserialize, Serialize};

/// What a segment group that is sent means for what was sent before (clinical-rules 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupMode {
    /// The group is the whole set: what is missing stands in history as "no longer sent".
    Replace,
    /// The group adds to the set.
    Add,
}

/// What the door does when it cannot keep a message for a reason of its own (clinical-rules 24).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnTransient {
    /// No answer; the connection closes; the sender's queue keeps the message.
    #[serde(rename = "close")]
    Close,
    /// AR with ERR-3 207.
    #[serde(rename = "AR")]
    Reject,
    /// AE with ERR-3 207.
    #[serde(rename = "AE")]
    Error,
}

/// The groups of segments that [`SourceSettings::segments`] may name.
pub const GROUPS: [&str; 4] = ["AL1", "DG1", "IAM", "NK1"];

/// One source's settings. Every field has a default, and unknown ones are passed over: what an older program wrote down
/// is read for ever. (The configuration refuses unknown keys by itself.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceSettings {
    /// IANA zone of times that carry no offset and whose message carries none (rule 3).
    pub zone: String,
    /// Charset that holds whatever MSH-18 says (rule 21, first step of the ladder).
    pub charset: Option<String>,
    /// Charset of bytes that MSH-18 does not explain and that are no UTF-8 (last step).
    pub charset_fallback: Option<String>,
    /// Authority of identifiers that carry none; absent = MSH-4, else the source's name (marked).
    pub authority: Option<String>,
    /// Authorities by other names: `{"SNUH^1.2.3^ISO" = "SNUH"}`; namespace id, universal id or the whole HD.
    pub authority_aliases: BTreeMap<String, String>,
    /// Type (PID-3.5) of the identifier that alone makes the patient (rule 14).
    pub primary_type: String,
    /// Authority of the primary identifier; absent = any, the first one of `primary_type`.
    pub primary_authority: Option<String>,
    /// Types that identify beside the primary one.
    pub identifying_types: Vec<String>,
    /// The type of an identifier whose PID-3.5 is empty.
    pub blank_type: String,
    /// Whether PID-2 and PID-4 are read as identifiers.
    pub use_pid2_pid4: bool,
    /// Whether PID-18 (account) names the visit (rule 17).
    pub account_is_visit: bool,
    /// Whether MSH-10 is a number that only grows (rule 2).
    pub monotone_control_ids: bool,
    /// `replace` or `add` by segment; AL1, IAM, DG1, NK1; what is not named replaces.
    pub segments: BTreeMap<String, GroupMode>,
    /// Whether a component that is `""` deletes that component (rule 12).
    pub component_null_deletes: bool,
    /// Names that stand for an unknown person (rule 18), compared whole after trimming.
    pub unknown_names: Vec<String>,
    /// Values that stand for "none" in PID-3, PV1-19 and the like, compared whole without regard to case; beside them
    /// whatever is made of zeros and punctuation alone.
    pub placeholder_values: Vec<String>,
    /// Unit codes (PV1-3.1) that are emergency places; class E counts in any place.
    pub emergency_units: Vec<String>,
    /// What the door does on a fault of ours.
    pub on_transient: OnTransient,
    /// Whether messages that MSH-11 calls training or debugging (T, D) are charted: never on a production server.
    pub accept_training: bool,
    /// Seconds of silence after which the source is shown as silent; 0 = never.
    pub silence_alarm_s: u32,
}

impl Default for SourceSettings {
    fn default() -> Self {
        let words = |list: &[&str]| list.iter().map(|&word| word.to_owned()).collect();
        Self {
            zone: "UTC".to_owned(),
            charset: None,
            charset_fallback: None,
            authority: None,
            authority_aliases: BTreeMap::new(),
            primary_type: "MR".to_owned(),
            primary_authority: None,
            identifying_types: words(&["MR", "PI"]),
            blank_type: "MR".to_owned(),
            use_pid2_pid4: false,
            account_is_visit: false,
            monotone_control_ids: false,
            segments: BTreeMap::new(),
            component_null_deletes: false,
            unknown_names: words(&["무명남", "무명녀", "UNKNOWN", "DOE^JOHN", "DOE^JANE"]),
            placeholder_values: words(&["N/A", "NA", "NONE", "NULL", "UNKNOWN"]),
            emergency_units: Vec::new(),
            on_transient: OnTransient::Close,
            accept_training: false,
            silence_alarm_s: 600,
        }
    }
}

impl SourceSettings {
    /// The canonical text that is kept and hashed: JSON with fields in the order of declaration.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys serializes")
    }

    /// The digest of [`SourceSettings::canonical`], as envelopes carry it.
    pub fn sha(&self) -> Digest {
        Digest::of(self.canonical().as_bytes())
    }
}
