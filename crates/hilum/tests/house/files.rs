//! What stands in a folder of files beside files.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::Value;
use tempfile::tempdir;

use crate::server::{Server, Start, a01, run};

#[test]
fn what_is_no_file_is_named_and_holds_up_no_other() {
    let folder = tempdir().unwrap();
    let files = folder.path().join("files");
    let inner = files.join("inner");
    std::fs::create_dir_all(&inner).unwrap();
    let place = |name: &str| files.join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(place("1-pipe.hl7")).status().unwrap().success());
    let _socket = UnixListener::bind(place("2-socket.hl7")).unwrap();
    symlink("/dev/zero", place("3-device.hl7")).unwrap();
    symlink(&files, place("4-loop.hl7")).unwrap();
    symlink(&files, inner.join("up")).unwrap();
    symlink(place("5-itself.hl7"), place("5-itself.hl7")).unwrap();
    symlink(place("nothing.hl7"), place("6-nowhere.hl7")).unwrap();
    // A folder by two names is read once, and is no mistake; what is not meant for us is not looked at.
    symlink(&inner, place("z-inner")).unwrap();
    let _other = UnixListener::bind(place("agent.sock")).unwrap();
    std::fs::write(place("8-good.hl7"), a01("GOOD")).unwrap();
    std::fs::write(inner.join("deep.hl7"), a01("DEEP")).unwrap();
    let server = Server::start(&folder, &Start::default());
    let data = server.data.to_str().unwrap().to_owned();
    let out = run(&["import", "hl7", files.to_str().unwrap(), "--json", "--data", &data]);
    let (said, error) = (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap());
    assert_eq!(out.status.code(), Some(1), "{said} {error}");
    let done: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&done["messages"], &done["files"]), (&2.into(), &2.into()), "{done}");
    assert_eq!(done["passedOver"], 7, "{done}");
    let named = [
        ("1-pipe.hl7", "a named pipe"),
        ("2-socket.hl7", "a socket"),
        ("3-device.hl7", "a device"),
        ("4-loop.hl7", "a link to a folder that it stands in"),
        ("inner/up", "a link to a folder that it stands in"),
        ("5-itself.hl7", "a link that leads in a circle"),
        ("6-nowhere.hl7", "a link that leads nowhere"),
    ];
    for (name, what) in named {
        assert!(error.contains(&format!("{}: {what}", place(name))), "{name}: {error}");
    }
    for silent in ["good", "deep", "z-inner", "agent.sock"] {
        assert!(!error.contains(silent), "{silent}: {error}");
    }
    let out = run(&["import", "hl7", &place("1-pipe.hl7"), "--data", &data]);
    assert_eq!(out.status.code(), Some(1), "named itself");
    assert!(String::from_utf8(out.stderr).unwrap().contains("a named pipe"));
}
