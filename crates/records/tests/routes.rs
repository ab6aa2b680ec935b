//! That the document says who may.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::path::Path;

use hilum_chart::{Chart, Discretions};
use hilum_core::{Clock, Entropy, InstallationKey};
use hilum_engines::tables::Tables;
use hilum_engines::tables::sqlite::{Options, Place, Sqlite};
use hilum_records::Room;
use hilum_records::routes;
use hilum_web::route::{Route, check_document};

#[tokio::test]
async fn every_route_stands_in_the_document() {
    let schema = hilum_chart::resources::TABLES;
    let tables = Tables::Sqlite(Sqlite::open(Place::Memory, schema, Options::default()).unwrap());
    let room = Room {
        chart: Chart::open(tables, Clock::fixed(hilum_core::Timestamp::default())),
        discretions: Discretions::default(),
        policy: hilum_records::Policy::default(),
        key: InstallationKey::new([7; 32]),
        entropy: Entropy::seeded(7),
        paging: hilum_records::Paging::default(),
    };
    let all = routes(&room);
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SECURITY.md");
    let bless = std::env::var_os("BLESS").is_some();
    check_document(&document, "records", all.iter().map(Route::info), bless).unwrap();
    // A planted difference is found.
    assert!(check_document(&document, "records", all.iter().skip(1).map(Route::info), false).is_err());
}
