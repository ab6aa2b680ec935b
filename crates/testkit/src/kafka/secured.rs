//! A broker that strangers reach by TLS and SASL alone, and that asks of everybody whether they may.
//!
//! Its plain listener stays, as the administrator's: whoever comes by it may do everything.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::tls::Authority;

/// How clients must come.
#[derive(Debug, Clone, Default)]
pub struct Secured<'a> {
    /// Names and passwords that are known by SCRAM-SHA-512. `admin` may do everything.
    pub users: &'a [(&'a str, &'a str)],
    /// Whose tokens are believed, if any.
    pub issuer: Option<Issuer>,
}

/// Whose tokens a broker believes. The principal is the token's `azp`: the client's id. Who came by a token must show
/// another one before it runs out, or is hung up on.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// As it names itself in a token.
    pub name: String,
    /// Where its keys are.
    pub jwks: String,
    /// Whom tokens must be for.
    pub audience: String,
}

impl Secured<'_> {
    /// Settings of a broker at 127.0.0.1, with its certificate in `home`.
    pub(super) fn settings(&self, home: &Path, authority: &Authority) -> io::Result<String> {
        let identity = authority.sign("127.0.0.1")?;
        let keys = home.join("broker.pem");
        fs::write(&keys, format!("{}{}", identity.key, identity.chain))?;
        let mut mechanisms = vec!["SCRAM-SHA-512"];
        let mut text = format!(
            "ssl.keystore.type=PEM\n\
             ssl.keystore.location={keys}\n\
             listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:admin\n",
            keys = keys.display()
        );
        if let Some(issuer) = &self.issuer {
            mechanisms.push("OAUTHBEARER");
            let of = "listener.name.sasl_ssl.oauthbearer.sasl";
            let package = "org.apache.kafka.common.security.oauthbearer";
            write!(
                text,
                "{of}.jaas.config={package}.OAuthBearerLoginModule required;\n\
                 {of}.server.callback.handler.class={package}.OAuthBearerValidatorCallbackHandler\n\
                 {of}.oauthbearer.jwks.endpoint.url={jwks}\n\
                 {of}.oauthbearer.expected.issuer={name}\n\
                 {of}.oauthbearer.expected.audience={audience}\n\
                 {of}.oauthbearer.sub.claim.name=azp\n\
                 listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms=3600000\n",
                jwks = issuer.jwks,
                name = issuer.name,
                audience = issuer.audience,
            )
            .map_err(io::Error::other)?;
        }
        writeln!(text, "sasl.enabled.mechanisms={}", mechanisms.join(",")).map_err(io::Error::other)?;
        Ok(text)
    }

    /// What `StorageTool format` is told of the users.
    pub(super) fn formatted(&self) -> Vec<String> {
        let user = |(name, password): &(&str, &str)| {
            ["--add-scram".to_owned(), format!("SCRAM-SHA-512=[name={name},password={password}]")]
        };
        self.users.iter().flat_map(user).collect()
    }

    /// Flags of the broker's JVM.
    pub(super) fn flags(&self) -> Vec<String> {
        let allowed =
            |issuer: &Issuer| format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}", issuer.jwks);
        self.issuer.iter().map(allowed).collect()
    }
}
