//! Token sources against endpoints of the test's own; the real Keycloak is asked in `tests/log_contract/tokens.rs`.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use super::*;

fn clock() -> Clock {
    Clock::new(|| Timestamp::from_micros(1_700_000_000_000_000))
}

/// Answers every request with what `answer` gives for its number; gives its URL and the last request.
fn endpoint(answer: impl Fn(usize) -> String + Send + 'static) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&seen);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 8_192];
            let mut got = 0;
            // Its body ends with the scope.
            while !String::from_utf8_lossy(&request).contains("scope=") {
                got += stream.read(&mut request[got..]).unwrap();
            }
            *heard.lock().unwrap() = String::from_utf8_lossy(&request[..got]).into_owned();
            stream.write_all(answer(n).as_bytes()).unwrap();
        }
    });
    (url, seen)
}

fn http(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn oauth(url: &str) -> Oauth {
    Oauth {
        url: url.to_owned(),
        client_id: "hi lum".to_owned(),
        client_secret: "ge:heim".to_owned(),
        scope: "kafka".to_owned(),
        ca_file: None,
    }
}

#[test]
fn a_source_that_is_configured_wrongly_is_named_by_its_key() {
    let good = oauth("https://sso.example.org/token");
    let cases = [
        ("as it should be", good.clone(), None),
        ("on this machine", Oauth { url: "http://127.0.0.1:8080/token".to_owned(), ..good.clone() }, None),
        (
            "in clear",
            Oauth { url: "http://sso.example.org/token".to_owned(), ..good.clone() },
            Some("log.token.url: take https"),
        ),
        ("no address", Oauth { url: "sso".to_owned(), ..good.clone() }, Some("log.token.url")),
        (
            "secret in the address",
            Oauth { url: "https://a:geheim@sso/token".to_owned(), ..good.clone() },
            Some("log.token.url: no name"),
        ),
        ("nobody", Oauth { client_id: String::new(), ..good.clone() }, Some("log.token.client_id")),
        ("no proof", Oauth { client_secret: String::new(), ..good.clone() }, Some("log.token.client_secret")),
    ];
    for (why, oauth, want) in cases {
        let got = TokenSource::Oauth(oauth).check().err();
        assert_eq!(got.is_some(), want.is_some(), "{why}: {got:?}");
        let got = got.unwrap_or_default();
        assert!(got.starts_with(want.unwrap_or_default()) && !got.contains("geheim"), "{why}: {got}");
    }
}

#[tokio::test]
async fn a_client_proves_itself_as_the_standard_says_and_gets_its_token() {
    let (url, seen) = endpoint(|_| http("200 OK", r#"{"access_token":"abc","expires_in":300}"#));
    let tokens = Tokens::start(TokenSource::Oauth(oauth(&url)), clock()).await.unwrap();
    let token = tokens.current().unwrap();
    assert_eq!((token.token.as_str(), token.lifetime_ms), ("abc", 1_700_000_300_000));
    let seen = seen.lock().unwrap().to_ascii_lowercase();
    // "hi+lum:ge%3Aheim"
    assert!(seen.contains(&"authorization: basic aGkrbHVtOmdlJTNBaGVpbQ==".to_ascii_lowercase()), "{seen}");
    assert!(seen.ends_with("grant_type=client_credentials&scope=kafka"), "{seen}");
}

#[tokio::test]
async fn an_issuer_that_gives_none_is_named_and_what_it_sends_is_not_repeated() {
    let cases = [
        (
            "a wrong secret",
            http("401 Unauthorized", r#"{"error":"invalid_client","error_description":"geheim"}"#),
            "HTTP 401 invalid_client",
        ),
        (
            "no word of the standard",
            http("400 Bad Request", r#"{"error":"geheim ist geheim"}"#),
            "HTTP 400 :",
        ),
        (
            "elsewhere",
            "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/geheim\r\ncontent-length: 0\r\n\r\n"
                .to_owned(),
            "HTTP 302",
        ),
        ("a page", http("200 OK", "<html>geheim</html>"), "something else than a token"),
        ("too much", http("200 OK", &"geheim ".repeat(20_000)), "more than 65536 bytes"),
        ("a short life", http("200 OK", r#"{"access_token":"geheim","expires_in":1}"#), "live for 1 s"),
    ];
    for (why, answer, want) in cases {
        let (url, _) = endpoint(move |_| answer.clone());
        let refused =
            Tokens::start(TokenSource::Oauth(oauth(&url)), clock()).await.err().expect(why).to_string();
        assert!(
            refused.contains(want) && refused.contains(&url) && !refused.contains("heim"),
            "{why}: {refused}"
        );
    }
    let refused = Tokens::start(TokenSource::Oauth(oauth("http://127.0.0.1:9/token")), clock()).await;
    let refused = refused.err().expect("nobody there").to_string();
    assert!(refused.contains("cannot be asked") && refused.contains("127.0.0.1:9"), "{refused}");
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_and_after_failures_and_never_handed_out_behind_it() {
    let (url, _) = endpoint(|n| match n {
        1 | 2 => http("503 Service Unavailable", ""),
        n => http("200 OK", &format!(r#"{{"access_token":"t{n}","expires_in":10}}"#)),
    });
    let now = Arc::new(AtomicI64::new(1_700_000_000_000_000));
    let told = Arc::clone(&now);
    let clock = Clock::new(move || Timestamp::from_micros(told.load(Ordering::Relaxed)));
    let tokens = Tokens::start(TokenSource::Oauth(oauth(&url)), clock).await.unwrap();
    assert_eq!(tokens.current().unwrap().token, "t0");
    // The machine's clock is set forward: the token is behind its end at once, and a new one is asked for at once.
    now.fetch_add(3_600_000_000, Ordering::Relaxed);
    let refused = tokens.current().err().expect("run out");
    assert!(refused.contains("run out") && refused.contains(&url), "{refused}");
    let mut said = String::new();
    let token = loop {
        match tokens.current() {
            Ok(token) => break token,
            Err(why) => said = why,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    // The third try gave one; a refusal that was heard while it was on its way may have had another asked for.
    assert!(["t3", "t4"].contains(&token.token.as_str()), "{}", token.token);
    assert_eq!(token.lifetime_ms, 1_700_003_610_000);
    assert!(said.contains("HTTP 503"), "{said}");
    // Then by itself, at half of its life.
    while tokens.current().unwrap().token == token.token {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(feature = "msk-iam")]
mod msk_iam {
    use aws_credential_types::Credentials;
    use aws_credential_types::provider::future::ProvideCredentials as Provided;
    use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use hilum_testkit::clock::system;
    use reqwest::Url;

    use super::*;

    /// Credentials that change each time they are asked for, as those of a machine's role do.
    #[derive(Debug, Default)]
    struct Rotating(AtomicUsize);

    impl ProvideCredentials for Rotating {
        fn provide_credentials<'a>(&'a self) -> Provided<'a>
        where
            Self: 'a,
        {
            let n = self.0.fetch_add(1, Ordering::Relaxed);
            let session = Some(format!("session{n}"));
            Provided::ready(Ok(Credentials::new(format!("AKIA{n}"), "geheim", session, None, "a test")))
        }
    }

    fn parts(token: &str) -> (String, std::collections::BTreeMap<String, String>) {
        let url = BASE64_URL_SAFE_NO_PAD.decode(token).unwrap();
        let url = Url::parse(std::str::from_utf8(&url).unwrap()).unwrap();
        (
            format!("{}://{}{}", url.scheme(), url.host_str().unwrap(), url.path()),
            url.query_pairs().into_owned().collect(),
        )
    }

    fn source() -> MskIam {
        let credentials = Some(SharedCredentialsProvider::new(Rotating::default()));
        MskIam { region: "ap-northeast-2".to_owned(), role: String::new(), credentials }
    }

    /// The form: https://github.com/aws/aws-msk-iam-auth, "What is the format of the token".
    #[tokio::test]
    async fn its_token_is_a_signed_request_in_url_safe_base64() {
        let tokens = Tokens::start(TokenSource::MskIam(source()), system()).await.unwrap();
        let token = tokens.current().unwrap();
        let (place, query) = parts(&token.token);
        assert_eq!(place, "https://kafka.ap-northeast-2.amazonaws.com/");
        let want = [
            ("Action", "kafka-cluster:Connect"),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Expires", "900"),
            ("X-Amz-SignedHeaders", "host"),
            ("X-Amz-Security-Token", "session0"),
        ];
        for (name, value) in want {
            assert_eq!(query.get(name).map(String::as_str), Some(value), "{name}");
        }
        let credential = &query["X-Amz-Credential"];
        let (day, _) = query["X-Amz-Date"].split_at(8);
        assert_eq!(*credential, format!("AKIA0/{day}/ap-northeast-2/kafka-cluster/aws4_request"));
        assert!(query["X-Amz-Signature"].len() == 64 && query.contains_key("User-Agent"), "{query:?}");
        let life_s = token.lifetime_ms / 1_000 - system().now().as_micros() / 1_000_000;
        assert!((800..=901).contains(&life_s), "{life_s}");
    }

    #[tokio::test]
    async fn it_is_signed_anew_by_whatever_credentials_hold_then() {
        let tokens = Tokens::start(TokenSource::MskIam(source()), system()).await.unwrap();
        let first = tokens.current().unwrap().token;
        lock(&tokens.state).token.as_mut().unwrap().until = Timestamp::default();
        assert!(tokens.current().is_err());
        let second = loop {
            match tokens.current() {
                Ok(token) => break token.token,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert_ne!(first, second);
        assert_eq!(parts(&second).1["X-Amz-Security-Token"], "session1");
    }

    #[test]
    fn without_a_region_it_is_refused_by_its_key() {
        let cases = [
            (MskIam { region: String::new(), ..source() }, "log.token.region"),
            (MskIam { region: "a/b".to_owned(), ..source() }, "log.token.region"),
            (MskIam { role: "hilum".to_owned(), ..source() }, "log.token.role"),
        ];
        for (source, want) in cases {
            let refused = TokenSource::MskIam(source).check().expect_err(want);
            assert!(refused.starts_with(want), "{refused}");
        }
    }
}
