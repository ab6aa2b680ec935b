//! What goes out: a resource with the headers that FHIR asks for, or an OperationOutcome that says the way out.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hilum_chart::search::PlanError;
use hilum_chart::{ChartError, Stored};
use hilum_core::Kind;
use hilum_engines::tables::TablesError;
use hilum_fhir::check::Finding;
use hilum_fhir::json::JsonError;
use hilum_fhir::search::query::QueryError;
use hilum_fhir::{IssueType, OperationOutcome, Severity};
use hilum_web::outcome::{Fault, own};
use hilum_web::shell::Shell;

/// The media type of what goes out.
const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json; charset=utf-8");

/// Why a request is not done. Holds nothing of what was sent.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No type of R4.
    NoType,
    /// No id.
    NoId,
    /// There is none, or who asks may not know.
    NotFound,
    /// It was deleted by this version.
    Gone(i64),
    /// A header that is not understood.
    Header(HeaderName),
    /// A parameter that the interaction does not have, or twice, or with a value that does not fit.
    Parameter { known: String },
    /// Another form than JSON is wanted.
    NotAcceptable,
    /// The body is said to be something else than JSON.
    MediaType,
    /// The body cannot be read.
    Json(JsonError),
    /// The body is no resource of R4, or not the one that the address names.
    Findings(Vec<Finding>),
    /// The body says another type or id than the address.
    Address(&'static str),
    /// Another version is current than the one named.
    Version,
    /// What names no version: the resource changes faster than it can be written.
    Busy,
    /// A condition meets several resources.
    Several,
    /// A reference by a search is to nothing.
    Nothing,
    /// What FHIR has and this server has not yet.
    Unsupported(&'static str),
    /// A Bundle has more entries than this.
    Entries(usize),
    /// The search is not understood.
    Query(QueryError),
    /// The search is understood and not answered.
    Plan(PlanError),
    /// Nothing is indexed here.
    NoSearch,
    /// What stood before the index is not in it yet.
    NotIndexed,
    /// The search takes longer than it may.
    TooCostly,
    /// The search does not fit into the links of its pages.
    TooLongForPages,
    /// A form is wanted.
    NoForm,
    /// The resource is a projection's.
    Owned(String),
    /// Everything else.
    Fault(Fault),
}

impl From<ChartError> for Trouble {
    fn from(error: ChartError) -> Self {
        match error {
            ChartError::NotFound => Self::NotFound,
            ChartError::Gone { version } => Self::Gone(version),
            ChartError::Version { .. } => Self::Version,
            ChartError::Owned { owner } => Self::Owned(owner),
            ChartError::Tables(TablesError::TooCostly) => Self::TooCostly,
            other => Self::Fault(Fault::because(other.kind(), &other)),
        }
    }
}

impl From<QueryError> for Trouble {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<JsonError> for Trouble {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

fn one(status: StatusCode, code: IssueType, text: impl Into<String>) -> Response {
    outcome(status, &OperationOutcome::one(Severity::Error, code, text))
}

pub(super) fn outcome(status: StatusCode, outcome: &OperationOutcome) -> Response {
    own((status, [(header::CONTENT_TYPE, FHIR_JSON)], outcome.to_json()).into_response())
}

/// The findings of a check as an outcome; all is well when there are none.
pub(super) fn outcome_of(findings: &[Finding]) -> OperationOutcome {
    let mut all = findings.iter();
    let Some(first) = all.next() else {
        let text = "the structure is that of R4; invariants and profiles are not checked";
        return OperationOutcome::one(Severity::Information, IssueType::Informational, text);
    };
    let begun = OperationOutcome::one(Severity::Error, first.code, &*first.text).at(&*first.expression);
    all.fold(begun, |outcome, finding| {
        outcome.and(Severity::Error, finding.code, &*finding.text).at(&*finding.expression)
    })
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        use IssueType as Code;
        use StatusCode as Status;
        match self {
            Self::NoType => one(
                Status::NOT_FOUND,
                Code::NotSupported,
                "no resource type of R4; GET /fhir/metadata lists them",
            ),
            Self::NoId => {
                one(Status::NOT_FOUND, Code::NotFound, "an id has 1 to 64 letters, digits, - and .")
            }
            Self::NotFound => one(Status::NOT_FOUND, Code::NotFound, "no such resource"),
            Self::Gone(version) => {
                let text = format!("deleted by version {version}; its versions before are in _history");
                let mut response = one(Status::GONE, Code::Deleted, text);
                response.headers_mut().insert(header::ETAG, etag(version));
                response
            }
            Self::Header(name) => one(
                Status::BAD_REQUEST,
                Code::Value,
                format!("header {name} is not understood{}", takes(&name)),
            ),
            Self::Parameter { known } if known.is_empty() => {
                one(Status::BAD_REQUEST, Code::NotSupported, "this interaction has no parameters")
            }
            Self::Parameter { known } => one(
                Status::BAD_REQUEST,
                Code::NotSupported,
                format!("this interaction has the parameters {known}, each once"),
            ),
            Self::NotAcceptable => one(
                Status::NOT_ACCEPTABLE,
                Code::NotSupported,
                "answers are JSON alone: Accept: application/fhir+json, or _format=json",
            ),
            Self::MediaType => one(
                Status::UNSUPPORTED_MEDIA_TYPE,
                Code::NotSupported,
                "bodies are JSON alone: Content-Type: application/fhir+json",
            ),
            Self::Json(error @ JsonError::TooLarge { .. }) => {
                one(Status::PAYLOAD_TOO_LARGE, Code::TooLong, error.to_string())
            }
            Self::Json(error) => one(Status::BAD_REQUEST, Code::Structure, error.to_string()),
            Self::Findings(findings) => outcome(Status::UNPROCESSABLE_ENTITY, &outcome_of(&findings)),
            Self::Address(text) => one(Status::BAD_REQUEST, Code::Invalid, text),
            Self::Version => one(
                Status::PRECONDITION_FAILED,
                Code::Conflict,
                "another version is current: read it, and send its ETag as If-Match",
            ),
            Self::Busy => one(
                Status::CONFLICT,
                Code::Conflict,
                "others write this resource all the time: read it, and send its ETag as If-Match",
            ),
            Self::Several => one(
                Status::PRECONDITION_FAILED,
                Code::MultipleMatches,
                "several resources meet the condition: ask for what one alone has",
            ),
            Self::Nothing => one(
                Status::PRECONDITION_FAILED,
                Code::NotFound,
                "a reference by a search finds nothing: create it in the same transaction, or before",
            ),
            Self::Unsupported(text) => one(Status::BAD_REQUEST, Code::NotSupported, text),
            Self::Entries(max) => one(
                Status::PAYLOAD_TOO_LARGE,
                Code::TooLong,
                format!("a Bundle has at most {max} entries: send what belongs together, several times"),
            ),
            Self::Query(error) => {
                let code = match error {
                    QueryError::Unknown { .. }
                    | QueryError::Unanswered { .. }
                    | QueryError::Modifier { .. } => Code::NotSupported,
                    QueryError::Value { .. } | QueryError::Chain { .. } | QueryError::Twice { .. } => {
                        Code::Value
                    }
                    QueryError::Bound { .. } => Code::TooCostly,
                };
                one(Status::BAD_REQUEST, code, error.to_string())
            }
            Self::Plan(error) => {
                let code = match error {
                    PlanError::Unanswered { .. } => Code::NotSupported,
                    PlanError::TooComplex => Code::TooCostly,
                };
                one(Status::BAD_REQUEST, code, error.to_string())
            }
            Self::NoSearch => one(
                Status::NOT_IMPLEMENTED,
                Code::NotSupported,
                "searches are turned off here: set fhir.search = true, stop the server and run hilum rebuild index",
            ),
            Self::NotIndexed => {
                let text = "what is here is not all indexed yet: stop the server and run hilum rebuild index";
                let mut response = one(Status::SERVICE_UNAVAILABLE, Code::Transient, text);
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
                response
            }
            Self::TooCostly => one(
                Status::BAD_REQUEST,
                Code::TooCostly,
                "the search takes longer than it may: ask for what fewer resources have (an identifier, a patient, a day)",
            ),
            Self::TooLongForPages => one(
                Status::BAD_REQUEST,
                Code::TooCostly,
                "the search is too long for the links of its pages: ask for less, or for all in one page by _count",
            ),
            Self::NoForm => one(
                Status::UNSUPPORTED_MEDIA_TYPE,
                Code::NotSupported,
                "parameters come as a form: Content-Type: application/x-www-form-urlencoded",
            ),
            Self::Owned(owner) => one(
                Status::CONFLICT,
                Code::BusinessRule,
                format!("the resource is made from messages by `{owner}` and changed by messages alone"),
            ),
            Self::Fault(fault) => fault.into_response(),
        }
    }
}

fn takes(name: &HeaderName) -> &'static str {
    match *name {
        header::IF_MATCH | header::IF_NONE_MATCH => ": an ETag like W/\"3\" belongs there",
        header::IF_MODIFIED_SINCE => ": a date like Sun, 06 Nov 1994 08:49:37 GMT belongs there",
        _ => ": it is no text, too long, or stands twice",
    }
}

/// `W/"3"`.
fn etag(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("W/\"{version}\"")).expect("digits within quotes")
}

/// ETag and Last-Modified of a version.
pub(super) fn headers_of(stored: &Stored) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, FHIR_JSON);
    headers.insert(header::ETAG, etag(stored.version));
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    // A year beyond 9999 has no such form.
    if let Ok(date) = printer.timestamp_to_rfc9110_string(&stored.updated.to_jiff())
        && let Ok(date) = HeaderValue::from_str(&date)
    {
        headers.insert(header::LAST_MODIFIED, date);
    }
    headers
}

/// A version as it goes out.
pub(super) fn resource(status: StatusCode, stored: &Stored, body: String, pretty: bool) -> Response {
    (status, headers_of(stored), laid_out(body, pretty)).into_response()
}

/// JSON of FHIR that is no stored resource.
pub(super) fn json(body: String, pretty: bool) -> Response {
    ([(header::CONTENT_TYPE, FHIR_JSON)], laid_out(body, pretty)).into_response()
}

/// JSON as it is, or with a line for each member and element; what is no blank keeps its bytes.
fn laid_out(json: String, pretty: bool) -> String {
    if !pretty {
        return json;
    }
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped, mut last) = (0_usize, false, false, ' ');
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    for sign in json.chars() {
        if in_text {
            out.push(sign);
            (in_text, escaped) = (sign != '"' || escaped, sign == '\\' && !escaped);
            last = sign;
            continue;
        }
        if sign.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(sign, '}' | ']');
        let is_empty = closes && matches!(last, '{' | '[');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if (closes && !is_empty) || (!closes && matches!(last, '{' | '[' | ',')) {
            line(&mut out, depth);
        }
        out.push(sign);
        match sign {
            '{' | '[' => depth += 1,
            ':' => out.push(' '),
            '"' => in_text = true,
            _ => {}
        }
        last = sign;
    }
    out.push('\n');
    out
}

/// The address under which the client reached us, for addresses that must be absolute; a `Host` that is none is not given
/// back.
pub(super) fn base(shell: &Shell, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = if !host.is_empty() && host.bytes().all(is_host) { host } else { "localhost" };
    format!("{}://{host}/fhir", if shell.is_https() { "https" } else { "http" })
}

/// That a page's link was good once.
pub(super) fn expired() -> Response {
    one(
        StatusCode::GONE,
        IssueType::Expired,
        "the link to this page is too old: begin anew by the header Link, rel=\"first\"",
    )
}

/// That a handler panicked or an engine fails is the shell's to word.
pub(super) fn broken(why: &'static str) -> Trouble {
    Trouble::Fault(Fault::because(Kind::Internal, &why))
}

#[cfg(test)]
mod tests {
    use super::laid_out;

    #[test]
    fn what_is_laid_out_says_the_same() {
        let cases = [
            ("empty", "{}", "{}\n"),
            ("digits and blanks", r#"{"a" : 1.50,"b":[]}"#, "{\n  \"a\": 1.50,\n  \"b\": []\n}\n"),
            ("signs in texts", r#"["a\"{,:","\\"]"#, "[\n  \"a\\\"{,:\",\n  \"\\\\\"\n]\n"),
        ];
        for (why, json, want) in cases {
            assert_eq!(laid_out(json.to_owned(), true), want, "{why}");
            assert_eq!(laid_out(json.to_owned(), false), json, "{why}");
        }
    }
}
