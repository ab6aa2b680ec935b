//! A real nginx in front of servers: one after the other is asked, whatever the one before has answered.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hilum_launch::{Process, free_port};

use crate::folder;

const READY_MAX: Duration = Duration::from_secs(20);

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    dir: PathBuf,
    port: u16,
    process: Process,
}

impl Nginx {
    /// One before `servers`. Who does not answer is passed over.
    ///
    /// # Panics
    /// When it is not installed or does not start.
    pub fn start(servers: &[SocketAddr]) -> Self {
        let dir = folder("hilum-nginx-").expect("a folder");
        let port = free_port().expect("a port");
        write(&dir, port, servers);
        let process = run(&dir);
        let nginx = Self { dir, port, process };
        nginx.ready();
        nginx
    }

    fn ready(&self) {
        let until = Instant::now() + READY_MAX;
        while TcpStream::connect(self.address()).is_err() {
            assert!(self.process.runs() && Instant::now() < until, "nginx: {}", self.said("error.log"));
            sleep(Duration::from_millis(20));
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Starts anew with other servers, on the same address: whoever is connected is cut off.
    ///
    /// # Panics
    /// When it does not start.
    pub fn go_on_with(&mut self, servers: &[SocketAddr]) {
        self.process.kill();
        write(&self.dir, self.port, servers);
        self.process = run(&self.dir);
        self.ready();
    }

    /// What it wrote into `access.log` or `error.log`.
    pub fn said(&self, log: &str) -> String {
        fs::read_to_string(self.dir.join(log)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    #[allow(clippy::print_stderr)] // whoever reads why a test failed wants it
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = ["error.log", "access.log"].map(|log| self.said(log));
            let ends =
                said.each_ref().map(|said| said.get(said.len().saturating_sub(4_000)..).unwrap_or_default());
            eprintln!("--- nginx said:\n{}", ends.join("\n"));
        }
        self.process.kill();
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn run(dir: &Path) -> Process {
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(dir).arg("-c").arg(dir.join("nginx.conf"));
    let process = Process::start(&command, dir, &dir.join("error.log"));
    process.expect("nginx is installed: run scripts/install-tools")
}

fn write(dir: &Path, port: u16, servers: &[SocketAddr]) {
    let mut upstream = String::new();
    for server in servers {
        writeln!(upstream, "server {server} max_fails=0;").expect("a string takes all");
    }
    // One process: nobody is left behind who kills it.
    let text = format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n access_log access.log;\n client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; \
         uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n client_max_body_size 64m;\n\
         upstream hilum {{\n{upstream}}}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://hilum; proxy_set_header Host $http_host; \
         proxy_connect_timeout 2s; proxy_next_upstream error timeout http_502 http_503 http_504; }} }}\n}}\n"
    );
    fs::write(dir.join("nginx.conf"), text).expect("its configuration is written");
}
