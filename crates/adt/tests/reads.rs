//! What a batch asks the tables for.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{House, Msg};
use hilum_adt::decision::Decision;
use hilum_adt::tables::{DECIDED, WORK};
use hilum_chart::projection::{Projection, Reads, Rows};
use hilum_engines::log::ReadMax;
use hilum_engines::tables::{Read, Value};

/// All that the newest message of its partition asks for, as the runner would ask.
async fn asked(house: &House, partition: u16, offset: u64) -> Reads {
    let max = ReadMax { records: 1, bytes: usize::MAX };
    let records = house.log.read(hilum_core::Stream::Hl7In, partition, offset, max).await.unwrap();
    let events = [house.projection.decode(&records[0])];
    let (mut rows, mut all) = (Rows::default(), Reads::default());
    loop {
        let mut reads = Reads::default();
        house.projection.needs(&events, &rows, &mut reads);
        reads.gets.retain(|(table, key)| !rows.has_read(table, key));
        reads.scans.retain(|scan| rows.scan(scan).is_none());
        if reads.is_empty() {
            return all;
        }
        for (table, key) in reads.gets {
            let read = Read::Get { table, key: key.clone() };
            let found = house.tables.read(&[read]).await.unwrap().remove(0).pop();
            rows.put_get(table, key.clone(), found);
            all.get(table, key);
        }
        for scan in reads.scans {
            let mut page = scan.clone();
            page.limit = page.limit.min(1_000);
            let found = house.tables.read(&[Read::Scan(page)]).await.unwrap().remove(0);
            rows.put_scan(scan.clone(), found);
            all.scan(scan);
        }
    }
}

#[tokio::test]
async fn of_the_decisions_only_those_that_matter_are_read() {
    let house = House::new();
    let deleted = Msg::new("A23", "2", "010900", "1", "").at("W1^101^1^H").text();
    house.send(&Msg::new("A01", "1", "010800", "1", "").at("W1^101^1^H").text()).await;
    house.send(&deleted).await;
    house.run().await;
    let work = house.rows(&WORK).await.remove(0);
    let Value::Id(item) = work.values[0] else { panic!("an id") };
    let settle = |work| Decision::Settle { work, by: "kim".into(), note: String::new() };
    house.decide(&settle(item)).await;
    for n in 0..20_u8 {
        house.decide(&settle(hilum_core::Id::from_bytes([n; 16]))).await;
    }
    house.run().await;
    assert_eq!(house.rows(&DECIDED).await.len(), 21);

    house.send(&Msg::new("A02", "3", "011000", "1", "").at("W1^101^1^H").text()).await;
    let key = house.envelopes(&[deleted]).remove(0).key;
    let partition = hilum_engines::log::partition_of(key, house.log.partitions(hilum_core::Stream::Hl7In));
    let reads = asked(&house, partition, 2).await;
    assert!(reads.scans.iter().all(|scan| scan.table != DECIDED.name), "not all of them");
    let gets: Vec<_> = reads.gets.iter().filter(|(table, _)| *table == DECIDED.name).collect();
    assert!(gets.contains(&&(DECIDED.name, vec![Value::Id(item)])), "that of the visit");
    assert!(gets.len() < 10, "{}", gets.len());
    house.run().await;
    assert_eq!(house.work().await[0]["state"], "decided", "and it holds");
    assert_eq!(house.rebuild().await.differing(), 0);
}
