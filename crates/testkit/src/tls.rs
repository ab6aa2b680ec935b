//! Certificates for servers of tests: an authority of their own that signs for 127.0.0.1.

use std::io;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// An authority that signs certificates, known to nobody but the test.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A private key and the certificates that vouch for it, as PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The private key, PKCS #8.
    pub key: String,
    /// The certificate, and the authority's behind it.
    pub chain: String,
}

impl Authority {
    /// An authority with the name `name`.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, as PEM: whom a client is told to trust.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server at `host` (a name or an address).
    ///
    /// # Errors
    /// When `host` is neither, or no key can be made.
    pub fn sign(&self, host: &str) -> io::Result<Identity> {
        let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(io::Error::other)?;
        params.distinguished_name.push(DnType::CommonName, host);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let signed = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        Ok(Identity { key: key.serialize_pem(), chain: format!("{}{}", signed.pem(), self.certificate()) })
    }
}
