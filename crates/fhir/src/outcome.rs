//! OperationOutcome (<https://hl7.org/fhir/R4/operationoutcome.html>).

use serde::Serialize;

/// How bad it is (<http://hl7.org/fhir/issue-severity>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing was done, the process cannot go on.
    Fatal,
    /// What was asked was not done.
    Error,
    /// It was done, but look.
    Warning,
    /// For information.
    Information,
}

/// What kind of issue (<http://hl7.org/fhir/issue-type>): those that hilum answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum IssueType {
    /// Content that is not valid.
    Invalid,
    /// Not well-formed.
    Structure,
    /// Something required is missing.
    Required,
    /// A value is out of its domain.
    Value,
    /// A code that is not of the value set that is required.
    CodeInvalid,
    /// A business rule refuses it.
    BusinessRule,
    /// Who asks is unknown.
    Login,
    /// Not allowed.
    Forbidden,
    /// Not supported here.
    NotSupported,
    /// There is no such thing.
    NotFound,
    /// It was deleted.
    Deleted,
    /// Larger than a bound.
    TooLong,
    /// More work than one request may ask for.
    TooCostly,
    /// Several meet what only one may meet.
    MultipleMatches,
    /// It was good once.
    Expired,
    /// Another writer was first.
    Conflict,
    /// An engine does not answer now.
    Transient,
    /// A broken invariant of ours.
    Exception,
    /// For information.
    Informational,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Issue {
    severity: Severity,
    code: IssueType,
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnostics: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expression: Vec<String>,
}

/// An OperationOutcome; texts carry no patient data.
///
/// ```
/// use hilum_fhir::{IssueType, OperationOutcome, Severity};
/// let outcome = OperationOutcome::one(Severity::Error, IssueType::NotFound, "no such resource");
/// assert_eq!(
///     outcome.to_json(),
///     r#"{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"not-found","diagnostics":"no such resource"}]}"#
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationOutcome {
    resource_type: &'static str,
    issue: Vec<Issue>,
}

impl OperationOutcome {
    /// An outcome with one issue.
    pub fn one(severity: Severity, code: IssueType, diagnostics: impl Into<String>) -> Self {
        Self { resource_type: "OperationOutcome", issue: Vec::new() }.and(severity, code, diagnostics)
    }

    /// With one more issue.
    #[must_use]
    pub fn and(mut self, severity: Severity, code: IssueType, diagnostics: impl Into<String>) -> Self {
        self.issue.push(Issue {
            severity,
            code,
            diagnostics: Some(diagnostics.into()),
            expression: Vec::new(),
        });
        self
    }

    /// Names the place (FHIRPath, `Patient.birthDate`) of the last issue.
    #[must_use]
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        // The whole of what was sent has no place in itself.
        let expression = expression.into();
        if let Some(issue) = self.issue.last_mut().filter(|_| !expression.is_empty()) {
            issue.expression.push(expression);
        }
        self
    }

    /// As JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain data with string keys serializes")
    }
}
