//! The clocks of a message: when what it says counts (rules 1–3).

use hilum_core::{Id, Timestamp};
use hilum_hl7v2::time::{self, Defaults};
use hilum_hl7v2::{Effect, Flaw, Message, Path};

use super::Context;
use crate::content::{Finding, When, Zones};
use crate::facts::EventTime;
use crate::limits::{ADMISSION_AHEAD_S, ADMISSION_FROM_YEAR, TIME_AHEAD_S};
use crate::order::{Instant, Stamp, Tie as Break};
use crate::settings::SourceSettings;
use crate::state::Moment;

/// Whether a message's own time lies so far behind its receipt that no clock is right that says so.
const fn is_ahead(sent: Timestamp, received: Timestamp) -> bool {
    sent.micros_since(received) > TIME_AHEAD_S * 1_000_000
}

/// By how many seconds a message's own time (MSH-7) lies ahead of its receipt; `None` when that is no more than clocks
/// differ (rule 3). It sorts all the same: the door raises an alarm with it.
pub fn ahead_s(message: &Message, settings: &SourceSettings, received: Timestamp) -> Option<i64> {
    let text = message.get(Path::parse("MSH-7.1").ok()?).value()?;
    let zone = time::zone(&settings.zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let sent = Instant::from(&time::parse(text.trim(), &Defaults::of(message, &zone)).ok()?).at;
    is_ahead(sent, received).then(|| sent.micros_since(received) / 1_000_000)
}

/// The clocks of one message (rules 1–3).
pub(super) struct Clocks {
    /// EVN-6 else EVN-2 else MSH-7; of what is announced and of cancels EVN-2 else MSH-7.
    pub(super) moved: Stamp,
    /// EVN-2 else MSH-7.
    pub(super) said: Stamp,
    /// The movement's time as sent.
    pub(super) when: Option<When>,
    /// EVN-6.
    pub(super) event: Option<EventTime>,
    /// EVN-3, EVN-6 of what is announced.
    pub(super) expected: Option<Moment>,
    pub(super) zones: Zones,
    /// Where the movement's time stood.
    moved_from: &'static str,
    received: Timestamp,
    /// Whether MSH-7 lies ahead of the receipt.
    is_fast: bool,
}

impl Clocks {
    pub(super) fn of(
        message: &Message,
        context: &Context<'_>,
        effect: Effect,
        id: Id,
        received: Timestamp,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let settings = context.settings;
        let zone = time::zone(&settings.zone).unwrap_or(jiff::tz::TimeZone::UTC);
        let defaults = Defaults::of(message, &zone);
        let text = |path: &str| {
            let path = Path::parse(path).ok()?;
            let text = message.get(path).value()?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        let zones = Zones::of(text("MSH-7.1").as_deref(), &settings.zone);
        let announced = matches!(effect, Effect::PreAdmit | Effect::Pending(_));
        let is_cancel = matches!(effect, Effect::Cancel(_));
        let mut instant = |path: &str| {
            let text = text(path)?;
            if let Ok(time) = time::parse(&text, &defaults) {
                let when = When::read(&text, &zones).ok().map(|(when, _)| when);
                return Some((Instant::from(&time), when));
            }
            findings.push(Finding {
                rule: Flaw::TimeInvalid.as_str().into(),
                path: path.trim_end_matches(".1").to_owned(),
                text: Flaw::TimeInvalid.text().into(),
            });
            None
        };
        let msh7 = instant("MSH-7.1");
        let evn2 = instant("EVN-2.1");
        let evn3 = instant("EVN-3.1");
        let evn6 = instant("EVN-6.1");
        let is_fast = msh7.as_ref().is_some_and(|(sent, _)| is_ahead(sent.at, received));
        if is_fast {
            findings.push(Finding {
                rule: "source-clock".into(),
                path: "MSH-7".to_owned(),
                text: "more than 15 min after its receipt: the sender's clock or zone is wrong, and what it sends later \
                       with a right one sorts before this"
                    .into(),
            });
        }
        let mut sorts = |time: &Option<(Instant, Option<When>)>, path: &str, planned: bool| {
            let (Some((time, _)), Some((sent, _))) = (time, &msh7) else { return true };
            let ahead = time.at.micros_since(sent.at) > TIME_AHEAD_S * 1_000_000;
            if ahead && !planned {
                findings.push(Finding {
                    rule: "time-ahead".into(),
                    path: path.to_owned(),
                    text: "more than 15 min ahead of the message's own time: does not sort".into(),
                });
            }
            !ahead || planned
        };
        let evn2_sorts = sorts(&evn2, "EVN-2", false);
        let evn6_sorts = sorts(&evn6, "EVN-6", announced || is_cancel);
        let said = evn2.as_ref().filter(|_| evn2_sorts).or(msh7.as_ref());
        let moved_by = evn6.as_ref().filter(|_| evn6_sorts && !announced && !is_cancel);
        let moved = moved_by.or(said);
        let moved_from = match (moved_by, &evn2) {
            (Some(_), _) => "EVN-6",
            (None, Some(_)) if evn2_sorts => "EVN-2",
            (None, _) => "MSH-7",
        };
        let break_by = Break {
            sequence: match context.arrival {
                Some(arrival) => arrival.offset + 1,
                None => text("MSH-13").and_then(|text| text.parse().ok()).unwrap_or(0),
            },
            control: if settings.monotone_control_ids {
                text("MSH-10.1").and_then(|text| text.parse().ok()).unwrap_or(0)
            } else {
                0
            },
            rank: effect.rank(),
            message: id,
        };
        let moment = |time: &(Instant, Option<When>)| Some(Moment { at: time.0.at, when: time.1.clone()? });
        Self {
            moved: Stamp::new(moved.map(|(time, _)| *time), break_by),
            said: Stamp::new(said.map(|(time, _)| *time), break_by),
            when: moved.and_then(|(_, when)| when.clone()),
            event: evn6.as_ref().map(|(time, _)| EventTime::from(*time)),
            expected: evn3.as_ref().or(evn6.as_ref()).filter(|_| announced).and_then(moment),
            zones,
            moved_from,
            received,
            is_fast,
        }
    }

    /// Where the time of an admission stands that cannot be one, of the movement and of PV1-44. A fast clock was said by
    /// itself.
    pub(super) fn impossible_begins(&self, admitted: Option<&When>) -> Vec<&'static str> {
        // By the day as it was said: the first one of 1900 in Seoul is of the year before in UTC.
        let is_early = |when: &When| when.first_day().is_some_and(|day| day.year() < ADMISSION_FROM_YEAR);
        let is_ahead = |when: &When| {
            let at = when.lower_bound(&self.zones);
            at.is_some_and(|at| at.micros_since(self.received) > ADMISSION_AHEAD_S * 1_000_000)
        };
        let moved = self.when.as_ref().filter(|when| is_early(when)).map(|_| self.moved_from);
        let begin = admitted.filter(|when| is_early(when) || !self.is_fast && is_ahead(when));
        moved.into_iter().chain(begin.map(|_| "PV1-44")).collect()
    }
}
