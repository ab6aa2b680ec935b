//! One message's whole journey: what came in, byte by byte, what it was answered, what became of it.
//!
//! Nothing here is stored twice: the record is read from the log, the answer and the findings follow from its bytes
//! and its source's settings once more. What a viewer may not see is masked before it gets here: national numbers
//! always, everything about a confidential person (clinical-rules 19, 20).

use bytes::Bytes;
use hilum_chart::Chart;
use hilum_core::{Authority, ContentType, Digest, Envelope, Id, InstallationKey, Position, Timestamp};
use hilum_engines::log::{Log, LogError, Record};
use hilum_engines::tables::{Read, Tables, Value};
use hilum_hl7v2::{Message, ParseError, Path, field_name, segment_title, trigger};
use serde::Serialize;

use super::confidence::About;
use super::messages::{self, Line};
use super::{ViewError, as_optional_text, as_text};
use crate::accept;
use crate::announce;
use crate::content::read::is_national;
use crate::limits;
use crate::map::summary::{is_korean_number, mask_national};
use crate::settings::SourceSettings;
use crate::tables::SETTINGS;

/// What is read through.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// The room's tables.
    pub tables: &'a Tables,
    /// The log.
    pub log: &'a Log,
    /// The chart.
    pub chart: &'a Chart,
    /// Keys every id.
    pub key: &'a InstallationKey,
    /// On whose behalf.
    pub authority: &'a Authority,
}

/// A message with its journey.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Journey {
    /// What became of it.
    #[serde(flatten)]
    pub message: Line,
    /// How.
    pub journey: Way,
}

/// The way of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// In order.
    pub steps: Vec<Step>,
    /// The event's name in the standard.
    pub event: Option<&'static str>,
    /// The peer's address.
    pub peer: Option<String>,
    /// The charset that its text is in; absent where that could not be decided.
    pub charset: Option<&'static str>,
    /// Whether its content is withheld from the asker.
    pub withheld: bool,
    /// Whether the log cannot read it any more: nothing below is known.
    pub damaged: bool,
    /// Its segments; empty where it cannot be parsed or is withheld.
    pub segments: Vec<Segment>,
    /// Whether segments, fields or text were cut for the page.
    pub cut: bool,
    /// The whole text, one segment in a line; absent when withheld. Where the charset is not decided, bytes that are
    /// no UTF-8 are shown as U+FFFD, and `charset` is absent.
    pub text: Option<String>,
    /// The acknowledgment, derived once more; absent where the sender asked for none.
    pub ack: Option<Ack>,
    /// The same bytes from the same source, this one among them.
    pub copies: Vec<Relative>,
    /// What it corrects, nearest first.
    pub corrects: Vec<Relative>,
    /// What corrects it, nearest first.
    pub corrected_by: Vec<Relative>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `received`, `durable`, `acknowledged`, `parsed`, or what became of it.
    pub what: String,
    /// When; absent where it was not recorded, and of `parsed` and `unreadable`: they are one step of the worker with
    /// what follows.
    #[serde(serialize_with = "as_optional_text", skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Microseconds since the step before that was recorded; absent where `at` is, and of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_us: Option<i64>,
}

/// What the sender was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ack {
    /// MSA-1.
    pub code: &'static str,
    /// The message.
    pub text: String,
}

/// Another record of the message's family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Relative {
    /// The record.
    #[serde(serialize_with = "as_text")]
    pub id: Id,
    /// When it came in.
    #[serde(serialize_with = "as_text")]
    pub received: Timestamp,
    /// What became of it.
    pub status: String,
}

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Its place (`NK1[2]`); its raw beginning for a line that is no segment.
    pub path: String,
    /// What it is.
    pub title: Option<&'static str>,
    /// The fields that hold something.
    pub fields: Vec<Field>,
}

/// A field that holds something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Field {
    /// Its place (`PID-3`).
    pub path: String,
    /// Its name in the standard.
    pub name: Option<&'static str>,
    /// Its repetitions, decoded.
    pub values: Vec<String>,
    /// As sent: charset decoded, escapes as they stand.
    pub raw: String,
    /// Whether the sender deletes it (`""`).
    pub deletes: bool,
}

/// The record at a position.
///
/// # Errors
/// [`ViewError::NotFound`] when the log has none there, else the log's.
pub async fn record(log: &Log, position: Position) -> Result<Record, ViewError> {
    log.get(position).await?.ok_or(ViewError::NotFound)
}

/// The settings that an envelope names; `None` where nobody wrote them down, or not where it can be read now. The row is
/// the fold's, which may not be there yet: the log knows them before.
///
/// # Errors
/// The engines'.
pub async fn settings(tables: &Tables, log: &Log, sha: &Digest) -> Result<Option<SourceSettings>, ViewError> {
    let key = vec![Value::Bytes(Bytes::copy_from_slice(sha.as_bytes()))];
    let found = tables.read(&[Read::Get { table: SETTINGS.name, key }]).await?;
    let row = found.first().and_then(|rows| rows.first());
    if let Some(Value::Text(body)) = row.and_then(|row| row.values.get(1))
        && let Ok(settings) = serde_json::from_str(body)
    {
        return Ok(Some(settings));
    }
    let default = SourceSettings::default();
    if *sha == default.sha() {
        return Ok(Some(default));
    }
    Ok(announce::known(log).await?.remove(sha))
}

/// Reads a message's journey.
///
/// # Errors
/// [`ViewError::NotFound`] when there is no such message or the authority may not read charts.
pub async fn read(sight: Sight<'_>, id: Id) -> Result<Journey, ViewError> {
    let line = messages::read_one(sight.tables, sight.authority, id).await?;
    let record = match record(sight.log, line.position).await {
        Err(ViewError::Log(
            LogError::Corrupt { .. } | LogError::Missing { .. } | LogError::Unsure { .. },
        )) => {
            return damaged(sight, line).await;
        }
        record => record?,
    };
    let envelope = &record.envelope;
    let is_message = envelope.content_type != ContentType::Decision;
    let masks = !sight.authority.decides();
    let known = settings(sight.tables, sight.log, &envelope.settings_sha).await?;
    // By which settings it is to be read is not known: nor whom it names, and in which charset.
    let is_unknown = known.is_none() && is_message;
    let settings = known.unwrap_or_default();
    let judgement = accept::judge_caught(&envelope.body, envelope.content_type, &settings);
    let withheld =
        (is_unknown && masks) || is_withheld(sight, &line, envelope, &judgement.parsed, &settings).await?;
    let ack = judgement.acknowledgment(envelope.id, envelope.received);
    let ack = ack.filter(|_| is_message && !withheld).map(|ack| Ack {
        code: ack.code.as_str(),
        text: lines_of(&text_of(&ack.bytes, envelope.content_type, &settings)),
    });
    let mut segments = Vec::new();
    let mut cut = false;
    let (mut charset, mut event) = (None, None);
    if let Ok(message) = &judgement.parsed {
        charset = Some(message.charset().charset().name());
        event = trigger::classify(message).name();
        if !withheld {
            (segments, cut) = segments_of(message, masks);
        }
    }
    let text = (!withheld).then(|| {
        let whole = match &judgement.parsed {
            Ok(message) => message.to_text().text.into_owned(),
            Err(_) => String::from_utf8_lossy(&envelope.body).into_owned(),
        };
        let shown: String = whole.chars().take(limits::TEXT_SHOWN_CHARS).collect();
        cut |= shown.len() < whole.len();
        lines_of(&if masks { mask_text(&mask_lines(&shown, &judgement.parsed)) } else { shown })
    });
    let copies = messages::copies(sight.tables, sight.authority, line.effect).await?;
    let way = Way {
        steps: steps(&line, !is_message || judgement.parsed.is_ok()),
        event,
        peer: envelope.peer.clone(),
        charset,
        withheld,
        damaged: false,
        segments,
        cut,
        text,
        ack,
        copies: copies.iter().map(Relative::of).collect(),
        corrects: follow(sight, &line, |line| line.replaces).await?,
        corrected_by: follow(sight, &line, |line| line.replaced_by).await?,
    };
    Ok(Journey { message: line, journey: way })
}

/// The journey of a message whose bytes the log cannot read: what the tables know of it.
async fn damaged(sight: Sight<'_>, line: Line) -> Result<Journey, ViewError> {
    let copies = messages::copies(sight.tables, sight.authority, line.effect).await?;
    let way = Way {
        steps: steps(&line, false),
        event: None,
        peer: None,
        charset: None,
        withheld: false,
        damaged: true,
        segments: Vec::new(),
        cut: false,
        text: None,
        ack: None,
        copies: copies.iter().map(Relative::of).collect(),
        corrects: follow(sight, &line, |line| line.replaces).await?,
        corrected_by: follow(sight, &line, |line| line.replaced_by).await?,
    };
    Ok(Journey { message: line, journey: way })
}

impl Relative {
    fn of(line: &Line) -> Self {
        Self { id: line.id, received: line.received, status: line.status.clone() }
    }
}

async fn follow(
    sight: Sight<'_>,
    from: &Line,
    next: fn(&Line) -> Option<Id>,
) -> Result<Vec<Relative>, ViewError> {
    let mut found: Vec<Relative> = Vec::new();
    let mut at = next(from);
    while let Some(id) = at.filter(|_| found.len() < limits::LINEAGE_MAX) {
        // A correction may be known before what it corrects was read.
        let line = match messages::read_one(sight.tables, sight.authority, id).await {
            Ok(line) => line,
            Err(ViewError::NotFound) => break,
            Err(error) => return Err(error),
        };
        at = next(&line);
        found.push(Relative::of(&line));
    }
    Ok(found)
}

/// Whether the asker may not see what a message says. Who mends may see all; for anybody else a message that cannot be
/// read, and so not be asked whom it is about, is withheld too.
async fn is_withheld(
    sight: Sight<'_>,
    line: &Line,
    envelope: &Envelope,
    parsed: &Result<Message, ParseError>,
    settings: &SourceSettings,
) -> Result<bool, ViewError> {
    if sight.authority.decides() {
        return Ok(false);
    }
    // An operator's decision names numbers and patients in its own form, and says why in free words.
    if envelope.content_type == ContentType::Decision {
        return Ok(true);
    }
    let mut about = About {
        patients: line.patient.into_iter().collect(),
        encounters: line.encounter.into_iter().collect(),
        ..About::default()
    };
    match parsed {
        Ok(message) => about.read(message, settings, sight, envelope.source.as_str()),
        Err(_) => about.asks = true,
    }
    about.is_withheld(sight).await
}

fn text_of(bytes: &Bytes, content_type: ContentType, settings: &SourceSettings) -> String {
    match Message::parse(bytes.clone(), &accept::charset_settings(settings, content_type)) {
        Ok(message) => message.to_text().text.into_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// One segment in a line, as editors and eyes want it.
pub fn lines_of(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").trim_end_matches('\n').to_owned()
}

fn steps(line: &Line, is_parsed: bool) -> Vec<Step> {
    let mut last = Some(line.received);
    let mut step = |what: &str, at: Option<Timestamp>| {
        let took_us = at.zip(last).map(|(at, last)| at.micros_since(last)).filter(|_| what != "received");
        last = at.or(last);
        Step { what: what.to_owned(), at, took_us }
    };
    let mut steps = vec![step("received", Some(line.received)), step("durable", line.durable)];
    if !line.ack.is_empty() {
        steps.push(step("acknowledged", line.acked));
    }
    // One step of the worker with what follows: only its end is recorded.
    steps.push(step(if is_parsed { "parsed" } else { "unreadable" }, None));
    steps.push(step(&line.status, Some(line.applied_at)));
    steps
}

fn segments_of(message: &Message, masks: bool) -> (Vec<Segment>, bool) {
    let mut left = limits::FIELDS_SHOWN_MAX;
    let mut cut = false;
    let mut all = Vec::new();
    for (path, segment) in message.segments_with_paths() {
        let name = segment.name();
        let mut fields = Vec::new();
        for (number, slot) in segment.fields() {
            let deletes = slot.presence() == hilum_hl7v2::Presence::Null;
            if !slot.has_value() && !deletes {
                continue;
            }
            if left == 0 {
                cut = true;
                break;
            }
            left -= 1;
            let is_delimiters = name == "MSH" && number <= 2;
            let mut clip = |text: &str| {
                let shown: String = text.chars().take(limits::FIELD_SHOWN_CHARS).collect();
                cut |= shown.len() < text.len();
                shown
            };
            let kinds: Vec<String> = slot
                .repetitions()
                .take(limits::REPETITIONS_MAX)
                .map(|one| one.component(5).text().into_owned())
                .collect();
            let mask = |at: usize, text: String| {
                if masks {
                    mask_field(name, number, kinds.get(at).map_or("", String::as_str), &text)
                } else {
                    text
                }
            };
            let values: Vec<String> = if is_delimiters {
                vec![slot.raw_text().into_owned()]
            } else {
                let repetitions = slot.repetitions().take(limits::REPETITIONS_MAX).enumerate();
                repetitions.map(|(at, one)| mask(at, clip(&one.whole().text))).collect()
            };
            let raw = slot.repetitions().take(limits::REPETITIONS_MAX).enumerate();
            let raw: Vec<String> = raw.map(|(at, one)| mask(at, clip(&one.raw_text()))).collect();
            let place = path.map_or_else(String::new, |path: Path| path.with_field(number).to_string());
            fields.push(Field {
                path: place,
                name: field_name(name, number),
                values,
                raw: raw.join("~"),
                deletes,
            });
        }
        let place = path.map_or_else(|| "?".to_owned(), |path| path.to_string());
        all.push(Segment { path: place, title: segment_title(name), fields });
    }
    (all, cut)
}

/// A field's text for who may not see national numbers: PID-19, typed national numbers, and whatever looks like a
/// Korean one, wherever it stands.
fn mask_field(segment: &str, number: u16, kind: &str, text: &str) -> String {
    let first = |text: &str| match text.split_once('^') {
        Some((value, rest)) => format!("{}^{rest}", mask_national(value)),
        None => mask_national(text),
    };
    let is_person = matches!((segment, number), ("PID", 2..=4 | 18) | ("MRG", 1 | 2 | 4));
    match (segment, number) {
        ("PID", 19) | ("GT1", 12) | ("IN1", 49) | ("NK1", 37) => first(text),
        _ if is_person && is_national(kind) => first(text),
        _ => mask_text(text),
    }
}

/// The same in the message's own lines.
fn mask_lines(text: &str, parsed: &Result<Message, ParseError>) -> String {
    let Ok(message) = parsed else { return text.to_owned() };
    let delimiters = message.delimiters();
    let (field, repetition, component) = (
        char::from(delimiters.field),
        delimiters.repetition.map_or('~', char::from),
        char::from(delimiters.component),
    );
    let mask_line = |line: &str| {
        let mut fields: Vec<String> = line.split(field).map(str::to_owned).collect();
        let name = fields.first().cloned().unwrap_or_default();
        for (number, text) in fields.iter_mut().enumerate().skip(1) {
            let repetitions: Vec<String> = text
                .split(repetition)
                .map(|one| {
                    let kind = one.split(component).nth(4).unwrap_or_default();
                    let number = u16::try_from(number).unwrap_or(u16::MAX);
                    let usual = one.replace(component, "^");
                    mask_field(&name, number, kind, &usual).replace('^', &component.to_string())
                })
                .collect();
            *text = repetitions.join(&repetition.to_string());
        }
        fields.join(&field.to_string())
    };
    let lines: Vec<String> = text.split(['\r', '\n']).map(mask_line).collect();
    lines.join("\n")
}

/// The text with whatever has the form of a Korean resident number masked.
pub fn mask_text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut run = String::new();
    let end = |run: &mut String, out: &mut String| {
        if is_korean_number(run) {
            out.push_str(&mask_national(run));
        } else {
            out.push_str(run);
        }
        run.clear();
    };
    for sign in text.chars() {
        if sign.is_ascii_digit() || (sign == '-' && !run.is_empty()) {
            run.push(sign);
        } else {
            end(&mut run, &mut out);
            out.push(sign);
        }
    }
    end(&mut run, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn national_numbers_are_masked_wherever_they_stand() {
        let cases = [
            ("alone", "800101-1234567", "800101-1******"),
            ("without a dash, in a text", "id 8001011234567.", "id 800101-1******."),
            ("a date and time is none", "20260301093000+0900", "20260301093000+0900"),
            ("a phone number is none", "010-1234-5678", "010-1234-5678"),
            ("nothing", "", ""),
        ];
        for (why, text, want) in cases {
            assert_eq!(mask_text(text), want, "{why}");
        }
        assert_eq!(mask_field("PID", 19, "", "123456789"), "*****6789");
        assert_eq!(mask_field("PID", 3, "SS", "123456789^^^USA^SS"), "*****6789^^^USA^SS");
        assert_eq!(mask_field("PID", 3, "MR", "123456789^^^H^MR"), "123456789^^^H^MR");
    }

    #[test]
    fn a_raw_line_is_masked_like_its_fields() {
        let raw = "MSH|^~\\&|A|B|C|D|20260301||ADT^A01|1|P|2.5\rPID|1||1^^^H^MR~900101-2345678^^^K^NNKOR||김^수||||||||||||||9001012345678";
        let parsed = Message::parse(
            Bytes::from(raw.as_bytes().to_vec()),
            &accept::charset_settings(&SourceSettings::default(), ContentType::Hl7v2Unicode),
        );
        let masked = mask_lines(raw, &parsed);
        assert!(!masked.contains("2345678"), "{masked}");
        assert!(masked.contains("1^^^H^MR~900101-2******^^^K^NNKOR"), "{masked}");
    }
}
