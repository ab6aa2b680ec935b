//! A running `hilum serve`, and how to talk to it.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Where nobody listens: the MLLP door of a process that has none.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
const VT: u8 = 0x0B;
const FS: u8 = 0x1C;

/// The binary, with nothing of our own environment that it might read.
pub fn hilum() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hilum"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HILUM_") {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Output {
    hilum().args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// Makes an account in a data folder, with a password that is long enough.
pub fn add_account(data: &str, name: &str, role: &str) {
    let mut add = hilum()
        .args(["users", "add", name, "--role", role, "--data", data])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    add.stdin.take().unwrap().write_all(b"a long enough password\n").unwrap();
    assert!(add.wait().unwrap().success());
}

/// How a server is started.
#[derive(Default)]
pub struct Start<'a> {
    pub config: &'a str,
    pub environment: &'a [(&'a str, &'a str)],
    pub arguments: &'a [&'a str],
    /// Largest file that it may write; the signal that goes with it is ignored.
    pub file_kib_max: Option<u32>,
}

/// A server on ports of its own. Killed when it goes out of scope.
pub struct Server {
    child: Child,
    pub data: PathBuf,
    pub mllp: SocketAddr,
    pub http: Option<SocketAddr>,
    pub stderr: PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- server said:\n{}", self.said());
        }
    }
}

/// Least seconds that anything is waited for: what takes one here may take twenty where much else runs.
const PATIENCE_S: u64 = 60;

/// Waits until `done` gives something, for `seconds` where that is more than anything is waited for.
pub fn wait<T>(what: &str, seconds: u64, mut done: impl FnMut() -> Option<T>) -> T {
    let seconds = seconds.max(PATIENCE_S);
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Server {
    /// Starts one in `folder/data` and waits until its doors accept.
    pub fn start(folder: &TempDir, start: &Start<'_>) -> Self {
        Self::try_start(folder, start).unwrap_or_else(|| {
            let said = std::fs::read_to_string(folder.path().join("stderr")).unwrap_or_default();
            panic!("the server does not start: {said}")
        })
    }

    /// The same; `None` when it ended before its doors accepted.
    pub fn try_start(folder: &TempDir, start: &Start<'_>) -> Option<Self> {
        let data = folder.path().join("data");
        let ready = folder.path().join("ready");
        let config = folder.path().join("hilum.toml");
        let stderr = folder.path().join("stderr");
        std::fs::remove_file(&ready).ok();
        std::fs::write(&config, start.config).unwrap();
        let said = std::fs::File::options().create(true).append(true).open(&stderr).unwrap();
        let mut command = match start.file_kib_max {
            None => hilum(),
            Some(kib) => {
                let limited = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" \"$@\"");
                let mut command = Command::new("bash");
                command.args(["-c", &limited, env!("CARGO_BIN_EXE_hilum")]);
                command
            }
        };
        let mut child = command
            .args(["serve", "--http", "127.0.0.1:0", "--mllp", "127.0.0.1:0", "--data"])
            .arg(&data)
            .arg("--config")
            .arg(&config)
            .arg("--ready-file")
            .arg(&ready)
            .args(start.arguments)
            .envs(start.environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        let text = wait("ready file", 30, || match std::fs::read_to_string(&ready) {
            Ok(text) => Some(Some(text)),
            Err(_) => child.try_wait().unwrap().map(|_| None),
        });
        let Some(text) = text else {
            child.wait().ok();
            return None;
        };
        let ready: Value = serde_json::from_str(&text).unwrap();
        let address = |key: &str| ready[key].as_str().map(|text| text.parse().unwrap());
        Some(Self { child, data, mllp: address("mllp").unwrap_or(NOWHERE), http: address("http"), stderr })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end.
    pub fn ended(&mut self, seconds: u64) -> ExitStatus {
        let child = &mut self.child;
        wait("end of the server", seconds, || child.try_wait().unwrap())
    }

    /// SIGTERM, and its good end.
    pub fn stop(mut self) {
        self.signal("TERM");
        let status = self.ended(30);
        assert!(status.success(), "{status}: {}", self.said());
    }

    /// A key of this server.
    pub fn key(&self, name: &str, role: &str) -> String {
        let out = run(&["keys", "add", name, "--role", role, "--data", self.data.to_str().unwrap()]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().lines().last().unwrap().to_owned()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    pub fn connect(&self) -> Mllp {
        Mllp::new(self.mllp)
    }
}

/// The bytes of all records of a data folder that no process holds: `(partition, offset, body)`.
pub fn records(data: &Path) -> Vec<Vec<u8>> {
    use hilum_core::Stream;
    use hilum_engines::log::embedded::{Embedded, Options};
    use hilum_engines::log::{Log, ReadMax};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = hilum_core::Clock::fixed(hilum_core::Timestamp::from_micros(0));
        let entropy = hilum_core::Entropy::seeded(1);
        let log = Log::Embedded(
            Embedded::open(&data.join("log.sqlite"), clock, entropy, Options::default()).unwrap(),
        );
        let mut bodies = Vec::new();
        for partition in 0..log.partitions(Stream::Hl7In) {
            loop {
                let from = bodies.iter().filter(|(p, _): &&(u16, Vec<u8>)| *p == partition).count() as u64;
                let max = ReadMax { records: 1_000, bytes: 64 << 20 };
                let read = log.read(Stream::Hl7In, partition, from, max).await.unwrap();
                if read.is_empty() {
                    break;
                }
                bodies.extend(read.iter().map(|record| (partition, record.envelope.body.to_vec())));
            }
        }
        log.close().await;
        bodies.into_iter().map(|(_, body)| body).collect()
    })
}

/// One MLLP connection.
pub struct Mllp {
    pub stream: TcpStream,
    held: Vec<u8>,
}

/// A frame around `body`.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut framed = vec![VT];
    framed.extend_from_slice(body);
    framed.extend_from_slice(&[FS, b'\r']);
    framed
}

impl Mllp {
    pub fn new(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, held: Vec::new() }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends, unless the connection is gone.
    pub fn try_send(&mut self, body: &str) -> bool {
        self.stream.write_all(&frame(body.as_bytes())).is_ok()
    }

    pub fn send(&mut self, body: &str) {
        self.write(&frame(body.as_bytes()));
    }

    /// The next answer; `None` when the connection is closed.
    pub fn try_answer(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.held.windows(2).position(|pair| pair == [FS, b'\r']) {
                let rest = self.held.split_off(end + 2);
                let framed = std::mem::replace(&mut self.held, rest);
                assert_eq!(framed[0], VT, "answers are framed");
                return Some(String::from_utf8(framed[1..end].to_vec()).unwrap());
            }
            let mut chunk = [0; 4_096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.held.extend_from_slice(&chunk[..count]),
                Err(why) if why.kind() == std::io::ErrorKind::ConnectionReset => return None,
                // A child of another test has ended.
                Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
                Err(why) => panic!("no answer: {why}"),
            }
        }
    }

    pub fn answer(&mut self) -> String {
        self.try_answer().expect("an answer, not the end of the connection")
    }

    /// Sends and waits.
    pub fn ask(&mut self, body: &str) -> String {
        self.send(body);
        self.answer()
    }
}

/// A field of an answer: `field(&ack, "MSA", 1)`.
pub fn field(message: &str, segment: &str, at: usize) -> String {
    message
        .split('\r')
        .find(|line| line.starts_with(segment))
        .and_then(|line| line.split('|').nth(at))
        .unwrap_or_default()
        .to_owned()
}

/// An A01 with this control id.
pub fn a01(control_id: &str) -> String {
    format!(
        "MSH|^~\\&|HIS|SEOUL|HILUM|HILUM|20260102030405||ADT^A01^ADT_A01|{control_id}|P|2.5\r\
         EVN||20260102030405\r\
         PID|||0{control_id}^^^SEOUL^MR||홍^길동||19800101|M\r\
         PV1||I|ICU^101^1^SEOUL|||||||||||||||V{control_id}\r"
    )
}

/// An answer over HTTP: status, head, body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One request over a connection of its own.
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "host") {
        write!(head, "host: {address}\r\n").unwrap();
    }
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    if !headers.iter().any(|(name, _)| *name == "content-length") {
        write!(head, "content-length: {}\r\n", body.len()).unwrap();
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that answers before it has read all of a large body may close meanwhile.
    stream.write_all(body).ok();
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw).ok();
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer with a head");
    let head = String::from_utf8(raw[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = raw[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = dechunk(&body);
    }
    Answer { status, head, body }
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let end = raw.windows(2).position(|pair| pair == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap().trim(), 16).unwrap();
        if size == 0 {
            return out;
        }
        out.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = &raw[end + 2 + size + 2..];
    }
}

/// An account that is signed in, as a browser's page sends its requests.
pub struct Session {
    cookie: String,
    csrf: String,
}

impl Session {
    /// Makes the account and signs it in by the form.
    pub fn sign_in(server: &Server, name: &str, role: &str) -> Self {
        add_account(server.data.to_str().unwrap(), name, role);
        let form = ("content-type", "application/x-www-form-urlencoded");
        let body = format!("name={name}&password=a+long+enough+password");
        let answer = request(server.http.unwrap(), "POST", "/sign-in", &[form], body.as_bytes());
        let cookie =
            answer.header("set-cookie").unwrap_or_else(|| panic!("not signed in: {}", answer.text()));
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let mut session = Self { cookie, csrf: String::new() };
        let page = session.send(server, "GET", "/password", "").text();
        let (_, rest) = page.split_once("name=\"_csrf\" value=\"").expect("a form of ours");
        rest.split('"').next().unwrap().clone_into(&mut session.csrf);
        session
    }

    /// One request of a page of ours; `form` is its body.
    pub fn send(&self, server: &Server, method: &str, path: &str, form: &str) -> Answer {
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("x-csrf-token", self.csrf.as_str()),
            ("sec-fetch-site", "same-origin"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-forwarded-for", "192.0.2.7"),
            ("accept", "text/html"),
        ];
        request(server.http.unwrap(), method, path, &headers, form.as_bytes())
    }
}
