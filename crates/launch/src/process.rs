//! A program as a process of ours that ends when we end, however we ended.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::run;

/// Runs one program and waits for the end of its own standard input (our process's end closes it, even a kill), then
/// kills the program: what it has acknowledged, it has. A folder is removed when nobody will start it again.
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

/// A program that runs under a watcher, in a process group of its own: Ctrl-C in our terminal reaches us alone.
#[derive(Debug)]
pub struct Process {
    watcher: Child,
    pid: u32,
}

impl Process {
    /// Starts `command` in `dir`, what it says into `log`; `dir` goes when our process is gone.
    ///
    /// # Errors
    /// When no process can be started.
    pub fn start(command: &Command, dir: &Path, log: &Path) -> io::Result<Self> {
        let mut shell = Command::new("sh");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let mut watcher = shell
            .args(["-c", WATCHER, "watcher"])
            .args([log.as_os_str(), dir.as_os_str(), command.get_program()])
            .args(command.get_args().collect::<Vec<&OsStr>>())
            .current_dir(dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut pid = String::new();
        if let Some(stdout) = watcher.stdout.as_mut() {
            io::BufRead::read_line(&mut io::BufReader::new(stdout), &mut pid)?;
        }
        let pid = pid.trim().parse().map_err(|_| io::Error::other("the watcher names no process"))?;
        Ok(Self { watcher, pid })
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended by itself.
    pub fn runs(&self) -> bool {
        runs(self.pid)
    }

    /// Sends it a signal (`-STOP`).
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        run(Command::new("kill").args([signal, &self.pid.to_string()]))
    }

    /// Asks it to end (SIGTERM), and kills it when it has not by then.
    pub fn stop(&mut self, patience: Duration) {
        let until = Instant::now() + patience;
        if self.signal("-TERM").is_ok() {
            while self.runs() && Instant::now() < until {
                sleep(Duration::from_millis(20));
            }
        }
        self.kill();
    }

    /// Kills it (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut stdin) = self.watcher.stdin.take() {
            // A watcher that is gone needs no word.
            drop(stdin.write_all(b"kill\n"));
        }
        drop(self.watcher.wait());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process has not ended; one that nobody has waited for yet has.
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in parentheses.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
