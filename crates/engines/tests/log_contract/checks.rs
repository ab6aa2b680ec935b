//! The promises of [`hilum_engines::log`], each as a check that any engine can be put through.

use std::error::Error;
use std::time::Duration;

use hilum_core::{Digest, Envelope, Kind, Position, RecordId, Stream, Timestamp};
use hilum_engines::limits;
use hilum_engines::log::{LogError, ReadMax, partition_of};

use crate::sample::{ALL, bodies, envelope, hl7, key};
use crate::subject::Subject;

pub type Outcome = Result<(), Box<dyn Error>>;

macro_rules! ensure {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err(format!($($why)+).into());
        }
    };
}

async fn bodies_of(subject: &Subject, stream: Stream, partition: u16) -> Result<Vec<String>, LogError> {
    let records = subject.read(stream, partition, 0, ALL).await?;
    Ok(records.iter().map(|r| String::from_utf8_lossy(&r.envelope.body).into_owned()).collect())
}

pub async fn records_come_back_in_the_order_of_append(subject: &mut Subject) -> Outcome {
    let one_key = (0..200).map(|n| subject.append(envelope(Stream::Hl7In, 3, format!("{n}").into_bytes())));
    let positions: Vec<Position> = futures::future::try_join_all(one_key).await?;
    let offsets: Vec<u64> = positions.iter().map(|p| p.offset).collect();
    ensure!(offsets == (0..200).collect::<Vec<_>>(), "offsets do not grow by one, from 0: {offsets:?}");
    let partition = partition_of(key(3), subject.log.partitions(Stream::Hl7In));
    ensure!(positions.iter().all(|p| p.partition == partition), "one key, several partitions");
    let want: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    let got = bodies_of(subject, Stream::Hl7In, partition).await?;
    ensure!(got == want, "read back as {got:?}");
    ensure!(subject.log.end(Stream::Hl7In, partition).await? == 200, "the end is elsewhere");
    ensure!(subject.log.end(Stream::Decisions, partition).await? == 0, "streams are not apart");
    Ok(())
}

pub async fn a_key_always_goes_to_one_partition_and_keys_spread(subject: &mut Subject) -> Outcome {
    ensure!(subject.log.partitions(Stream::Hl7In) == limits::LOG_PARTITIONS, "partitions as made");
    for n in 0..32 {
        let first = subject.append(hl7(n)).await?;
        let second = subject.append(hl7(n)).await?;
        ensure!(first.partition == second.partition, "{first} and {second}");
        ensure!(second.offset > first.offset, "{first} before {second}");
    }
    for partition in 0..subject.log.partitions(Stream::Hl7In) {
        let end = subject.log.end(Stream::Hl7In, partition).await?;
        ensure!(end == 8, "partition {partition} holds {end}");
    }
    ensure!(subject.log.end(Stream::Hl7In, 8).await.is_err(), "a ninth partition");
    ensure!(subject.log.read(Stream::Hl7In, 8, 0, ALL).await.is_err(), "a ninth partition");
    Ok(())
}

pub async fn reads_are_bounded_and_empty_at_the_end(subject: &mut Subject) -> Outcome {
    for _ in 0..10 {
        subject.log.append(envelope(Stream::Decisions, 1, vec![b'x'; 100])).await?;
    }
    let partition = partition_of(key(1), subject.log.partitions(Stream::Hl7In));
    let cases = [
        ("all", 0, 100, usize::MAX, 10),
        ("records", 0, 3, usize::MAX, 3),
        ("the next ones", 3, 3, usize::MAX, 3),
        ("bytes", 0, 100, 250, 2),
        ("what did not fit before", 2, 100, 250, 2),
        ("one record at least", 0, 100, 1, 1),
        ("from", 8, 100, usize::MAX, 2),
        ("back", 4, 1, usize::MAX, 1),
        ("at the end", 10, 100, usize::MAX, 0),
        ("far behind the end", u64::MAX, 100, usize::MAX, 0),
        ("nothing asked for", 0, 0, 0, 0),
        ("all again", 0, 100, usize::MAX, 10),
    ];
    for (why, from, records, bytes, want) in cases {
        let got = subject.read(Stream::Decisions, partition, from, ReadMax { records, bytes }).await?;
        ensure!(got.len() == want, "{why}: {} records", got.len());
        let in_order = got.iter().zip(from..).all(|(record, offset)| record.position.offset == offset);
        ensure!(in_order, "{why}: other places");
    }
    Ok(())
}

pub async fn reopening_keeps_all_and_the_epoch(subject: &mut Subject) -> Outcome {
    let epoch = subject.log.epoch();
    let mut sent = hl7(5);
    sent.charset_rule = Some("msh-18".to_owned());
    sent.replaces = Some(RecordId::new(Timestamp::from_micros(1), [1; 10]));
    sent.cipher_key = Some(3);
    sent.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    let position = subject.append(sent.clone()).await?;
    subject.log.close().await;
    let refused = subject.log.append(hl7(5)).await;
    ensure!(refused.is_err_and(|why| why.kind() == Kind::Transient), "a closed log accepts");
    ensure!(subject.log.ready(1).is_err(), "a closed log is ready");

    subject.reopen().await;
    ensure!(subject.log.epoch() == epoch, "another life");
    let records = subject.read(position.stream, position.partition, position.offset, ALL).await?;
    ensure!(records.len() == 1 && *records[0].envelope == sent, "not what was appended");
    let next = subject.append(hl7(5)).await?;
    ensure!(next.offset == position.offset + 1, "offsets do not go on");
    ensure!(subject.elsewhere().await.epoch() != epoch, "another log has the same epoch");
    Ok(())
}

pub async fn each_record_knows_when_it_was_durable(subject: &mut Subject) -> Outcome {
    let mut positions = Vec::new();
    for _ in 0..3 {
        positions.push(subject.append(hl7(1)).await?);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let partition = positions[0].partition;
    let read = async |subject: &Subject| {
        let records = subject.read(Stream::Hl7In, partition, 0, ALL).await?;
        Ok::<_, LogError>(records.iter().map(|r| r.durable).collect::<Vec<_>>())
    };
    let before = read(subject).await?;
    ensure!(before.len() == 3 && before.iter().all(Option::is_some), "{before:?}");
    ensure!(before.is_sorted() && before[0] < before[2], "{before:?}");
    subject.reopen().await;
    ensure!(read(subject).await? == before, "another time after reopening");
    Ok(())
}

pub async fn appending_wakes_who_waits(subject: &mut Subject) -> Outcome {
    let partition = partition_of(key(1), subject.log.partitions(Stream::Hl7In));
    // Whoever waits has read to the end.
    ensure!(subject.read(Stream::Hl7In, partition, 0, ALL).await?.is_empty(), "a log that is not new");
    let mut writers = vec![subject.log.clone()];
    writers.extend(subject.other_process().await);
    for writer in writers {
        let mut appended = subject.log.appended();
        appended.mark_unchanged();
        let waiting = tokio::spawn(async move { appended.changed().await });
        let position = writer.append(hl7(1)).await?;
        tokio::time::timeout(Duration::from_secs(5), waiting).await???;
        let records = subject.read(Stream::Hl7In, partition, position.offset, ALL).await?;
        ensure!(records.len() == 1, "woken, and nothing there");
    }
    Ok(())
}

pub async fn a_large_record_is_kept_and_a_larger_one_refused_beside_whole_neighbours(
    subject: &mut Subject,
) -> Outcome {
    let large = vec![0xa5; 16 << 20];
    let (before, kept, refused, after) = tokio::join!(
        subject.append(hl7(1)),
        subject.append(envelope(Stream::Hl7In, 1, large.clone())),
        subject.append(envelope(Stream::Hl7In, 1, vec![0; limits::LOG_RECORD_BYTES_MAX])),
        subject.append(hl7(1)),
    );
    ensure!(matches!(refused, Err(LogError::TooLarge { .. })), "{refused:?}");
    let ready = subject.log.ready(limits::LOG_RECORD_BYTES_MAX + 1);
    ensure!(matches!(ready, Err(LogError::TooLarge { .. })), "{ready:?}");
    let kept = kept?;
    ensure!((before?.offset, kept.offset, after?.offset) == (0, 1, 2), "not in order");
    let mut read = Vec::new();
    while read.len() < 3 {
        let more = subject.read(Stream::Hl7In, kept.partition, read.len() as u64, ALL).await?;
        ensure!(!more.is_empty(), "{} of 3", read.len());
        read.extend(more);
    }
    ensure!(read.len() == 3 && read[1].envelope.body == large, "not what was appended");
    Ok(())
}

pub async fn a_body_that_is_not_its_digest_is_refused(subject: &mut Subject) -> Outcome {
    let mut wrong = hl7(1);
    wrong.digest = Digest::of(b"another");
    ensure!(subject.append(wrong).await.is_err(), "a body that nobody could read back");
    ensure!(subject.append(hl7(1)).await?.offset == 0, "it was kept");
    Ok(())
}

pub async fn a_record_of_a_newer_program_is_not_taken_for_damage(subject: &mut Subject) -> Outcome {
    let position = subject.append(Envelope { v: 9, ..hl7(1) }).await?;
    for read in [
        subject.log.read(Stream::Hl7In, position.partition, 0, ALL).await.map(drop),
        subject.log.get(position).await.map(drop),
    ] {
        let Err(LogError::Newer { position: named, version: 9 }) = read else {
            return Err(format!("{read:?}").into());
        };
        ensure!(named == position, "{named}");
    }
    Ok(())
}

pub async fn what_is_none_of_ours_is_named_and_stepped_over(subject: &mut Subject) -> Outcome {
    let before = subject.append(hl7(2)).await?;
    let planted = subject.plant(before.partition).await;
    let behind = subject.append(hl7(2)).await?;
    let (stream, partition) = (Stream::Hl7In, before.partition);
    ensure!(subject.log.read(stream, partition, 0, ALL).await?.len() == 1, "what stands before it");
    for _ in 0..2 {
        for read in [
            subject.log.read(stream, partition, planted.offset, ALL).await.map(drop),
            subject.log.get(planted).await.map(drop),
        ] {
            let Err(LogError::Corrupt { position, why }) = read else {
                return Err(format!("{read:?}").into());
            };
            ensure!(position == planted, "{position}");
            ensure!(!why.contains("Kim"), "the error shows content: {why}");
        }
    }
    let rest = subject.log.read(stream, partition, behind.offset, ALL).await?;
    ensure!(rest.len() == 1 && rest[0].position == behind, "what stands behind it");
    Ok(())
}

pub async fn one_record_is_looked_up_while_others_are_read(subject: &mut Subject) -> Outcome {
    for n in 0..20 {
        subject.append(envelope(Stream::Hl7In, 1, format!("{n}").into_bytes())).await?;
    }
    let partition = partition_of(key(1), subject.log.partitions(Stream::Hl7In));
    let five = ReadMax { records: 5, bytes: usize::MAX };
    for step in 0..4 {
        let got = subject.read(Stream::Hl7In, partition, step * 5, five).await?;
        let offsets: Vec<u64> = got.iter().map(|r| r.position.offset).collect();
        ensure!(offsets == (step * 5..step * 5 + 5).collect::<Vec<_>>(), "{offsets:?}");
        let offset = 19 - step;
        let one = subject.log.get(Position { stream: Stream::Hl7In, partition, offset }).await?;
        let body = one.map(|one| one.envelope.body.clone());
        ensure!(body.as_deref() == Some(offset.to_string().as_bytes()), "{offset}: {body:?}");
    }
    let behind = Position { stream: Stream::Hl7In, partition, offset: 20 };
    ensure!(subject.log.get(behind).await?.is_none(), "a record behind the end");
    Ok(())
}

/// Some of what waits when it closes is refused; what is acknowledged is there.
pub async fn what_was_acknowledged_while_it_closed_is_there(subject: &mut Subject) -> Outcome {
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let log = subject.log.clone();
            tokio::spawn(async move { log.append(hl7(n % 8)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    subject.log.close().await;
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += u64::from(task.await?.is_ok());
    }
    subject.reopen().await;
    let mut there = 0;
    for partition in 0..subject.log.partitions(Stream::Hl7In) {
        there += bodies(&subject.log, Stream::Hl7In, partition).await.len() as u64;
    }
    ensure!(there >= acknowledged, "{acknowledged} acknowledged, {there} there");
    Ok(())
}

pub async fn two_processes_write_one_log(subject: &mut Subject) -> Outcome {
    let Some(other) = subject.other_process().await else { return Ok(()) };
    ensure!(other.epoch() == subject.log.epoch(), "another life");
    let of = |log: hilum_engines::log::Log, who: &'static str| async move {
        for n in 0..100 {
            log.append(envelope(Stream::Hl7In, 1, format!("{who}{n}").into_bytes())).await?;
        }
        Ok::<_, LogError>(())
    };
    let (mine, theirs) = tokio::join!(of(subject.log.clone(), "a"), of(other.clone(), "b"));
    mine?;
    theirs?;
    let partition = partition_of(key(1), subject.log.partitions(Stream::Hl7In));
    let (one, two) = (
        bodies(&subject.log, Stream::Hl7In, partition).await,
        bodies(&other, Stream::Hl7In, partition).await,
    );
    ensure!(one.len() == 200 && one == two, "{} and {} of 200", one.len(), two.len());
    for who in ["a", "b"] {
        let of_one: Vec<&String> = one.iter().filter(|body| body.starts_with(who)).collect();
        let want: Vec<String> = (0..100).map(|n| format!("{who}{n}")).collect();
        ensure!(of_one.iter().zip(&want).all(|(got, want)| *got == want), "{who} is out of order");
    }
    Ok(())
}
