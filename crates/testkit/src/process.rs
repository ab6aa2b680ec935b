//! Servers of tests as processes of ours: they end when the test's process ends, however it ended.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::postgres::run;

/// Runs one server and waits for the end of its own standard input (our process's end closes it, even a kill), then
/// kills the server: what it has acknowledged, it has. A folder is removed when nobody will start it again.
const WATCHER: &str = r#"trap '' INT
log=$1; dir=$2; shift 2
"$@" >>"$log" 2>&1 </dev/null &
pid=$!
echo "$pid"
read -r word || word=gone
kill -9 "$pid" 2>/dev/null
wait
[ "$word" = gone ] && rm -rf "$dir"
exit 0"#;

/// A server that runs under a watcher.
#[derive(Debug)]
pub(crate) struct Server {
    watcher: Child,
    pid: String,
}

impl Server {
    /// Starts `command` in `dir`, what it says into `log`; `dir` goes when our process is gone.
    pub(crate) fn start(command: &Command, dir: &Path, log: &Path) -> io::Result<Self> {
        let environment = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .args([log.as_os_str(), dir.as_os_str(), command.get_program()])
            .args(command.get_args().collect::<Vec<&OsStr>>())
            .envs(environment)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pid = String::new();
        if let Some(stdout) = watcher.stdout.as_mut() {
            io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut pid)?;
        }
        Ok(Self { watcher, pid: pid.trim().to_owned() })
    }

    /// Whether it has not ended by itself.
    pub(crate) fn runs(&self) -> bool {
        Path::new("/proc").join(&self.pid).exists()
    }

    /// Sends it a signal (`-STOP`).
    pub(crate) fn signal(&self, signal: &str) -> io::Result<()> {
        run(Command::new("kill").args([signal, &self.pid]))
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some(mut stdin) = self.watcher.stdin.take() {
            // A watcher that is gone needs no word.
            drop(stdin.write_all(b"kill\n"));
        }
        drop(self.watcher.wait());
    }
}

/// The folder below the cache folder into which `scripts/install-tools` has put a server.
#[allow(clippy::disallowed_methods)] // the same folder as the script's
pub(crate) fn installed(place: &str) -> io::Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .unwrap_or_default();
    let place = cache.join(place);
    if place.join("whole").exists() {
        return Ok(place);
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        format!("not installed: no {}; run scripts/install-tools (make tools)", place.display()),
    ))
}
