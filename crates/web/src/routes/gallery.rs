//! All components in all their states, to be looked at. The people in it are invented.

use askama::Template;
use axum::response::Response;
use hilum_core::Timestamp;

use crate::outcome::Fault;
use crate::ui::{Allergies, Diff, Notice, NoticeKind, PatientBanner, Spark, Tag, Tone};
use crate::visit::Caller;
use crate::words::Words;

struct BoardRow {
    bed: &'static str,
    name: &'static str,
    born: String,
    identifier: &'static str,
    since: String,
    day: u32,
    attending: &'static str,
    tags: Vec<Tag>,
}

#[derive(Template)]
#[template(path = "gallery.html")]
struct Gallery {
    now: Timestamp,
    banners: Vec<PatientBanner>,
    rows: Vec<BoardRow>,
    notices: Vec<Notice>,
    empty: Notice,
    tags: Vec<Tag>,
    spark: Spark,
    diff: Diff,
    w: Words,
}

fn banners(w: &Words) -> Vec<PatientBanner> {
    let date = |year, month, day| w.date(jiff::civil::date(year, month, day));
    let plain = PatientBanner {
        w: w.clone(),
        name: "홍길동".to_owned(),
        name_beside: Some("HONG, Gildong".to_owned()),
        born: Some(date(1979, 3, 12)),
        age: Some(w.n("gallery.age", 47)),
        sex: w.t("gallery.male").to_owned(),
        identifiers: vec![
            ("HILUM MR".to_owned(), "00123456".to_owned()),
            ("NNKOR".to_owned(), "790312-1******".to_owned()),
        ],
        location: Some("5W · 12 · A".to_owned()),
        allergies: Allergies::Listed(vec!["Penicillin".to_owned(), "Latex".to_owned()]),
        deceased: None,
        merged_into: None,
        marks: vec![
            Tag::new(Tone::Warn, w.n("gallery.not_applied", 2)),
            Tag::new(Tone::Neutral, w.t("gallery.confidential")),
        ],
    };
    let long = PatientBanner {
        name: "VAN DER WESTHUIZEN-OOSTERBROEK, Maximiliana Wilhelmina Johanna".to_owned(),
        name_beside: None,
        born: None,
        age: None,
        identifiers: Vec::new(),
        location: None,
        allergies: Allergies::NotKnown,
        marks: Vec::new(),
        ..plain.clone()
    };
    let dead = PatientBanner {
        name: "MERCER, Ada".to_owned(),
        name_beside: None,
        born: Some(date(1938, 11, 2)),
        age: Some(w.n("gallery.age", 87)),
        sex: w.t("gallery.female").to_owned(),
        allergies: Allergies::None,
        deceased: Some(format!("{} 04:12", date(2026, 11, 20))),
        merged_into: Some(("#banners".to_owned(), "MERCER, Ada Louise · 00098812".to_owned())),
        marks: Vec::new(),
        location: None,
        ..plain.clone()
    };
    vec![plain, long, dead]
}

fn rows(w: &Words) -> Vec<BoardRow> {
    let date = |year, month, day| w.date(jiff::civil::date(year, month, day));
    let since = |day| format!("{} 08:30", date(2026, 11, day));
    let row = |bed, name, born, identifier, day: i8, tags| BoardRow {
        bed,
        name,
        born,
        identifier,
        since: since(day),
        day: 22 - u32::from(day.unsigned_abs().min(21)),
        attending: "한지민",
        tags,
    };
    vec![
        row("5W-11-A", "MERCER, Ada", date(1938, 11, 2), "00098812", 2, Vec::new()),
        row(
            "5W-12-A",
            "홍길동",
            date(1979, 3, 12),
            "00123456",
            18,
            vec![Tag::new(Tone::Warn, w.n("gallery.not_applied", 2))],
        ),
        row(
            "5W-12-A",
            "홍길순",
            date(1981, 6, 1),
            "00123457",
            21,
            vec![
                Tag::new(Tone::Warn, w.t("gallery.two_in_bed")),
                Tag::new(Tone::Info, w.t("gallery.similar")),
            ],
        ),
        row(
            "5W-14-B",
            "VAN DER WESTHUIZEN-OOSTERBROEK, Maximiliana Wilhelmina Johanna",
            date(2001, 1, 9),
            "00200018",
            20,
            vec![Tag::new(Tone::Act, w.t("gallery.identity"))],
        ),
        row(
            "",
            "남궁민수",
            date(1966, 8, 30),
            "00310042",
            21,
            vec![Tag::new(Tone::Neutral, w.t("gallery.no_bed"))],
        ),
    ]
}

/// `GET /gallery`.
pub async fn page(caller: Caller) -> Result<Response, Fault> {
    let w = caller.words();
    let notices = vec![
        Notice::new(NoticeKind::Stale, w.t("gallery.stale"), w.t("gallery.stale_text"))
            .action("#notices", w.t("nav.sources")),
        Notice::new(NoticeKind::Partial, w.t("gallery.partial"), w.t("gallery.partial_text")),
        Notice::new(NoticeKind::Error, w.t("gallery.error"), w.t("gallery.error_text"))
            .action("#notices", w.t("gallery.retry")),
        Notice::new(NoticeKind::Done, w.t("gallery.done"), w.t("gallery.done_text")),
    ];
    let values: Vec<f64> =
        (0..48).map(|i| 20.0 + 14.0 * (f64::from(i) / 5.0).sin() + f64::from(i % 7)).collect();
    let before = ["PID|1||00123456^^^HILUM^MR||홍^길동||19791312|M", "PV1|1|I|5W^12^A"];
    let after = ["PID|1||00123456^^^HILUM^MR||홍^길동||19790312|M", "PV1|1|I|5W^12^A"];
    let gallery = Gallery {
        now: caller.at(),
        banners: banners(&w),
        rows: rows(&w),
        notices,
        empty: Notice::new(NoticeKind::Empty, w.t("gallery.empty"), w.t("gallery.empty_text"))
            .action("#notices", w.t("nav.sources")),
        tags: vec![
            Tag::new(Tone::Neutral, "ADT^A02"),
            Tag::new(Tone::Info, w.t("gallery.similar")),
            Tag::new(Tone::Ok, w.t("gallery.applied")),
            Tag::new(Tone::Warn, w.t("gallery.finding")),
            Tag::new(Tone::Act, w.t("gallery.identity")),
        ],
        spark: Spark::new(w.t("gallery.rate"), "41/min", &values),
        diff: Diff::of(&before, &after),
        w,
    };
    caller.page(caller.words().t("gallery.title")).wide().body(&gallery)
}
