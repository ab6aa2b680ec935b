//! Who asks.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::Id;

/// What a person or a key may do; `docs/SECURITY.md` has the table role × route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends messages in; reads nothing.
    Feed,
    /// Reads census, patients and messages.
    Viewer,
    /// Also mends: quarantine, work queue, merges.
    Operator,
    /// Also accounts, keys and the audit log.
    Admin,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 4] = [Self::Feed, Self::Viewer, Self::Operator, Self::Admin];

    /// The role's name, lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a role: take feed, viewer, operator or admin")]
pub struct RoleError;

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(raw: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == raw).ok_or(RoleError)
    }
}

/// The patients of whom alone somebody may know, by their ids in the chart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PatientList {
    /// These.
    pub patients: BTreeSet<Id>,
    /// And the members of these Groups, as they are when somebody asks.
    pub groups: BTreeSet<Id>,
}

/// On whose behalf something is read or done: an argument of every read of the chart. It can be made only from a
/// principal and a role, so a read without one does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    principal: String,
    role: Role,
    patients: Option<Arc<PatientList>>,
}

impl Authority {
    /// The authority of `principal` (an account or key name) in `role`.
    pub fn new(principal: impl Into<String>, role: Role) -> Self {
        Self { principal: principal.into(), role, patients: None }
    }

    /// The same, limited to some patients.
    #[must_use]
    pub fn limited_to(self, patients: Arc<PatientList>) -> Self {
        Self { patients: Some(patients), ..self }
    }

    /// The patients of whom alone it may know; absent = all.
    pub fn patients(&self) -> Option<&PatientList> {
        self.patients.as_deref()
    }

    /// The process itself (rebuild, reconciler): reads all, and the audit log names it.
    pub fn system(part: &'static str) -> Self {
        Self::new(format!("system:{part}"), Role::Admin)
    }

    /// The account's or key's name.
    pub fn principal(&self) -> &str {
        &self.principal
    }

    /// The role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether it may read charts.
    pub const fn reads_charts(&self) -> bool {
        matches!(self.role, Role::Viewer | Role::Operator | Role::Admin)
    }

    /// Whether it may change what the fold is based on (quarantine, work queue, merges).
    pub const fn decides(&self) -> bool {
        matches!(self.role, Role::Operator | Role::Admin)
    }
}
