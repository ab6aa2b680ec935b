//! Histories of types and of all, page by page, against a list of all versions: on both engines, while others write, and with
//! a clock that is set back.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use hilum_chart::Chart;
use hilum_chart::chart::Commit;
use hilum_chart::projection::{Changes, ResourceChange};
use hilum_chart::resources;
use hilum_chart::versions::{VersionPlace, Versions};
use hilum_core::{Authority, Clock, Entropy, Id, RecordId, Role, Seq, Timestamp};
use hilum_engines::tables::Tables;
use hilum_engines::tables::postgres::{Postgres, PostgresConfig};
use hilum_engines::tables::sqlite::{self, Place, Sqlite};

const TYPES: [&str; 4] = ["Basic", "Observation", "Patient", "ValueSet"];
const NOON_US: i64 = 1_700_000_000_000_000;

struct World {
    chart: Chart,
    now_us: Arc<AtomicI64>,
    dice: Entropy,
    /// Every version that was made: its commit, whether it is a deletion, and when it was replaced.
    all: BTreeMap<VersionPlace, (Seq, bool, Option<Timestamp>)>,
    last: BTreeMap<(&'static str, Id), VersionPlace>,
}

impl World {
    fn new(tables: Tables, seed: u64) -> Self {
        let now_us = Arc::new(AtomicI64::new(NOON_US));
        let clock = Arc::clone(&now_us);
        let clock = Clock::new(move || Timestamp::from_micros(clock.load(Ordering::Relaxed)));
        let (all, last) = (BTreeMap::new(), BTreeMap::new());
        Self { chart: Chart::open(tables, clock), now_us, dice: Entropy::seeded(seed), all, last }
    }

    fn below(&self, n: u64) -> u64 {
        u64::from_le_bytes(self.dice.bytes()) % n
    }

    fn authority() -> Authority {
        Authority::new("kim", Role::Operator)
    }

    /// One commit about several resources. Time goes on, stands still, or is set back.
    async fn write(&mut self) {
        let by = [1_000, 1_000_000, 0, 0, -3_000_000][self.below(5) as usize];
        let now = Timestamp::from_micros(self.now_us.fetch_add(by, Ordering::Relaxed) + by);
        let mut changes = Changes::default();
        for _ in 0..=self.below(3) {
            let ty = TYPES[self.below(TYPES.len() as u64) as usize];
            let id = Id::from_bytes([self.below(5) as u8 + 1; 16]);
            let body = format!(
                r#"{{"resourceType":"{ty}","id":"{id}","implicitRules":"x:{}"}}"#,
                self.below(1 << 40)
            );
            let body = (self.below(5) > 0).then_some(body);
            let source = RecordId::new(Timestamp::from_micros(1), [0; 10]);
            changes.resources.insert((ty, id), ResourceChange { resource_type: ty, id, body, source });
        }
        let deleted: BTreeMap<_, _> =
            changes.resources.iter().map(|(place, change)| (*place, change.body.is_none())).collect();
        let commit = Commit { door: "fhir", changes, ..Commit::default() };
        let done = self.chart.commit(&Self::authority(), commit).await.unwrap();
        let newest = self.all.last_key_value().map(|(place, _)| place.updated);
        let mut moments = BTreeSet::new();
        for ((ty, id), version) in done.versions {
            let place =
                VersionPlace::of(&self.chart.version(&Self::authority(), ty, id, version).await.unwrap());
            let updated = place.updated;
            moments.insert(updated);
            assert!(
                updated >= now && newest.is_none_or(|newest| updated > newest),
                "{updated} behind {newest:?}"
            );
            if let Some(before) = self.last.insert((ty, id), place.clone()) {
                self.all.get_mut(&before).unwrap().2 = Some(updated);
            }
            self.all.insert(place, (done.t, deleted[&(ty, id)], None));
        }
        assert!(moments.len() <= 1, "one commit, one moment: {moments:?}");
    }

    async fn walk(
        &mut self,
        types: &[&str],
        since: Option<Timestamp>,
        before: Option<Timestamp>,
        limit: u32,
    ) {
        let t = self.chart.tables().now().await.unwrap();
        let want: Vec<VersionPlace> = self
            .all
            .iter()
            .rev()
            .filter(|(place, (made, ..))| {
                types.contains(&&*place.resource_type)
                    && *made <= t
                    && since.is_none_or(|since| place.updated >= since)
                    && before.is_none_or(|before| place.updated < before)
            })
            .map(|(place, _)| place.clone())
            .collect();
        let (mut behind, mut found) = (None, Vec::new());
        loop {
            let asked = Versions { types, since, before, t, behind: behind.clone(), limit };
            let page = self.chart.versions(&Self::authority(), &asked).await.unwrap();
            assert!(page.len() <= limit as usize);
            let older: Vec<_> = page.iter().collect();
            let replaced = self.chart.replaced(&Self::authority(), &older).await.unwrap();
            for stored in &page {
                let place = VersionPlace::of(stored);
                let (made, deleted, until) = self.all[&place];
                assert_eq!(
                    (stored.t_from, stored.deleted, stored.body.is_empty()),
                    (made, deleted, deleted),
                    "{place:?}"
                );
                assert_eq!(replaced.get(&place).copied(), until, "{place:?}");
                behind = Some(place.clone());
                found.push(place);
            }
            if page.len() < limit as usize {
                break;
            }
            if self.below(40) == 0 {
                self.write().await;
            }
        }
        assert_eq!(found, want, "{types:?} {since:?} {before:?} {limit}");
    }
}

async fn walks_find_each_version_once(tables: Tables, seed: u64, writes: usize) {
    let mut world = World::new(tables, seed);
    for _ in 0..writes {
        world.write().await;
    }
    for n in 0..60 {
        let first = world.below(4) as usize;
        let types = if n % 2 == 0 { &TYPES[first..=first] } else { &TYPES[first..] };
        let at = |world: &World| {
            let ago = (world.below(60_000_000)) as i64;
            (world.below(2) == 0).then(|| Timestamp::from_micros(world.now_us.load(Ordering::Relaxed) - ago))
        };
        let (since, before) = (at(&world), at(&world));
        let limit = [1, 2, 7, 500][world.below(4) as usize];
        world.walk(types, since, before, limit).await;
    }
    let feed = Authority::new("feed", Role::Feed);
    let asked =
        Versions { types: &TYPES, since: None, before: None, t: Seq(i64::MAX), behind: None, limit: 5 };
    assert!(world.chart.versions(&feed, &asked).await.is_err());
}

#[tokio::test]
async fn each_version_is_in_a_history_once_though_the_clock_is_set_back() {
    for seed in 1..4 {
        let tables = Sqlite::open(Place::Memory, resources::TABLES, sqlite::Options::default()).unwrap();
        walks_find_each_version_once(Tables::Sqlite(tables), seed, 120).await;
    }
}

#[tokio::test]
async fn and_on_postgresql() {
    let server = hilum_testkit::postgres::Postgres::shared();
    let config =
        PostgresConfig { allow_weak: true, ..PostgresConfig::new(server.url(), server.fresh_schema()) };
    let tables = Postgres::open(config, resources::TABLES).await.unwrap();
    walks_find_each_version_once(Tables::Postgres(tables), 7, 60).await;
}

/// However many types there are, and however little there is of each.
#[tokio::test]
async fn a_page_over_many_types_is_as_long_as_it_is_asked_for() {
    let tables = Sqlite::open(Place::Memory, resources::TABLES, sqlite::Options::default()).unwrap();
    let chart = Chart::open(Tables::Sqlite(tables), Clock::new(|| Timestamp::from_micros(NOON_US)));
    let types: Vec<&str> = hilum_fhir::r4::r4().resource_types().take(100).collect();
    let write = async |ty: &'static str, n: u8| {
        let (id, source) = (Id::from_bytes([n; 16]), RecordId::new(Timestamp::from_micros(1), [0; 10]));
        let body = Some(format!(r#"{{"resourceType":"{ty}","id":"{id}"}}"#));
        let mut changes = Changes::default();
        changes.resources.insert((ty, id), ResourceChange { resource_type: ty, id, body, source });
        let commit = Commit { door: "fhir", changes, ..Commit::default() };
        chart.commit(&World::authority(), commit).await.unwrap().t
    };
    let mut t = Seq(0);
    for ty in hilum_fhir::r4::r4().resource_types().take(100) {
        t = write(ty, 1).await;
    }
    // Many that came later than what is asked for.
    for n in 2..50 {
        write("Account", n).await;
    }
    for (limit, want) in [(1, 1), (50, 50), (99, 99), (500, 100)] {
        let asked = Versions { types: &types, since: None, before: None, t, behind: None, limit };
        let found = chart.versions(&World::authority(), &asked).await.unwrap();
        assert_eq!(found.len(), want, "{limit}");
        assert!(found.iter().all(|stored| stored.t_from <= t));
    }
}

/// Tables of a version that had no index by time are given one, and all that stands is found by it.
#[tokio::test]
async fn what_stood_before_there_was_an_index_is_found() {
    use hilum_engines::tables::Table;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tables.sqlite");
    let without: Vec<&'static Table> = resources::TABLES
        .iter()
        .map(|table| {
            let kept: Vec<_> =
                table.indexes.iter().filter(|index| index.name != "by_updated").copied().collect();
            let Table { name, key_len, columns, register, .. } = **table;
            &*Box::leak(Box::new(Table { name, key_len, columns, indexes: kept.leak(), register }))
        })
        .collect();
    let open = |schema: &[&'static Table]| {
        Tables::Sqlite(Sqlite::open(Place::File(file.clone()), schema, sqlite::Options::default()).unwrap())
    };
    let mut world = World::new(open(&without), 11);
    for _ in 0..40 {
        world.write().await;
    }
    world.chart.tables().close().await;
    let now_us = Arc::clone(&world.now_us);
    let clock = Clock::new(move || Timestamp::from_micros(now_us.load(Ordering::Relaxed)));
    world.chart = Chart::open(open(resources::TABLES), clock);
    world.walk(&TYPES, None, None, 7).await;
}
