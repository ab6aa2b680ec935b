//! Real servers that this process starts: Kafka, PostgreSQL, or any program. Each stands in a folder of its own, on free
//! ports of 127.0.0.1, and is gone with its folder when this process is gone, however it ended. For tests, and for the
//! commands that show or measure a house of many processes; no part of serving.

pub mod kafka;
pub mod postgres;
pub mod process;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub use kafka::Kafka;
pub use postgres::Postgres;
pub use process::Process;

/// What to do where a server is not installed.
const WAY_OUT: &str = "run scripts/install-tools (make tools)";
/// Lines of a server's log that go into an error.
const LOG_LINES_SHOWN: usize = 30;

/// A port that nobody listens on now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    for _ in 0..100 {
        // What the system gives out itself, to any connection of anybody, begins at 32768: a port from there may be taken
        // before the server has it. Its choice only says where to look below.
        let given = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let port = 10_000 + given % 22_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no free port between 10000 and 32000"))
}

/// The folder below `cache` (the user's cache folder) into which `scripts/install-tools` has put a server.
///
/// # Errors
/// When it is not there: with the way out.
pub fn installed(cache: &Path, name: &str) -> io::Result<PathBuf> {
    let place = cache.join("hilum/tools").join(name);
    if place.join("whole").exists() {
        return Ok(place);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("{name} is not installed: no {}; {WAY_OUT}", place.display()),
    ))
}

/// Runs a command to its end.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub fn run(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|why| match why.kind() {
        io::ErrorKind::NotFound => {
            io::Error::new(why.kind(), format!("{program} is not installed: {WAY_OUT}"))
        }
        _ => why,
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))))
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    let (_, last) = lines.split_at(lines.len().saturating_sub(LOG_LINES_SHOWN));
    last.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_is_named_with_the_way_out() {
        let cases = [
            installed(Path::new("/nowhere"), "kafka-0").unwrap_err(),
            run(&mut Command::new("no-such-program-of-hilum")).unwrap_err(),
        ];
        for (error, name) in cases.iter().zip(["kafka-0", "no-such-program-of-hilum"]) {
            let said = error.to_string();
            assert!(said.contains(name) && said.contains("make tools"), "{said}");
        }
    }
}
