//! A real PostgreSQL: its own data folder, port, socket folder and password.

use std::fs;
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::{WAY_OUT, free_port, process, run, tail};

/// Seconds until a server must answer, recovery after a kill and a busy machine included.
const READY_S_MAX: u64 = 60;

/// Runs the server, waits for the end of its own standard input (our process's end closes it, even a kill), then
/// stops the server and removes what it kept. A server that is only just starting has not said yet which process it is:
/// it is told again until it has ended. The file may still name one that is gone, whose number is somebody else's now.
const WATCHER: &str = r#"trap '' INT
dir=$1; shift
"$@" >>"$dir/server.log" 2>&1 </dev/null &
server=$!
read -r keep || keep=no
while kill -0 "$server" 2>/dev/null; do
    pid=$(head -n 1 "$dir/data/postmaster.pid" 2>/dev/null)
    [ "/proc/$pid/cwd" -ef "$dir/data" ] && kill -INT "$pid" 2>/dev/null
    sleep 0.1
done
wait
[ "$keep" = keep ] || rm -rf "$dir""#;

/// A running PostgreSQL server. Stopped, and its folder removed, when it goes out of scope.
#[derive(Debug)]
pub struct Postgres {
    /// Its programs.
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    password: String,
    settings: Vec<String>,
    watcher: Mutex<Option<Child>>,
}

impl Postgres {
    /// A server in the folder `dir`, which is made, with settings (`fsync=off`) beyond the default ones; its superuser
    /// has `password`. Returns when it answers. PostgreSQL refuses root: then the user `postgres` runs it, who must be
    /// able to reach `dir`.
    ///
    /// # Errors
    /// When PostgreSQL is not installed (with the way out) or does not start (with the end of its log).
    pub fn start(dir: &Path, password: &str, settings: &[&str]) -> io::Result<Self> {
        Self::start_of(&installed()?, dir, password, settings)
    }

    /// The same of another version, whose programs (`initdb`, `postgres`) are in `bin`.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_of(bin: &Path, dir: &Path, password: &str, settings: &[&str]) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let password_file = dir.join("password");
        fs::File::create(&password_file)?.write_all(password.as_bytes())?;
        if is_root()? {
            run(Command::new("chown").args(["-R", "postgres"]).arg(dir))?;
        }
        run(as_server_user(&bin.join("initdb"))?
            .current_dir(dir)
            .arg("-D")
            .arg(dir.join("data"))
            .args(["-U", "postgres", "--auth-local=scram-sha-256", "--auth-host=scram-sha-256"])
            .arg(format!("--pwfile={}", password_file.display()))
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", "--no-sync"]))?;
        let server = Self {
            bin: bin.to_owned(),
            dir: dir.to_owned(),
            port: free_port()?,
            password: password.to_owned(),
            settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
            watcher: Mutex::new(None),
        };
        server.boot()?;
        Ok(server)
    }

    /// A standby of this server in the folder `dir`, which is made; this server knows it as `name`. Returns when it answers.
    ///
    /// # Errors
    /// As [`Postgres::start`], and when this server does not let itself be copied.
    pub fn standby(&self, dir: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        if is_root()? {
            run(Command::new("chown").arg("postgres").arg(dir))?;
        }
        let from = format!("host=127.0.0.1 port={} user=postgres application_name={name}", self.port);
        run(as_server_user(&self.bin.join("pg_basebackup"))?
            .current_dir(dir)
            .env("PGPASSWORD", &self.password)
            .arg("-D")
            .arg(dir.join("data"))
            .args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "-d", &from]))?;
        let standby = Self {
            bin: self.bin.clone(),
            dir: dir.to_owned(),
            port: free_port()?,
            password: self.password.clone(),
            settings: self.settings.clone(),
            watcher: Mutex::new(None),
        };
        standby.boot()?;
        Ok(standby)
    }

    /// Starts the server on its folder and port, and waits until it answers. After a kill it may refuse for some
    /// seconds, until its old processes are gone: asked again.
    fn boot(&self) -> io::Result<()> {
        let until = Instant::now() + Duration::from_secs(READY_S_MAX);
        // Of whatever version: it only asks whether somebody answers.
        let asks = installed()?;
        loop {
            let mut watcher = self.watched()?;
            let ready = self.wait_ready(until, &asks);
            match ready {
                Ok(true) => {
                    *self.watcher() = Some(watcher);
                    return Ok(());
                }
                Ok(false) if Instant::now() < until => {
                    stop(&mut watcher, "keep");
                    sleep(Duration::from_millis(300));
                }
                Ok(false) | Err(_) => {
                    let log = fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
                    stop(&mut watcher, "");
                    return Err(io::Error::other(format!("postgresql does not start:\n{}", tail(&log))));
                }
            }
        }
    }

    /// The server, with who watches it.
    fn watched(&self) -> io::Result<Child> {
        let server = as_server_user(&self.bin.join("postgres"))?;
        let mut watcher = Command::new("sh");
        watcher.args(["-c", WATCHER, "watcher"]).arg(&self.dir).arg(server.get_program());
        watcher
            .args(server.get_args())
            .arg("-D")
            .arg(self.dir.join("data"))
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={}", self.port)])
            .args(["-c", &format!("unix_socket_directories={}", self.dir.display())])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=64MB"])
            .args(["-c", "autovacuum_naptime=5s", "-c", "log_min_messages=warning"]);
        for setting in &self.settings {
            watcher.args(["-c", setting]);
        }
        watcher
            .current_dir(&self.dir)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    }

    /// Waits for this server (not another on its port) to say that it is ready; false when it gave up starting.
    fn wait_ready(&self, until: Instant, asks: &Path) -> io::Result<bool> {
        let begin = Instant::now();
        while Instant::now() < until {
            let pid_file = fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = pid_file.lines().map(str::trim).collect();
            let alive = lines.first().is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists());
            if alive && lines.get(7) == Some(&"ready") && TcpStream::connect(("127.0.0.1", self.port)).is_ok()
            {
                let answers = Command::new(asks.join("pg_isready"))
                    .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                    .status()?;
                if answers.success() {
                    return Ok(true);
                }
            }
            if !alive && begin.elapsed() > Duration::from_secs(3) {
                return Ok(false);
            }
            sleep(Duration::from_millis(20));
        }
        Ok(false)
    }

    /// The url of its database `postgres`, as its superuser.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port (a proxy in between).
    pub fn url_at(&self, port: u16) -> String {
        format!("postgresql://postgres:{}@127.0.0.1:{port}/postgres", self.password)
    }

    /// Its folder; what it keeps is in `data`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its first process; `None` when it does not run.
    pub fn pid(&self) -> Option<u32> {
        let pid = self.first_process()?.parse().ok()?;
        process::runs(pid).then_some(pid)
    }

    /// Processor time that the server's processes have used so far, in milliseconds (to 10 ms).
    pub fn cpu_ms(&self) -> u64 {
        let pid = self.first_process().unwrap_or_default();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let of_children: u64 = children.split_whitespace().map(|child| ticks(child, 2)).sum();
        // The server itself, what its ended children used, and what its living ones use.
        (ticks(&pid, 4) + of_children) * 10
    }

    /// Kills the server with SIGKILL, all its processes: what a crash of PostgreSQL is.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self) -> io::Result<()> {
        self.signal("-9")?;
        if let Some(mut watcher) = self.watcher().take() {
            stop(&mut watcher, "keep");
        }
        Ok(())
    }

    /// Stops all its processes where they are: connections stand, and nothing answers.
    ///
    /// # Errors
    /// When it is not running.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal("-STOP")
    }

    /// Lets it go on after [`Postgres::freeze`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn thaw(&self) -> io::Result<()> {
        self.signal("-CONT")
    }

    /// Starts it again after its end, on the same folder and port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart(&self) -> io::Result<()> {
        if let Some(mut watcher) = self.watcher().take() {
            stop(&mut watcher, "keep");
        }
        self.boot()
    }

    fn first_process(&self) -> Option<String> {
        let pid_file = fs::read_to_string(self.dir.join("data/postmaster.pid")).ok()?;
        pid_file.lines().next().map(|pid| pid.trim().to_owned())
    }

    /// Sends a signal to the server and its children.
    fn signal(&self, name: &str) -> io::Result<()> {
        let pid = self.first_process().ok_or_else(|| io::Error::other("postgresql does not run"))?;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        run(Command::new("kill").args([name, &pid]))?;
        if name == "-CONT" {
            // Who started it as another user (`runuser`) stops when it stops, and must go on too.
            drop(Command::new("kill").args([name, &parent(&pid)]).stderr(Stdio::null()).status());
        }
        for child in children.split_whitespace() {
            // One that ended by itself is as good.
            drop(Command::new("kill").args([name, child]).stderr(Stdio::null()).status());
        }
        Ok(())
    }

    fn watcher(&self) -> MutexGuard<'_, Option<Child>> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut watcher) = self.watcher().take() {
            // One that stands still would not hear that it is to end.
            drop(self.signal("-CONT"));
            stop(&mut watcher, "");
        } else {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

/// Tells a watcher to stop its server, and waits for both.
fn stop(watcher: &mut Child, word: &str) {
    if let Some(mut stdin) = watcher.stdin.take() {
        // A watcher that is gone needs no word.
        drop(stdin.write_all(format!("{word}\n").as_bytes()));
    }
    drop(watcher.wait());
}

/// The newest installed PostgreSQL's programs.
fn installed() -> io::Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten() {
        let version = entry.file_name().to_string_lossy().parse().unwrap_or(0);
        let bin = entry.path().join("bin");
        if bin.join("initdb").exists() {
            found.push((version, bin));
        }
    }
    found.sort();
    found.pop().map(|(_, bin)| bin).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "postgresql is not installed: no /usr/lib/postgresql/*/bin/initdb; install the package \
                 `postgresql`, or {WAY_OUT}"
            ),
        )
    })
}

fn is_root() -> io::Result<bool> {
    Ok(Command::new("id").arg("-u").output()?.stdout.trim_ascii() == b"0")
}

/// A command that runs `program` as somebody whom PostgreSQL accepts: it refuses root.
fn as_server_user(program: &Path) -> io::Result<Command> {
    if is_root()? {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        Ok(command)
    } else {
        Ok(Command::new(program))
    }
}

/// The process that started this one.
fn parent(pid: &str) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind_name.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

/// The first of utime, stime, cutime and cstime of a process, summed, in hundredths of a second.
fn ticks(pid: &str, fields: usize) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in parentheses stands field 3; utime is field 14.
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    behind_name.split_whitespace().skip(11).take(fields).filter_map(|n| n.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The word comes before the server has said which process it is, or while the file still names one that was killed.
    #[test]
    fn who_is_told_to_end_while_they_start_ends() {
        let dir = std::env::temp_dir().join(format!("hilum-launch-{}", std::process::id()));
        let server = Postgres::start(&dir, "secret", &[]).unwrap();
        server.kill().unwrap();
        for _ in 0..3 {
            let mut watcher = server.watched().unwrap();
            let (ended, end) = mpsc::channel();
            thread::spawn(move || {
                stop(&mut watcher, "keep");
                ended.send(()).unwrap_or_default();
            });
            let is_over = end.recv_timeout(Duration::from_secs(READY_S_MAX)).is_ok();
            // One that was not heard must not outlive the test.
            drop(server.signal("-9"));
            assert!(is_over, "the server goes on, and so does who watches it");
        }
    }
}
