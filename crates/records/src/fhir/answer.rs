//! What goes out: a resource with the headers that FHIR asks for, or an OperationOutcome that says the way out.

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hilum_chart::search::PlanError;
use hilum_chart::{ChartError, Stored};
use hilum_core::Kind;
use hilum_engines::tables::TablesError;
use hilum_fhir::check::Finding;
use hilum_fhir::json::JsonError;
use hilum_fhir::patch::PatchError;
use hilum_fhir::search::query::QueryError;
use hilum_fhir::subset::SubsetError;
use hilum_fhir::{IssueType, OperationOutcome, Severity};
use hilum_web::outcome::{Fault, own};
use hilum_web::shell::Shell;

use super::ask::JSON_PATCH;

/// The media type of what goes out.
pub(super) const FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json; charset=utf-8");

/// Why a request is not done. Holds nothing of what was sent.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// No type of R4.
    NoType,
    /// No operation that the type has here.
    NoOperation,
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
    /// No part of a resource.
    Subset(SubsetError),
    /// Another form than JSON is wanted.
    NotAcceptable,
    /// The body is said to be something else than JSON.
    MediaType,
    /// The body is no patch that is taken.
    PatchType,
    /// The patch is none, or cannot be applied.
    Patch(PatchError),
    /// The body cannot be read.
    Json(JsonError),
    /// The body is no resource of R4, or not the one that the address names.
    Findings(Vec<Finding>),
    /// The body says another type or id than the address.
    Address(&'static str),
    /// Another version is current than the one named.
    Version,
    /// No version is named, and one has to be.
    Required,
    /// A version is named, and nothing stands there.
    Missing,
    /// Something stands where there was to be nothing.
    Exists,
    /// What no condition was met by says an id that stands for something else.
    Taken,
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
    /// A Bundle asks for more searches than this.
    Searches(usize),
    /// A resource refers to more resources than this.
    References(usize),
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

impl From<SubsetError> for Trouble {
    fn from(error: SubsetError) -> Self {
        Self::Subset(error)
    }
}

impl From<PatchError> for Trouble {
    fn from(error: PatchError) -> Self {
        match error {
            PatchError::Json(error) => Self::Json(error),
            other => Self::Patch(other),
        }
    }
}

impl From<JsonError> for Trouble {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}

const SEVERAL: &str = "several resources meet the condition: ask for what one alone has";
const NO_SEARCH: &str =
    "searches are turned off here: set fhir.search = true, stop the server and run hilum rebuild index";
const NOT_INDEXED: &str = "what is here is not all indexed yet: stop the server and run hilum rebuild index";

/// Why a resource that messages make is not written.
pub(crate) fn owned(owner: &str) -> String {
    format!("the resource is made from messages by `{owner}` and changed by messages alone")
}

impl Trouble {
    /// Why a search or a condition cannot be asked, for whoever is told outside of an answer.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::NoType => "no resource type of R4".to_owned(),
            Self::Query(error) => error.to_string(),
            Self::Plan(error) => error.to_string(),
            Self::Address(text) | Self::Unsupported(text) => (*text).to_owned(),
            Self::Several => SEVERAL.to_owned(),
            Self::NoSearch => NO_SEARCH.to_owned(),
            Self::NotIndexed => NOT_INDEXED.to_owned(),
            Self::TooCostly => "the search takes longer than it may".to_owned(),
            Self::Parameter { known } => format!("each once, with a value that fits: {known}"),
            Self::Subset(error) => error.to_string(),
            _ => "it cannot be asked so".to_owned(),
        }
    }
}

fn one(status: StatusCode, code: IssueType, text: impl Into<String>) -> Response {
    outcome(status, &OperationOutcome::one(Severity::Error, code, text))
}

/// What is wrong with a parameter or a header, which is named where it is one of ours: others' names may be anything.
fn wrong(code: IssueType, name: Option<&str>, text: impl Into<String>) -> Response {
    let at = name.map_or_else(String::new, |name| format!("http.{name}"));
    outcome(StatusCode::BAD_REQUEST, &OperationOutcome::one(Severity::Error, code, text).at(at))
}

pub(super) fn outcome(status: StatusCode, outcome: &OperationOutcome) -> Response {
    own((status, [(header::CONTENT_TYPE, FHIR_JSON)], outcome.to_json()).into_response())
}

/// What is said of what was written, to who wants to be told so.
pub(super) fn written() -> OperationOutcome {
    OperationOutcome::one(Severity::Information, IssueType::Informational, "done")
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
            Self::NoOperation => one(
                Status::NOT_FOUND,
                Code::NotSupported,
                "no operation of this type; GET /fhir/metadata lists them",
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
            Self::Header(name) => wrong(
                Code::Value,
                Some(name.as_str()),
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
            Self::Subset(error) => wrong(Code::Value, Some(error.name()), error.to_string()),
            Self::Unsupported(text) => one(Status::BAD_REQUEST, Code::NotSupported, text),
            Self::NotAcceptable => one(
                Status::NOT_ACCEPTABLE,
                Code::NotSupported,
                "answers are JSON of R4 alone: Accept: application/fhir+json; fhirVersion=4.0, or _format=json",
            ),
            Self::MediaType => one(
                Status::UNSUPPORTED_MEDIA_TYPE,
                Code::NotSupported,
                "bodies are JSON of R4 alone: Content-Type: application/fhir+json; fhirVersion=4.0",
            ),
            Self::PatchType => {
                let text = format!(
                    "a patch is a JSON Patch here: Content-Type: {JSON_PATCH} (FHIRPath Patch and XML Patch are not taken)"
                );
                let mut response = one(Status::UNSUPPORTED_MEDIA_TYPE, Code::NotSupported, text);
                let takes = HeaderValue::from_static(JSON_PATCH);
                response.headers_mut().insert(HeaderName::from_static("accept-patch"), takes);
                response
            }
            Self::Patch(error) => {
                let (status, code) = match error {
                    PatchError::Json(_) | PatchError::Document | PatchError::Operation { .. } => {
                        (Status::BAD_REQUEST, Code::Structure)
                    }
                    PatchError::Pointer { .. } => (Status::UNPROCESSABLE_ENTITY, Code::NotFound),
                    PatchError::Test { .. } => (Status::UNPROCESSABLE_ENTITY, Code::Conflict),
                    PatchError::Bound { .. } => (Status::UNPROCESSABLE_ENTITY, Code::TooCostly),
                };
                one(status, code, error.to_string())
            }
            Self::Json(error @ JsonError::TooLarge { .. }) => {
                one(Status::PAYLOAD_TOO_LARGE, Code::TooLong, error.to_string())
            }
            Self::Json(error) => one(Status::BAD_REQUEST, Code::Structure, error.to_string()),
            Self::Findings(findings) => {
                // What no program could be sure to hold is no matter of R4's.
                let is_held = findings.iter().all(|finding| finding.code != Code::TooLong);
                let status = if is_held { Status::UNPROCESSABLE_ENTITY } else { Status::BAD_REQUEST };
                outcome(status, &outcome_of(&findings))
            }
            Self::Address(text) => one(Status::BAD_REQUEST, Code::Invalid, text),
            Self::Version => one(
                Status::PRECONDITION_FAILED,
                Code::Conflict,
                "another version is current: read it, and send its ETag as If-Match",
            ),
            Self::Required => one(
                Status::PRECONDITION_REQUIRED,
                Code::Required,
                "resources of this type are changed with If-Match alone: read it, and send its ETag",
            ),
            Self::Missing => one(
                Status::PRECONDITION_FAILED,
                Code::Conflict,
                "nothing stands there that could be of a version: to create it, send no If-Match",
            ),
            Self::Exists => one(
                Status::PRECONDITION_FAILED,
                Code::Conflict,
                "a resource stands there already: If-None-Match: * writes only where there is none",
            ),
            Self::Taken => one(
                Status::CONFLICT,
                Code::Conflict,
                "nothing meets the condition, and the id in the resource is another one's: send no id, or one that is free",
            ),
            Self::Busy => one(
                Status::CONFLICT,
                Code::Conflict,
                "others write this resource all the time: read it, and send its ETag as If-Match",
            ),
            Self::Several => one(Status::PRECONDITION_FAILED, Code::MultipleMatches, SEVERAL),
            Self::Nothing => one(
                Status::PRECONDITION_FAILED,
                Code::NotFound,
                "a reference by a search finds nothing: create it before, or in the same transaction and refer to its fullUrl",
            ),
            Self::Entries(max) => one(
                Status::PAYLOAD_TOO_LARGE,
                Code::TooLong,
                format!("a Bundle has at most {max} entries: send what belongs together, several times"),
            ),
            Self::Searches(max) => one(
                Status::PAYLOAD_TOO_LARGE,
                Code::TooCostly,
                format!(
                    "a Bundle has at most {max} conditions, references by a search and searches: send it in parts"
                ),
            ),
            Self::References(max) => one(
                Status::UNPROCESSABLE_ENTITY,
                Code::TooCostly,
                format!("a resource refers to at most {max} others here, since each of them must be there"),
            ),
            Self::Query(error) => {
                let code = match error {
                    QueryError::Unknown { .. }
                    | QueryError::Unanswered { .. }
                    | QueryError::Modifier { .. } => Code::NotSupported,
                    QueryError::Value { .. }
                    | QueryError::Encoding { .. }
                    | QueryError::Chain { .. }
                    | QueryError::Twice { .. } => Code::Value,
                    QueryError::Bound { .. } => Code::TooCostly,
                };
                wrong(code, error.name(), error.to_string())
            }
            Self::Plan(error) => {
                let code = match error {
                    PlanError::Unanswered { .. } => Code::NotSupported,
                    PlanError::TooComplex => Code::TooCostly,
                };
                one(Status::BAD_REQUEST, code, error.to_string())
            }
            Self::NoSearch => one(Status::NOT_IMPLEMENTED, Code::NotSupported, NO_SEARCH),
            Self::NotIndexed => {
                let mut response = one(Status::SERVICE_UNAVAILABLE, Code::Transient, NOT_INDEXED);
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
            Self::Owned(owner) => one(Status::CONFLICT, Code::BusinessRule, owned(&owner)),
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

/// The address under which the client knows us, for addresses that must be absolute: one that is configured, if any is; else
/// what `Host` says, unless it is none.
pub(super) fn base(shell: &Shell, headers: &HeaderMap) -> String {
    base_of(shell, headers.get(header::HOST).and_then(|host| host.to_str().ok()))
}

/// The same by what `Host` says.
pub(super) fn base_of(shell: &Shell, host: Option<&str>) -> String {
    let host = host.unwrap_or_default();
    let known = shell.fhir_bases();
    let is_of =
        |base: &&String| base.split_once("://").is_some_and(|(_, rest)| rest.split('/').next() == Some(host));
    if let Some(base) = known.iter().find(is_of).or(known.first()) {
        return base.clone();
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    let host = if !host.is_empty() && host.bytes().all(is_host) { host } else { "localhost" };
    format!("{}://{host}/fhir", if shell.is_https() { "https" } else { "http" })
}

/// That a page's link was good once.
pub(super) fn expired() -> Response {
    one(
        StatusCode::GONE,
        IssueType::Expired,
        "the link to this page is too old: begin anew, by the header Link, rel=\"first\", where there is one",
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
