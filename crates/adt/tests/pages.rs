//! What the room's pages say, and who may open them.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod harness;

use std::path::Path;
use std::sync::Arc;

use harness::House;
use hilum_adt::accept::{Door, DoorParts};
use hilum_adt::acks::AckTimes;
use hilum_adt::gateways::Gateways;
use hilum_adt::routes::{Room, WORDS, routes};
use hilum_adt::view::reconcile::Reconciler;
use hilum_adt::{http, sources::Sources};
use hilum_chart::{Chart, run_all};
use hilum_hl7v2::trigger::TRIGGERS;
use hilum_web::route::{Route, check_document};
use hilum_web::words::{self, Dictionary, Lang, Words, problems};

/// Keys that are built from what data names: a code, a status, a rule.
const DYNAMIC: [&str; 19] = [
    "allergen.",
    "census.list.",
    "charset_rule.",
    "class.",
    "diagnosis_use.",
    "doubt.",
    "fault.",
    "mark.",
    "message_status.",
    "nav.",
    "pending.",
    "relationship.",
    "rule.",
    "severity.",
    "sex.",
    "status.",
    "step.",
    "trigger.",
    "work_kind.",
];

#[test]
fn every_word_is_there_in_both_languages() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (pages, routes) = (source.join("pages"), source.join("routes"));
    let found = problems(&WORDS, &[words::WORDS], &[&pages, &routes], &DYNAMIC).unwrap();
    assert_eq!(found, Vec::<String>::new());
    // A planted fault is found.
    let mut broken = WORDS;
    broken.ko = "[census]\ntitle = \"x\"\n";
    let found = problems(&broken, &[words::WORDS], &[&pages, &routes], &DYNAMIC).unwrap();
    assert!(found.iter().any(|line| line == "census.unit: no Korean"), "{found:?}");
}

#[test]
fn every_event_has_a_title_in_both_languages() {
    let dictionary = Arc::new(Dictionary::new(&[WORDS]).unwrap());
    let [en, ko] =
        [Lang::En, Lang::Ko].map(|lang| Words::new(Arc::clone(&dictionary), lang, jiff::tz::TimeZone::UTC));
    for trigger in TRIGGERS {
        let key = format!("trigger.{}", trigger.event.to_lowercase());
        assert_eq!(en.get(&key), Some(trigger.name), "{key}: what the standard calls it");
        let title = ko.get(&key).unwrap_or_default();
        assert!(title.chars().any(|sign| ('가'..='힣').contains(&sign)), "{key}: {title}");
    }
}

#[test]
fn the_top_bar_calls_a_page_what_it_is_called() {
    let dictionary = Arc::new(Dictionary::new(&[words::WORDS, WORDS]).unwrap());
    for lang in [Lang::En, Lang::Ko] {
        let w = Words::new(Arc::clone(&dictionary), lang, jiff::tz::TimeZone::UTC);
        for page in ["census", "messages", "quarantine", "work", "sources"] {
            assert_eq!(w.get(&format!("nav.{page}")), w.get(&format!("{page}.title")), "{page} {lang:?}");
        }
    }
}

#[test]
fn nothing_that_is_typed_goes_into_a_url() {
    let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/pages");
    assert_eq!(hilum_web::forms::typed_into_urls(&pages).unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn the_document_shows_the_rooms_routes() {
    let house = House::new();
    let sources = Arc::new(Sources::new([], house.clock.now()).unwrap());
    let fold = run_all(&house.projection, &house.log, &house.tables, &house.clock);
    let room = Room {
        tables: house.tables.clone(),
        chart: Chart::open(house.tables.clone(), house.clock.clone()),
        log: house.log.clone(),
        clock: house.clock.clone(),
        entropy: house.entropy.clone(),
        key: house.key.clone(),
        sources: Arc::clone(&sources),
        gateways: Gateways::alone(Arc::clone(&sources)),
        progress: fold.progress().clone(),
        reconciler: Arc::new(Reconciler::new(
            house.tables.clone(),
            Chart::open(house.tables.clone(), house.clock.clone()),
            house.clock.clone(),
        )),
    };
    let door = Door::new(DoorParts {
        log: house.log.clone(),
        clock: house.clock.clone(),
        entropy: house.entropy.clone(),
        key: house.key.clone(),
        sources,
        acks: Arc::new(AckTimes::default()),
        message_bytes_max: 1 << 20,
        tracer: hilum_core::Tracer::off(),
    });
    let mut all = routes(&room);
    all.push(http::route(door));
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SECURITY.md");
    let bless = std::env::var_os("BLESS").is_some();
    check_document(&document, "adt", all.iter().map(Route::info), bless).unwrap();
    // A planted difference is found.
    assert!(check_document(&document, "adt", all.iter().skip(1).map(Route::info), false).is_err());
    fold.stop().await;
}
