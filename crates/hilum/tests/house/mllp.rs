//! The MLLP door: order, splits, faults, bounds.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tempfile::tempdir;

use crate::server::{Mllp, Server, Start, a01, field, frame, records, wait};

#[test]
fn pipelined_frames_are_all_answered_in_their_order() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    let count = 1_000;
    let all: Vec<u8> = (0..count).flat_map(|n| frame(a01(&format!("P{n}")).as_bytes())).collect();
    let mut writer = mllp.stream.try_clone().unwrap();
    let write = std::thread::spawn(move || writer.write_all(&all).unwrap());
    for n in 0..count {
        let ack = mllp.answer();
        assert_eq!((field(&ack, "MSA", 1), field(&ack, "MSA", 2)), ("AA".to_owned(), format!("P{n}")));
    }
    write.join().unwrap();
    let data = server.data.clone();
    server.stop();
    let kept = records(&data);
    assert_eq!(kept.len(), count);
    assert!(kept.iter().any(|body| body == a01("P999").as_bytes()), "byte for byte");
}

#[test]
fn frames_may_be_split_anywhere() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    let two = [frame(a01("S1").as_bytes()), frame(a01("S2").as_bytes())].concat();
    for piece in two.chunks(7) {
        mllp.write(piece);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(field(&mllp.answer(), "MSA", 2), "S1");
    assert_eq!(field(&mllp.answer(), "MSA", 2), "S2");
    // One message in a thousand writes.
    for byte in frame(a01(&"x".repeat(900)).as_bytes()) {
        mllp.write(&[byte]);
    }
    assert_eq!(field(&mllp.answer(), "MSA", 2), "x".repeat(900));
}

#[test]
fn answers_are_as_msh_15_and_16_ask() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    let enhanced = |accept: &str, application: &str, id: &str| {
        a01(id).replacen("|P|2.5\r", &format!("|P|2.5|||{accept}|{application}\r"), 1)
    };
    assert_eq!(field(&mllp.ask(&enhanced("AL", "NE", "E1")), "MSA", 1), "CA");
    // Asks for nothing, so the next answer is the next message's.
    mllp.send(&enhanced("NE", "NE", "E2"));
    mllp.send(&enhanced("ER", "AL", "E3"));
    let ack = mllp.ask(&a01("E4"));
    assert_eq!((field(&ack, "MSA", 1).as_str(), field(&ack, "MSA", 2).as_str()), ("AA", "E4"));
    let data = server.data.clone();
    server.stop();
    assert_eq!(records(&data).len(), 4, "what asks for no answer is kept all the same");
}

#[test]
fn what_is_no_message_is_refused_and_kept() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    let cases = [
        ("no MSH", "PID|1||7^^^A^MR\r", "AR", "100"),
        ("empty", "", "AR", "100"),
        ("wrong MSH-2", "MSH|AAAA|X|Y|||1||ADT^A01|1|P|2.5\r", "AR", "102"),
        ("no MSH-9", "MSH|^~\\&|X|Y|||1|||N9|P|2.5\r", "AR", "101"),
        ("no MSH-10", "MSH|^~\\&|X|Y|||1||ADT^A01||P|2.5\r", "AR", "101"),
    ];
    for (why, body, code, error) in cases {
        let ack = mllp.ask(body);
        assert_eq!(field(&ack, "MSA", 1), code, "{why}: {ack}");
        assert!(field(&ack, "ERR", 3).starts_with(error), "{why}: {ack}");
    }
    assert_eq!(field(&mllp.ask(&a01("OK")), "MSA", 1), "AA", "the connection goes on");
    let data = server.data.clone();
    server.stop();
    let kept = records(&data);
    assert_eq!(kept.len(), cases.len() + 1);
    for (why, body, ..) in cases {
        assert!(kept.iter().any(|kept| kept == body.as_bytes()), "{why}");
    }
}

#[test]
fn a_batch_in_a_frame_is_each_of_its_messages() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    mllp.send(&format!("FHS|^~\\&|A\rBHS|^~\\&|A\r{}{}BTS|2\rFTS|1\r", a01("B1"), a01("B2")));
    assert_eq!(field(&mllp.answer(), "MSA", 2), "B1");
    assert_eq!(field(&mllp.answer(), "MSA", 2), "B2");
}

#[test]
fn stray_bytes_are_borne_up_to_a_bound() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let mut mllp = server.connect();
    mllp.write(b"hello\r\n\x1c\r");
    assert_eq!(field(&mllp.ask(&a01("T1")), "MSA", 2), "T1");
    mllp.write(b"\x1c\r\r\n");
    assert_eq!(field(&mllp.ask(&a01("T2").replace("ICU", "I\x0bC\x1cU")), "MSA", 2), "T2", "marks inside");
    let mut other = server.connect();
    // What is sent after the close may fail.
    for _ in 0..64 {
        if other.stream.write_all(&[b'G'; 4_096]).is_err() {
            break;
        }
    }
    assert_eq!(other.try_answer(), None, "closed");
    assert_eq!(field(&mllp.ask(&a01("T3")), "MSA", 2), "T3", "the others go on");
}

#[test]
fn a_frame_of_a_gigabyte_is_refused_in_bounded_memory() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    let before = server.resident_bytes();
    let mut mllp = server.connect();
    mllp.write(b"\x0bMSH|^~\\&|X|Y|||1||ADT^A01|BIG|P|2.5\rOBX|1|TX|||");
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0_u64;
    let mut peak = 0;
    while sent < 1 << 30 {
        if mllp.stream.write_all(&piece).is_err() {
            break;
        }
        sent += piece.len() as u64;
        peak = peak.max(server.resident_bytes());
    }
    assert!(sent < 1 << 30, "it was closed, not read to the end");
    let grown = peak.max(server.resident_bytes()).saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB for one frame", grown >> 20);
    assert_eq!(field(&server.connect().ask(&a01("AFTER")), "MSA", 1), "AA");
    let data = server.data.clone();
    server.stop();
    assert_eq!(records(&data).len(), 1, "nothing of the large one");
}

#[test]
fn a_frame_that_is_too_large_is_answered_when_its_header_can_be_read() {
    let folder = tempdir().unwrap();
    let config = "[mllp]\nmessage_bytes_max = 65536\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let mut mllp = server.connect();
    let ack = mllp.ask(&a01("LARGE").replace("ICU", &"x".repeat(70_000)));
    assert_eq!((field(&ack, "MSA", 1).as_str(), field(&ack, "MSA", 2).as_str()), ("AR", "LARGE"));
    assert_eq!(mllp.try_answer(), None, "and then closed");
}

#[test]
fn slow_and_silent_peers_are_closed() {
    let folder = tempdir().unwrap();
    let config = "[mllp]\nread_s = 1\nidle_s = 2\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    // A byte now and then does not buy time.
    let mut slow = server.connect();
    let begun = Instant::now();
    slow.write(b"\x0bMSH|");
    let closed = wait("close of a slow frame", 10, || {
        std::thread::sleep(Duration::from_millis(100));
        slow.stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let gone = match slow.stream.read(&mut [0; 16]) {
            Ok(0) => true,
            Ok(_) => panic!("an answer to half a frame"),
            Err(why) => !matches!(why.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        };
        (gone || slow.stream.write_all(b"x").is_err()).then(|| begun.elapsed())
    });
    assert!(closed < Duration::from_secs(4), "{closed:?}");
    let mut idle = server.connect();
    assert_eq!(field(&idle.ask(&a01("I1")), "MSA", 1), "AA");
    assert_eq!(idle.try_answer(), None, "idle for 2 s");
    let data = server.data.clone();
    server.stop();
    assert_eq!(records(&data).len(), 1, "half a frame is no message");
}

#[test]
fn beyond_the_cap_connections_wait() {
    let folder = tempdir().unwrap();
    let config = "[mllp]\nconnections_max = 2\n";
    let server = Server::start(&folder, &Start { config, ..Start::default() });
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!(field(&first.ask(&a01("C1")), "MSA", 1), "AA");
    assert_eq!(field(&second.ask(&a01("C2")), "MSA", 1), "AA");
    let mut third = server.connect();
    third.send(&a01("C3"));
    third.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(third.stream.read(&mut [0; 1]).is_err(), "not served yet");
    drop(first);
    third.stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(field(&third.answer(), "MSA", 2), "C3", "served when one has gone");
}

#[test]
fn thousands_of_idle_connections_are_cheap() {
    let folder = tempdir().unwrap();
    let server = Server::start(&folder, &Start::default());
    server.connect().ask(&a01("WARM"));
    let before = server.resident_bytes();
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..2_000 {
        match TcpStream::connect(server.mllp) {
            Ok(stream) => idle.push(stream),
            Err(why) => panic!("connection {}: {why}", idle.len()),
        }
    }
    let mut last = Mllp::new(server.mllp);
    assert_eq!(field(&last.ask(&a01("LAST")), "MSA", 1), "AA");
    let each = server.resident_bytes().saturating_sub(before) / 2_000;
    assert!(each < 12 << 10, "{each} bytes for one idle connection");
}
