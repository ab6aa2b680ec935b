//! A real Keycloak for tests, with one realm that issues tokens to clients: in a folder of its own on free ports of
//! 127.0.0.1; gone when the test's process is gone, however it ended.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

use hilum_launch::{Process, free_port, installed};
use serde_json::{Value, json};

use crate::kafka::Issuer;
use crate::{cache, folder};

/// Seconds until it must be ready: half a minute alone, more beside brokers on a busy machine.
const READY_S_MAX: u64 = 300;

/// Where `scripts/install-tools` puts it.
const PLACE: &str = "keycloak-26.7.3";

const REALM: &str = "hospital";

/// Whom a broker's tokens are for.
pub const AUDIENCE: &str = "kafka";

/// Somebody who may have tokens for themselves.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Who it is.
    pub id: &'a str,
    /// What proves it.
    pub secret: &'a str,
    /// Whom its tokens are for.
    pub audience: &'a str,
}

/// A running Keycloak.
#[derive(Debug)]
pub struct Keycloak {
    dir: PathBuf,
    port: u16,
    running: Mutex<Option<Process>>,
}

impl Keycloak {
    /// One with `clients`, each of which gets tokens for itself that live for `token_s` seconds.
    ///
    /// # Panics
    /// When it is not installed (the message names the command) or does not start (with its log).
    pub fn start(clients: &[Client<'_>], token_s: u32) -> Self {
        match Self::try_start(clients, token_s) {
            Ok(server) => server,
            Err(error) => panic!("keycloak for tests: {error}"),
        }
    }

    fn try_start(clients: &[Client<'_>], token_s: u32) -> io::Result<Self> {
        let installed = installed(&cache(), PLACE)?.join("home");
        let dir = folder("hilum-keycloak-")?;
        for part in ["lib", "conf", "providers", "themes"] {
            symlink(installed.join(part), dir.join(part))?;
        }
        fs::create_dir_all(dir.join("data/import"))?;
        fs::write(dir.join("data/import/realm.json"), realm(clients, token_s).to_string())?;
        let (port, management) = (free_port()?, free_port()?);
        let log = dir.join("server.log");
        let server = Process::start(&java(&installed, &dir, port, management), &dir, &log)?;
        let keycloak = Self { dir, port, running: Mutex::new(Some(server)) };
        let until = Instant::now() + Duration::from_secs(READY_S_MAX);
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            // Either alone is early.
            if said.contains("Listening on:") && is_ready(management) {
                return Ok(keycloak);
            }
            let runs = keycloak.running.lock().ok().is_some_and(|it| it.as_ref().is_some_and(Process::runs));
            if Instant::now() > until || !runs {
                return Err(io::Error::other(format!("it does not start:\n{said}")));
            }
            sleep(Duration::from_millis(100));
        }
    }

    /// Where clients ask for tokens.
    pub fn token_url(&self) -> String {
        format!("{}/protocol/openid-connect/token", self.realm())
    }

    /// Whose tokens these are, as a broker is told.
    pub fn issuer(&self) -> Issuer {
        Issuer {
            name: self.realm(),
            jwks: format!("{}/protocol/openid-connect/certs", self.realm()),
            audience: AUDIENCE.to_owned(),
        }
    }

    fn realm(&self) -> String {
        format!("http://127.0.0.1:{}/realms/{REALM}", self.port)
    }

    /// Stops it in its tracks: it holds its sockets and answers nothing.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.lock().expect("whole");
        running.as_ref().expect("a running server").signal(signal).expect("signalled");
    }
}

impl Drop for Keycloak {
    fn drop(&mut self) {
        if let Some(mut server) = self.running.lock().ok().and_then(|mut running| running.take()) {
            server.kill();
        }
        // What is left is in the folder of temporary files.
        drop(fs::remove_dir_all(&self.dir));
    }
}

fn realm(clients: &[Client<'_>], token_s: u32) -> Value {
    let client = |client: &Client<'_>| {
        json!({
            "clientId": client.id,
            "secret": client.secret,
            "enabled": true,
            "publicClient": false,
            "serviceAccountsEnabled": true,
            "standardFlowEnabled": false,
            "protocolMappers": [{
                "name": "for the brokers",
                "protocol": "openid-connect",
                "protocolMapper": "oidc-audience-mapper",
                "config": { "included.custom.audience": client.audience, "access.token.claim": "true" }
            }]
        })
    };
    json!({
        "realm": REALM,
        "enabled": true,
        "accessTokenLifespan": token_s,
        "clients": clients.iter().map(client).collect::<Vec<_>>()
    })
}

/// Java itself: its own script would stay as a parent that nobody ends.
fn java(installed: &Path, home: &Path, port: u16, management: u16) -> Command {
    let mut java = Command::new("java");
    java.env("KC_BOOTSTRAP_ADMIN_USERNAME", "admin").env("KC_BOOTSTRAP_ADMIN_PASSWORD", "admin");
    java.args(["-Xms64m", "-Xmx512m", "-XX:MaxMetaspaceSize=256m", "-XX:+UseSerialGC"]);
    java.arg("-XX:TieredStopAtLevel=1");
    for package in ["util", "util.concurrent", "security"] {
        java.arg(format!("--add-opens=java.base/java.{package}=ALL-UNNAMED"));
    }
    java.arg(
        "-Djava.util.concurrent.ForkJoinPool.common.threadFactory=\
         io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    );
    java.arg("-Djava.util.logging.manager=org.jboss.logmanager.LogManager");
    java.arg("-Dpicocli.disable.closures=true");
    java.arg(format!("-Dkc.home.dir={}", home.display()));
    java.arg("-cp").arg(installed.join("lib/quarkus-run.jar"));
    java.args(["io.quarkus.bootstrap.runner.QuarkusEntryPoint", "start", "--optimized", "--import-realm"]);
    java.args(["--cache=local", "--http-enabled=true", "--http-host=127.0.0.1"]);
    java.arg(format!("--http-port={port}"));
    java.arg(format!("--http-management-port={management}"));
    java.arg(format!("--hostname=http://127.0.0.1:{port}"));
    java
}

fn is_ready(port: u16) -> bool {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET /health/ready HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.lines().next().is_some_and(|line| line.contains(" 200")))
}
