//! What pages say, in Korean and English: words by key, dates, times and numbers as looks.md wants them.
//!
//! A room has a [`WordFile`] of its own: two files of `key = "text"` under `[section]`s. [`problems`] is the test
//! that both have the same keys and that no page asks for another.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use hilum_core::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;

/// A language of the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Korean.
    Ko,
}

impl Lang {
    /// The BCP 47 tag.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Ko => "ko",
        }
    }

    /// By its tag.
    pub fn parse(raw: &str) -> Option<Self> {
        match raw {
            "en" => Some(Self::En),
            "ko" => Some(Self::Ko),
            _ => None,
        }
    }

    /// The first of ours in an `Accept-Language` header, by its weights; English otherwise.
    pub fn accept(header: &str) -> Self {
        let mut best = (Self::En, 0.0_f32);
        for entry in header.split(',').take(32) {
            let mut parts = entry.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.trim().strip_prefix("q="))
                .map_or(1.0, |raw| raw.parse().unwrap_or(0.0));
            let primary = tag.split('-').next().unwrap_or_default();
            if let Some(lang) = Self::parse(primary)
                && weight > best.1
            {
                best = (lang, weight);
            }
        }
        best.0
    }
}

/// The words of one crate.
#[derive(Debug, Clone, Copy)]
pub struct WordFile {
    /// Whose they are (`web`, `adt`).
    pub name: &'static str,
    /// English, TOML.
    pub en: &'static str,
    /// Korean, TOML.
    pub ko: &'static str,
}

/// The shell's own words.
pub const WORDS: WordFile =
    WordFile { name: "web", en: include_str!("../words/en.toml"), ko: include_str!("../words/ko.toml") };

/// Why a word file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum WordsError {
    /// It is no TOML, or a value is no text.
    #[error("words of {file}, {lang}: {why}")]
    Syntax {
        /// The file's name.
        file: &'static str,
        /// The language.
        lang: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// `[section] key = "text"` as `section.key`.
fn flatten(file: &WordFile, lang: Lang) -> Result<BTreeMap<String, String>, WordsError> {
    let raw = match lang {
        Lang::En => file.en,
        Lang::Ko => file.ko,
    };
    let fail = |why: String| WordsError::Syntax { file: file.name, lang: lang.as_str(), why };
    let table: toml::Table =
        raw.parse().map_err(|error: toml::de::Error| fail(error.message().to_owned()))?;
    let mut out = BTreeMap::new();
    let mut open = vec![(String::new(), table)];
    while let Some((prefix, table)) = open.pop() {
        for (key, value) in table {
            let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
            match value {
                toml::Value::String(text) => {
                    out.insert(path, text);
                }
                toml::Value::Table(inner) => open.push((path, inner)),
                _ => return Err(fail(format!("{path} is no text"))),
            }
        }
    }
    Ok(out)
}

/// All words of all crates.
#[derive(Debug, Default)]
pub struct Dictionary {
    en: HashMap<String, String>,
    ko: HashMap<String, String>,
}

impl Dictionary {
    /// The words of `files`; a later file's key wins.
    ///
    /// # Errors
    /// [`WordsError::Syntax`].
    pub fn new(files: &[WordFile]) -> Result<Self, WordsError> {
        let mut dictionary = Self::default();
        for file in files {
            dictionary.en.extend(flatten(file, Lang::En)?);
            dictionary.ko.extend(flatten(file, Lang::Ko)?);
        }
        Ok(dictionary)
    }
}

/// The words for one reader: language and zone. Templates hold it as `w`.
#[derive(Debug, Clone)]
pub struct Words {
    dictionary: Arc<Dictionary>,
    lang: Lang,
    zone: TimeZone,
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Words {
    /// Words in `lang`, times in `zone`.
    pub const fn new(dictionary: Arc<Dictionary>, lang: Lang, zone: TimeZone) -> Self {
        Self { dictionary, lang, zone }
    }

    /// The language.
    pub const fn lang(&self) -> Lang {
        self.lang
    }

    /// Whether the language is English.
    pub fn is_en(&self) -> bool {
        self.lang == Lang::En
    }

    /// The key of a role's word.
    pub fn role_key(&self, role: &str) -> &'static str {
        match role {
            "feed" => "role.feed",
            "operator" => "role.operator",
            "admin" => "role.admin",
            _ => "role.viewer",
        }
    }

    /// The zone in which times are shown.
    pub const fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The word of `key`; the key itself where there is none (a test keeps that from happening).
    pub fn t<'a>(&'a self, key: &'a str) -> &'a str {
        let (own, other) = match self.lang {
            Lang::En => (&self.dictionary.en, &self.dictionary.ko),
            Lang::Ko => (&self.dictionary.ko, &self.dictionary.en),
        };
        own.get(key).or_else(|| other.get(key)).map_or(key, String::as_str)
    }

    /// The word of `key` if there is one: for what data names (a class code, a mark).
    pub fn get(&self, key: &str) -> Option<&str> {
        let own = match self.lang {
            Lang::En => &self.dictionary.en,
            Lang::Ko => &self.dictionary.ko,
        };
        own.get(key).map(String::as_str)
    }

    /// The word of `key` with each `{name}` replaced.
    pub fn f(&self, key: &str, with: &[(&str, &dyn std::fmt::Display)]) -> String {
        let mut text = self.t(key).to_owned();
        for (name, value) in with {
            text = text.replace(&format!("{{{name}}}"), &value.to_string());
        }
        text
    }

    /// The word of `key` with one `{name}` replaced.
    pub fn f1(&self, key: &str, name: &str, value: impl std::fmt::Display) -> String {
        self.f(key, &[(name, &value)])
    }

    /// The word of `key` with two replaced.
    pub fn f2(
        &self,
        key: &str,
        one: &str,
        value: impl std::fmt::Display,
        two: &str,
        other: impl std::fmt::Display,
    ) -> String {
        self.f(key, &[(one, &value), (two, &other)])
    }

    /// The word of `key` with `{n}` replaced; in English `key.one` for 1 where there is such a key.
    pub fn n(&self, key: &str, n: u64) -> String {
        let one = format!("{key}_one");
        let key = if n == 1 && self.get(&one).is_some() { one.as_str() } else { key };
        self.f(key, &[("n", &self.number(n))])
    }

    /// 12,345. Templates hand in references.
    pub fn number(&self, n: impl std::borrow::Borrow<u64>) -> String {
        let digits = n.borrow().to_string();
        let mut out = String::with_capacity(digits.len() + digits.len() / 3);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                out.push(',');
            }
            out.push(digit);
        }
        out
    }

    /// `12-Mar-2026`, in Korean `2026-03-12`.
    pub fn date(&self, date: civil::Date) -> String {
        match self.lang {
            Lang::En => {
                let month = MONTHS.get(date.month().unsigned_abs() as usize - 1).copied().unwrap_or_default();
                format!("{:02}-{month}-{:04}", date.day(), date.year())
            }
            Lang::Ko => format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day()),
        }
    }

    /// Date and time to the minute, 24 h, in the reader's zone: `12-Mar-2026 14:07`.
    pub fn at(&self, at: &Timestamp) -> String {
        let zoned = at.to_jiff().to_zoned(self.zone.clone());
        format!("{} {:02}:{:02}", self.date(zoned.date()), zoned.hour(), zoned.minute())
    }

    /// As [`Words::at`], to the second.
    pub fn at_second(&self, at: &Timestamp) -> String {
        let zoned = at.to_jiff().to_zoned(self.zone.clone());
        format!("{} {:02}:{:02}:{:02}", self.date(zoned.date()), zoned.hour(), zoned.minute(), zoned.second())
    }

    /// Time of day to the second: `14:07:31`.
    pub fn time(&self, at: &Timestamp) -> String {
        let zoned = at.to_jiff().to_zoned(self.zone.clone());
        format!("{:02}:{:02}:{:02}", zoned.hour(), zoned.minute(), zoned.second())
    }

    /// For `<time datetime>`: RFC 3339 in UTC.
    pub fn machine(&self, at: &Timestamp) -> String {
        at.to_string()
    }

    /// The zone's name, to stand beside times that may be read elsewhere.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// How long ago, coarse: to stand beside the absolute time, never alone.
    pub fn ago(&self, then: &Timestamp, now: &Timestamp) -> String {
        let seconds = now.micros_since(*then).max(0).unsigned_abs() / 1_000_000;
        self.span(seconds)
    }

    /// A length of time, coarse: `40 s`, `4 min`, `3 h`, `5 d`.
    pub fn span(&self, seconds: u64) -> String {
        let (n, unit) = match seconds {
            0..60 => (seconds, "unit.second"),
            60..3_600 => (seconds / 60, "unit.minute"),
            3_600..172_800 => (seconds / 3_600, "unit.hour"),
            _ => (seconds / 86_400, "unit.day"),
        };
        self.f(unit, &[("n", &n)])
    }

    /// Full years from `birth` to `on`, none if `birth` is later.
    pub fn age_years(birth: civil::Date, on: civil::Date) -> Option<u16> {
        if birth > on {
            return None;
        }
        let years = on.year() - birth.year();
        let had_birthday = (on.month(), on.day()) >= (birth.month(), birth.day());
        u16::try_from(if had_birthday { years } else { years - 1 }).ok()
    }
}

/// What is wrong with the words of a crate: keys that only one language has, keys that pages or code use and no
/// file has, and keys that nobody uses. `sources` are folders with templates (`.html`) and code (`.rs`); `others`
/// are the files of crates below, whose words may be used too. A key built at run time is named in `dynamic` by
/// its prefix (`"mark."`).
pub fn problems(
    file: &WordFile,
    others: &[WordFile],
    sources: &[&Path],
    dynamic: &[&str],
) -> Result<Vec<String>, WordsError> {
    let en = flatten(file, Lang::En)?;
    let ko = flatten(file, Lang::Ko)?;
    let mut known: BTreeSet<String> = en.keys().chain(ko.keys()).cloned().collect();
    let own = known.clone();
    for other in others {
        known.extend(flatten(other, Lang::En)?.into_keys());
    }
    let mut out = Vec::new();
    for key in &own {
        match (en.get(key), ko.get(key)) {
            (Some(_), None) if !key.ends_with("_one") => out.push(format!("{key}: no Korean")),
            (None, _) => out.push(format!("{key}: no English")),
            (Some(en), Some(ko)) if holes(en) != holes(ko) => out.push(format!("{key}: other {{holes}}")),
            _ => {}
        }
    }
    let mut used = BTreeSet::new();
    let mut text = String::new();
    for source in sources {
        read_all(source, &mut text);
    }
    for call in ["t(\"", "n(\"", "f(\"", "f1(\"", "f2(\"", "key(\""] {
        for after in text.split(call).skip(1) {
            if let Some((key, _)) = after.split_once('"')
                && key.contains('.')
                && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            {
                used.insert(key.to_owned());
            }
        }
    }
    for key in &used {
        if !known.contains(key) {
            out.push(format!("{key}: used, but no file has it"));
        }
    }
    for key in &own {
        let base = key.strip_suffix("_one").unwrap_or(key);
        let is_dynamic = dynamic.iter().any(|prefix| key.starts_with(prefix));
        if !used.contains(base) && !is_dynamic && !text.contains(&format!("\"{base}\"")) {
            out.push(format!("{key}: nobody uses it"));
        }
    }
    Ok(out)
}

fn holes(text: &str) -> BTreeSet<&str> {
    text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name).collect()
}

fn read_all(folder: &Path, into: &mut String) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "html" || ext == "rs")
            && let Ok(text) = std::fs::read_to_string(&path)
        {
            into.push_str(&text);
        }
    }
}
