//! JSON Patch (RFC 6902) on trees that keep the digits of their numbers.

use std::borrow::Cow;

use crate::json::{Json, JsonError};
use crate::limits::{NESTING_MAX, PATCH_OPERATIONS_MAX, RESOURCE_BYTES_MAX};

/// Why a patch is none, or cannot be applied. Names operations by their number, from 1, and never content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is no JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The patch is no array of operations.
    #[error("a JSON Patch is an array of operations (RFC 6902)")]
    Document,
    /// An operation that RFC 6902 does not have, or one that lacks something.
    #[error("operation {at}: {why}")]
    Operation {
        /// From 1.
        at: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A place that is not there.
    #[error("operation {at}: its {member} leads nowhere")]
    Pointer {
        /// From 1.
        at: usize,
        /// `path` or `from`.
        member: &'static str,
    },
    /// A `test` that does not hold.
    #[error("operation {at}: the test does not hold")]
    Test {
        /// From 1.
        at: usize,
    },
    /// More than a bound.
    #[error("a patch has at most {max} {what}")]
    Bound {
        /// Of what.
        what: &'static str,
        /// How many.
        max: usize,
    },
}

/// A patch that was read.
///
/// ```
/// use hilum_fhir::json::Json;
/// use hilum_fhir::patch::Patch;
/// let patch = Patch::parse(br#"[{"op":"replace","path":"/value","value":1.50}]"#).unwrap();
/// let patched = patch.apply(Json::parse(br#"{"value":2,"unit":"mg"}"#).unwrap()).unwrap();
/// assert_eq!(patched.to_text(), r#"{"value":1.50,"unit":"mg"}"#);
/// ```
#[derive(Clone)]
pub struct Patch<'a>(Vec<Operation<'a>>);

#[derive(Clone)]
struct Operation<'a> {
    path: Pointer,
    what: What<'a>,
}

#[derive(Clone)]
enum What<'a> {
    Add(Json<'a>),
    Remove,
    Replace(Json<'a>),
    Move { from: Pointer },
    Copy { from: Pointer },
    Test(Json<'a>),
}

impl<'a> Patch<'a> {
    /// Reads a patch.
    ///
    /// # Errors
    /// [`PatchError`], but for [`PatchError::Test`].
    pub fn parse(body: &'a [u8]) -> Result<Self, PatchError> {
        let Json::Array(operations) = Json::parse(body)? else { return Err(PatchError::Document) };
        if operations.len() > PATCH_OPERATIONS_MAX {
            return Err(PatchError::Bound { what: "operations", max: PATCH_OPERATIONS_MAX });
        }
        let numbered = operations.iter().zip(1..);
        numbered.map(|(operation, at)| Operation::read(operation, at)).collect::<Result<_, _>>().map(Self)
    }

    /// What `document` becomes, operation by operation; the first that fails ends it.
    ///
    /// # Errors
    /// [`PatchError::Pointer`], [`PatchError::Test`], [`PatchError::Bound`].
    pub fn apply(&self, mut document: Json<'a>) -> Result<Json<'a>, PatchError> {
        let mut copied_bytes = 0;
        for (operation, at) in self.0.iter().zip(1..) {
            operation.apply(&mut document, at, &mut copied_bytes)?;
        }
        Ok(document)
    }
}

impl<'a> Operation<'a> {
    fn read(operation: &Json<'a>, at: usize) -> Result<Self, PatchError> {
        let wrong = |why| PatchError::Operation { at, why };
        let text = |name| operation.get(name).and_then(Json::as_str);
        let pointer = |member: &'static str| {
            let raw = text(member).ok_or(wrong("`path`, and of move and copy `from`, must be there"))?;
            Pointer::parse(raw).ok_or(PatchError::Pointer { at, member })
        };
        let value = || {
            let value = operation.get("value").cloned();
            value.ok_or(wrong("add, replace and test have a `value`"))
        };
        let what = match text("op") {
            Some("add") => What::Add(value()?),
            Some("remove") => What::Remove,
            Some("replace") => What::Replace(value()?),
            Some("move") => What::Move { from: pointer("from")? },
            Some("copy") => What::Copy { from: pointer("from")? },
            Some("test") => What::Test(value()?),
            _ => return Err(wrong("`op` is add, remove, replace, move, copy or test")),
        };
        Ok(Self { path: pointer("path")?, what })
    }

    fn apply(&self, document: &mut Json<'a>, at: usize, copied_bytes: &mut usize) -> Result<(), PatchError> {
        let nowhere = |member| PatchError::Pointer { at, member };
        let path = &self.path;
        match &self.what {
            What::Add(value) => add(document, path, value.clone(), at),
            What::Remove => remove(document, path).map(drop).ok_or(nowhere("path")),
            What::Replace(value) => {
                path.bounded(value)?;
                *find(document, &path.0).ok_or(nowhere("path"))? = value.clone();
                Ok(())
            }
            What::Move { from } if path.is_within(from) => Err(nowhere("path")),
            What::Move { from } => {
                let moved = remove(document, from).ok_or(nowhere("from"))?;
                add(document, path, moved, at)
            }
            What::Copy { from } => {
                let copied = find(document, &from.0).ok_or(nowhere("from"))?.clone();
                // What is copied again and again doubles each time.
                *copied_bytes += size_bytes(&copied);
                if *copied_bytes > RESOURCE_BYTES_MAX {
                    return Err(PatchError::Bound { what: "bytes to copy", max: RESOURCE_BYTES_MAX });
                }
                add(document, path, copied, at)
            }
            What::Test(value) => {
                let found = find(document, &path.0).ok_or(nowhere("path"))?;
                if is_same(found, value) { Ok(()) } else { Err(PatchError::Test { at }) }
            }
        }
    }
}

/// A JSON Pointer (RFC 6901).
#[derive(Clone, PartialEq, Eq)]
struct Pointer(Vec<String>);

impl Pointer {
    fn parse(raw: &str) -> Option<Self> {
        if raw.is_empty() {
            return Some(Self(Vec::new()));
        }
        let tokens = raw.strip_prefix('/')?.split('/');
        let tokens: Option<Vec<String>> = tokens.map(unescaped).collect();
        tokens.filter(|tokens| tokens.len() <= NESTING_MAX).map(Self)
    }

    /// Whether it leads below `other`.
    fn is_within(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.starts_with(&other.0)
    }

    /// That nothing gets deeper than what is read again: trees are walked by recursion.
    fn bounded(&self, value: &Json<'_>) -> Result<(), PatchError> {
        if self.0.len() + depth(value) > NESTING_MAX {
            return Err(PatchError::Bound { what: "levels within each other", max: NESTING_MAX });
        }
        Ok(())
    }
}

/// A token without its escapes: `~1` is `/`, `~0` is `~`, nothing else begins with `~`.
fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (sign, rest) = match part.as_bytes().first()? {
            b'0' => ('~', part.strip_prefix('0')?),
            b'1' => ('/', part.strip_prefix('1')?),
            _ => return None,
        };
        out.push(sign);
        out.push_str(rest);
    }
    Some(out)
}

/// An element's place: digits without a zero before them.
fn index(token: &str) -> Option<usize> {
    let is_plain =
        token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    if is_plain { token.parse().ok() } else { None }
}

fn find<'d, 'a>(document: &'d mut Json<'a>, path: &[String]) -> Option<&'d mut Json<'a>> {
    let mut here = document;
    for token in path {
        here = match here {
            Json::Object(members) => &mut members.iter_mut().find(|(name, _)| name == token)?.1,
            Json::Array(elements) => elements.get_mut(index(token)?)?,
            _ => return None,
        };
    }
    Some(here)
}

fn add<'a>(document: &mut Json<'a>, path: &Pointer, value: Json<'a>, at: usize) -> Result<(), PatchError> {
    path.bounded(&value)?;
    let nowhere = PatchError::Pointer { at, member: "path" };
    let Some((last, parents)) = path.0.split_last() else {
        *document = value;
        return Ok(());
    };
    match find(document, parents) {
        Some(Json::Object(members)) => match members.iter_mut().find(|(name, _)| name == last) {
            Some((_, standing)) => *standing = value,
            None => members.push((Cow::Owned(last.clone()), value)),
        },
        Some(Json::Array(elements)) => {
            let place = if last == "-" { Some(elements.len()) } else { index(last) };
            let place = place.filter(|place| *place <= elements.len()).ok_or(nowhere)?;
            elements.insert(place, value);
        }
        _ => return Err(nowhere),
    }
    Ok(())
}

/// Takes out what stands there; the whole document stays.
fn remove<'a>(document: &mut Json<'a>, path: &Pointer) -> Option<Json<'a>> {
    let (last, parents) = path.0.split_last()?;
    match find(document, parents)? {
        Json::Object(members) => {
            let place = members.iter().position(|(name, _)| name == last)?;
            Some(members.remove(place).1)
        }
        Json::Array(elements) => {
            let place = index(last).filter(|place| *place < elements.len())?;
            Some(elements.remove(place))
        }
        _ => None,
    }
}

/// Levels of objects and arrays.
fn depth(value: &Json<'_>) -> usize {
    let below = match value {
        Json::Array(elements) => elements.iter().map(depth).max(),
        Json::Object(members) => members.iter().map(|(_, value)| depth(value)).max(),
        _ => return 0,
    };
    1 + below.unwrap_or_default()
}

fn size_bytes(value: &Json<'_>) -> usize {
    let inner: usize = match value {
        Json::Null | Json::Bool(_) => 0,
        Json::Number(text) => text.len(),
        Json::String(text) => text.len(),
        Json::Array(elements) => elements.iter().map(size_bytes).sum(),
        Json::Object(members) => members.iter().map(|(name, value)| name.len() + size_bytes(value)).sum(),
    };
    inner + size_of::<Json<'_>>()
}

/// Equal as RFC 6902 has it: numbers by what they are worth, members in any order.
fn is_same(one: &Json<'_>, other: &Json<'_>) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one == other || worth(one) == worth(other),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            let sorted = |members: &[_]| {
                let mut all: Vec<usize> = (0..members.len()).collect();
                all.sort_unstable_by_key(|at| {
                    members.get(*at).map(|(name, _): &(Cow<'_, str>, Json<'_>)| name)
                });
                all
            };
            let pairs = sorted(one).into_iter().zip(sorted(other));
            one.len() == other.len()
                && pairs.map(|(at, beside)| (one.get(at), other.get(beside))).all(|pair| match pair {
                    (Some((name, value)), Some((beside, other))) => name == beside && is_same(value, other),
                    _ => false,
                })
        }
        _ => one == other,
    }
}

/// A number's sign, its digits from the first to the last that is no zero, and the power of ten behind them; a zero has no
/// digits. Absent where the exponent is beyond all reason: then only what is written alike is the same.
fn worth(number: &str) -> Option<(bool, String, i64)> {
    let (is_negative, rest) = number.strip_prefix('-').map_or((false, number), |rest| (true, rest));
    let (mantissa, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let kept = digits.trim_end_matches('0');
    if kept.is_empty() {
        return Some((false, String::new(), 0));
    }
    let exponent: i64 = exponent.parse().ok()?;
    let behind = i64::try_from(digits.len() - kept.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    Some((is_negative, kept.trim_start_matches('0').to_owned(), exponent.checked_add(behind)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn applied(document: &str, patch: &str) -> Result<String, PatchError> {
        let patch = Patch::parse(patch.as_bytes())?;
        patch.apply(Json::parse(document.as_bytes()).unwrap()).map(|json| json.to_text())
    }

    /// The examples of RFC 6902, appendix A, and what FHIR needs besides.
    #[test]
    fn each_operation_does_what_the_standard_says() {
        let cases = [
            (
                "A.1",
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/baz","value":"qux"}]"#,
                r#"{"foo":"bar","baz":"qux"}"#,
            ),
            (
                "A.2",
                r#"{"foo":["bar","baz"]}"#,
                r#"[{"op":"add","path":"/foo/1","value":"qux"}]"#,
                r#"{"foo":["bar","qux","baz"]}"#,
            ),
            ("A.3", r#"{"baz":"qux","foo":"bar"}"#, r#"[{"op":"remove","path":"/baz"}]"#, r#"{"foo":"bar"}"#),
            (
                "A.4",
                r#"{"foo":["bar","qux","baz"]}"#,
                r#"[{"op":"remove","path":"/foo/1"}]"#,
                r#"{"foo":["bar","baz"]}"#,
            ),
            (
                "A.5",
                r#"{"baz":"qux","foo":"bar"}"#,
                r#"[{"op":"replace","path":"/baz","value":"boo"}]"#,
                r#"{"baz":"boo","foo":"bar"}"#,
            ),
            (
                "A.6",
                r#"{"foo":{"bar":"baz","waldo":"fred"},"qux":{"corge":"grault"}}"#,
                r#"[{"op":"move","from":"/foo/waldo","path":"/qux/thud"}]"#,
                r#"{"foo":{"bar":"baz"},"qux":{"corge":"grault","thud":"fred"}}"#,
            ),
            (
                "A.7",
                r#"{"foo":["all","grass","cows","eat"]}"#,
                r#"[{"op":"move","from":"/foo/1","path":"/foo/3"}]"#,
                r#"{"foo":["all","cows","eat","grass"]}"#,
            ),
            (
                "A.8",
                r#"{"baz":"qux","foo":["a",2,"c"]}"#,
                r#"[{"op":"test","path":"/baz","value":"qux"},{"op":"test","path":"/foo/1","value":2}]"#,
                r#"{"baz":"qux","foo":["a",2,"c"]}"#,
            ),
            (
                "A.10",
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/child","value":{"grandchild":{}}}]"#,
                r#"{"foo":"bar","child":{"grandchild":{}}}"#,
            ),
            (
                "A.11: what it does not know",
                r#"{"foo":"bar"}"#,
                r#"[{"op":"add","path":"/baz","value":"qux","xyz":123}]"#,
                r#"{"foo":"bar","baz":"qux"}"#,
            ),
            (
                "A.14",
                r#"{"/":9,"~1":10}"#,
                r#"[{"op":"test","path":"/~01","value":10}]"#,
                r#"{"/":9,"~1":10}"#,
            ),
            (
                "A.16",
                r#"{"foo":["bar"]}"#,
                r#"[{"op":"add","path":"/foo/-","value":["abc","def"]}]"#,
                r#"{"foo":["bar",["abc","def"]]}"#,
            ),
            (
                "digits stay",
                r#"{"a":1.500}"#,
                r#"[{"op":"copy","from":"/a","path":"/b"}]"#,
                r#"{"a":1.500,"b":1.500}"#,
            ),
            (
                "the same number",
                r#"{"a":1.500,"b":-0}"#,
                r#"[{"op":"test","path":"/a","value":15e-1},{"op":"test","path":"/b","value":0.0}]"#,
                r#"{"a":1.500,"b":-0}"#,
            ),
            (
                "members in any order",
                r#"{"a":{"b":1,"c":[2]}}"#,
                r#"[{"op":"test","path":"/a","value":{"c":[2],"b":1.0}}]"#,
                r#"{"a":{"b":1,"c":[2]}}"#,
            ),
            (
                "a member that stands",
                r#"{"a":1,"b":2}"#,
                r#"[{"op":"add","path":"/a","value":3}]"#,
                r#"{"a":3,"b":2}"#,
            ),
            ("the whole", r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":{"b":2}}]"#, r#"{"b":2}"#),
            (
                "signs",
                r#"{"a":"\u00e9"}"#,
                r#"[{"op":"add","path":"/b","value":"\"\n"}]"#,
                r#"{"a":"é","b":"\"\n"}"#,
            ),
            ("nothing", r#"{"a":1}"#, "[]", r#"{"a":1}"#),
        ];
        for (why, document, patch, want) in cases {
            assert_eq!(applied(document, patch).as_deref(), Ok(want), "{why}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said_by_its_number() {
        let nowhere = |at| Some(PatchError::Pointer { at, member: "path" });
        let test = Some(PatchError::Test { at: 1 });
        let cases = [
            ("A.9", r#"{"baz":"qux"}"#, r#"[{"op":"test","path":"/baz","value":"bar"}]"#, test.clone()),
            ("A.12", r#"{"foo":"bar"}"#, r#"[{"op":"add","path":"/baz/bat","value":"qux"}]"#, nowhere(1)),
            ("A.15", r#"{"/":9,"~1":10}"#, r#"[{"op":"test","path":"/~01","value":"10"}]"#, test.clone()),
            (
                "the second one",
                r#"{"a":1}"#,
                r#"[{"op":"remove","path":"/a"},{"op":"remove","path":"/a"}]"#,
                nowhere(2),
            ),
            ("behind the end", r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/2","value":1}]"#, nowhere(1)),
            ("the end", r#"{"a":[1]}"#, r#"[{"op":"remove","path":"/a/-"}]"#, nowhere(1)),
            ("a zero before", r#"{"a":[1,2]}"#, r#"[{"op":"remove","path":"/a/01"}]"#, nowhere(1)),
            ("a sign", r#"{"a":[1,2]}"#, r#"[{"op":"remove","path":"/a/+1"}]"#, nowhere(1)),
            ("no slash", r#"{"a":1}"#, r#"[{"op":"remove","path":"a"}]"#, nowhere(1)),
            ("half an escape", r#"{"a":1}"#, r#"[{"op":"remove","path":"/~2"}]"#, nowhere(1)),
            ("into itself", r#"{"a":{}}"#, r#"[{"op":"move","from":"/a","path":"/a/b"}]"#, nowhere(1)),
            ("all of it", r#"{"a":{}}"#, r#"[{"op":"remove","path":""}]"#, nowhere(1)),
            (
                "from nowhere",
                r#"{"a":{}}"#,
                r#"[{"op":"copy","from":"/b","path":"/c"}]"#,
                Some(PatchError::Pointer { at: 1, member: "from" }),
            ),
            ("fewer members", r#"{"a":{"b":1}}"#, r#"[{"op":"test","path":"/a","value":{}}]"#, test.clone()),
            ("another sign", r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":-1}]"#, test.clone()),
            ("ten times as much", r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":10}]"#, test),
            ("no array", "{}", "{}", Some(PatchError::Document)),
        ];
        for (why, document, patch, want) in cases {
            assert_eq!(applied(document, patch).err(), want, "{why}");
        }
        for patch in
            [r#"[{"op":"spam","path":""}]"#, r#"[{"op":"add","path":"/a"}]"#, r#"[{"op":"remove"}]"#, "[1]"]
        {
            assert!(matches!(applied("{}", patch), Err(PatchError::Operation { at: 1, .. })), "{patch}");
        }
        let twice = r#"[{"op":"add","path":"/a","value":1,"op":"remove"}]"#;
        assert!(matches!(applied("{}", twice), Err(PatchError::Json(JsonError::Duplicate { .. }))), "A.13");
    }

    #[test]
    fn everything_has_a_bound() {
        let many = format!(
            "[{}]",
            vec![r#"{"op":"test","path":"","value":{}}"#; PATCH_OPERATIONS_MAX + 1].join(",")
        );
        assert!(matches!(applied("{}", &many), Err(PatchError::Bound { what: "operations", .. })));
        let doubles = vec![r#"{"op":"copy","from":"","path":"/a"}"#; 100].join(",");
        let deep = applied("{\"x\":1}", &format!("[{doubles}]"));
        assert!(matches!(deep, Err(PatchError::Bound { what: "levels within each other", .. })));
        let twice = r#"{"op":"copy","from":"/a","path":"/b/-"}"#;
        let again = r#"{"op":"move","from":"/b","path":"/a"},{"op":"add","path":"/b","value":[]}"#;
        let flat = vec![format!("{twice},{twice},{again}"); 60].join(",");
        let flat = applied(r#"{"a":[1,2,3],"b":[]}"#, &format!("[{flat}]"));
        assert!(matches!(flat, Err(PatchError::Bound { .. })), "what doubles each time");
    }
}
