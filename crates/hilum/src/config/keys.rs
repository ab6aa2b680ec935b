//! What the loader does not say well: unknown keys, values of another type, addresses and zones, each by its key.

use std::net::SocketAddr;

use anyhow::bail;
use hilum_hl7v2::charset::Charset;
use serde_json::{Map, Value};

use super::{Config, Source};

/// The shape of the tree: known keys with their defaults. `*` stands for names that the installation gives.
pub(super) fn shape() -> Value {
    let mut tree = serde_json::to_value(Config::default()).unwrap_or_default();
    let source = serde_json::to_value(Source::default()).unwrap_or_default();
    if let Some(sources) = tree.pointer_mut("/sources") {
        *sources = Value::Object(Map::from_iter([("*".to_owned(), source)]));
    }
    if let Some(listeners) = tree.pointer_mut("/mllp/listeners") {
        *listeners = Value::Object(Map::from_iter([("*".to_owned(), Value::Null)]));
    }
    tree
}

pub(super) fn check_keys(tree: &Value, place: &str) -> anyhow::Result<()> {
    fn walk(given: &Value, known: &Value, path: &str, place: &str) -> anyhow::Result<()> {
        let (Value::Object(given), Value::Object(known)) = (given, known) else { return Ok(()) };
        // Maps that are data by default (aliases, segments) are empty in the shape: any key goes.
        if known.is_empty() {
            return Ok(());
        }
        for (key, value) in given {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match known.get(key).or_else(|| known.get("*")) {
                Some(known) => walk(value, known, &path, place)?,
                None => {
                    bail!("{place}: unknown key `{path}`{}", nearest(key, known.keys().map(String::as_str)))
                }
            }
        }
        Ok(())
    }
    walk(tree, &shape(), "", place)
}

/// Whether `tree` says something about `key`, or about a part of it.
pub(super) fn says(tree: &Value, key: &str) -> bool {
    tree.pointer(&format!("/{}", key.replace('.', "/"))).is_some()
}

pub(super) fn check_address(key: &str, raw: &str) -> anyhow::Result<SocketAddr> {
    match raw.parse() {
        Ok(address) => Ok(address),
        Err(_) => bail!("{key}: `{raw}` is no address: write address and port, 127.0.0.1:2575"),
    }
}

pub(super) fn check_zone(key: &str, zone: &str) -> anyhow::Result<()> {
    if jiff::tz::TimeZone::get(zone).is_ok() {
        return Ok(());
    }
    // Abbreviations are near each other and far from what is meant.
    let near = jiff::tz::db()
        .available()
        .map(|name| name.to_string())
        .filter(|_| zone.len() > 4)
        .map(|name| (strsim::damerau_levenshtein(&zone.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= 3)
        .min();
    let near = near
        .map_or_else(|| " (write Asia/Seoul)".to_owned(), |(_, name)| format!("; did you mean `{name}`?"));
    bail!("{key}: `{zone}` is no IANA time zone{near}")
}

/// Names of charsets as people write them: more are known, these are offered.
const CHARSETS: &[&str] = &[
    "ASCII",
    "UTF-8",
    "8859/1",
    "8859/2",
    "8859/5",
    "8859/9",
    "8859/15",
    "windows-1251",
    "windows-1252",
    "KS X 1001",
    "EUC-KR",
    "CP949",
    "Shift_JIS",
    "CP932",
    "EUC-JP",
    "GB 18030",
    "GBK",
    "CP936",
    "BIG-5",
    "CP950",
];

pub(super) fn check_charset(key: &str, name: Option<&str>) -> anyhow::Result<()> {
    let Some(name) = name else { return Ok(()) };
    match Charset::parse(name) {
        Ok(_) => Ok(()),
        Err(why) => {
            let distance =
                |known: &str| strsim::damerau_levenshtein(&name.to_uppercase(), &known.to_uppercase());
            let near = CHARSETS.iter().map(|known| (distance(known), *known)).min();
            match near.filter(|(distance, _)| *distance <= 2) {
                Some((_, near)) => bail!("{key}: `{name}`: {why}; did you mean `{near}`?"),
                None => bail!("{key}: `{name}`: {why}; there are {}", CHARSETS.join(", ")),
            }
        }
    }
}

/// Names the first key of `tree` whose value has another type than it takes, in our words and not the loader's.
pub(super) fn check_types(tree: &Value, place: &str) -> anyhow::Result<()> {
    fn walk(given: &Value, known: &Value, path: &[&str], place: &str) -> anyhow::Result<()> {
        if let (Value::Object(given), Value::Object(known)) = (given, known)
            && !known.is_empty()
        {
            for (key, value) in given {
                let known = known.get(key).or_else(|| known.get("*")).unwrap_or(&Value::Null);
                walk(value, known, &[path, &[key.as_str()]].concat(), place)?;
            }
            return Ok(());
        }
        // This value alone, with defaults around it.
        let mut alone = given.clone();
        for key in path.iter().rev() {
            alone = Value::Object(Map::from_iter([((*key).to_owned(), alone)]));
        }
        match serde_json::from_value::<Config>(alone) {
            Ok(_) => Ok(()),
            Err(why) => bail!("{place}: {}: {}", path.join("."), in_words(&why.to_string())),
        }
    }
    walk(tree, &shape(), &[], place)
}

/// What serde says of a value, without the program's own type names.
fn in_words(why: &str) -> String {
    if why.contains("://") {
        // An address may hold a password.
        return "an address is not what is expected here".to_owned();
    }
    let mut text = why.strip_prefix("invalid type: ").unwrap_or(why).to_owned();
    text = text.replace("unknown variant ", "");
    let types = [
        ("expected usize", "a whole number is expected"),
        ("expected u64", "a whole number is expected"),
        ("expected u32", "a whole number is expected"),
        ("expected a boolean", "true or false is expected"),
        ("expected a string", "a text is expected"),
        ("expected a sequence", "a list is expected"),
        ("expected a map", "a table is expected"),
        ("expected one of", "one of these is expected:"),
        ("expected `", "what is expected: `"),
    ];
    for (theirs, ours) in types {
        text = text.replace(theirs, ours);
    }
    match text.split_once("expected struct ") {
        Some((before, _)) => format!("{before}a table is expected"),
        None => text,
    }
}

pub(super) fn nearest<'a>(wrong: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 2).max(2))
        .min()
        .map_or_else(
            || "; `hilum config reference` lists all".to_owned(),
            |(_, name)| format!("; did you mean `{name}`?"),
        )
}
