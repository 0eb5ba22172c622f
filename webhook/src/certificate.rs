//! The webhook's own authority and leaf: what is made, and when it is made anew. Pure; the time is an argument.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// How long an authority lives. Replaced at two thirds of it, with both authorities trusted until the leaf has moved.
const AUTHORITY_LIFE: Duration = Duration::days(365);
/// How long a leaf lives.
const LEAF_LIFE: Duration = Duration::days(90);
/// A certificate is valid from a little before it is made, so that a clock that lags does not refuse it.
const BACKDATE: Duration = Duration::minutes(5);

/// An error while making or reading certificates.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to make a key or certificate for the webhook")]
    Issue(#[source] rcgen::Error),
    #[error("failed to read the certificate in `{key}`: {reason}")]
    Read { key: &'static str, reason: String },
    #[error("time {seconds} is not representable")]
    Time { seconds: i64 },
}

/// What the Secret `ers-operator-webhook` holds, each as PEM.
///
/// No `Debug`: two of the fields are private keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The authority that signs new leaves, and after it the one before, while that one is still valid.
    pub authorities: String,
    pub authority_key: String,
    pub leaf: String,
    pub leaf_key: String,
}

/// From when and until when a certificate is valid, in seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    pub not_before: i64,
    pub not_after: i64,
}

impl Validity {
    /// The second at which it is time for a new one: two thirds of the life.
    pub fn renew_at(self) -> i64 {
        self.not_before + (self.not_after - self.not_before) / 3 * 2
    }
}

/// What has to be done about the stored certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this second since the Unix epoch.
    Nothing { until: i64 },
    /// A new leaf from the authority that is there.
    Leaf,
    /// A new authority and a new leaf; the authority before stays trusted.
    Authority,
}

/// Judges the stored certificates at a time. Unreadable ones, and a leaf for other names, are made anew.
pub fn due(stored: Option<&Bundle>, dns_names: &[String], now: i64) -> Due {
    let Some(bundle) = stored else { return Due::Authority };
    let Ok(authority) = first_validity("ca.crt", &bundle.authorities) else { return Due::Authority };
    if KeyPair::from_pem(&bundle.authority_key).is_err() || now >= authority.renew_at() || now < authority.not_before {
        return Due::Authority;
    }
    let Ok(leaf) = first_validity("tls.crt", &bundle.leaf) else { return Due::Leaf };
    let names_match = names_of(&bundle.leaf).is_ok_and(|names| names == *dns_names);
    if KeyPair::from_pem(&bundle.leaf_key).is_err() || now >= leaf.renew_at() || !names_match {
        return Due::Leaf;
    }
    Due::Nothing { until: authority.renew_at().min(leaf.renew_at()) }
}

/// Makes what is due. `Due::Nothing` gives the stored bundle back.
///
/// # Errors
/// When a key or certificate cannot be made, or the stored authority cannot be read.
pub fn issue(due: Due, stored: Option<Bundle>, dns_names: &[String], now: i64) -> Result<Bundle, Error> {
    let (authorities, authority_key) = match (due, stored) {
        (Due::Nothing { .. }, Some(bundle)) => return Ok(bundle),
        (Due::Leaf, Some(bundle)) => (bundle.authorities, bundle.authority_key),
        (_, stored) => {
            let (authority, key) = new_authority(now)?;
            let before = stored.map(|bundle| still_valid_head(&bundle.authorities, now)).unwrap_or_default();
            (authority + &before, key)
        }
    };
    let key = KeyPair::from_pem(&authority_key).map_err(Error::Issue)?;
    let issuer = Issuer::from_ca_cert_pem(&authorities, key).map_err(Error::Issue)?;
    let leaf_key = KeyPair::generate().map_err(Error::Issue)?;
    let mut params = CertificateParams::new(dns_names.to_vec()).map_err(Error::Issue)?;
    params.distinguished_name = common_name("ers-operator");
    (params.not_before, params.not_after) = life(now, LEAF_LIFE)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf = params.signed_by(&leaf_key, &issuer).map_err(Error::Issue)?;
    Ok(Bundle { authorities, authority_key, leaf: leaf.pem(), leaf_key: leaf_key.serialize_pem() })
}

/// When the first certificate of a PEM text is valid.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn first_validity(key: &'static str, pem: &str) -> Result<Validity, Error> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| unreadable(key, &error))?;
    let certificate = block.parse_x509().map_err(|error| unreadable(key, &error))?;
    let validity = certificate.validity();
    Ok(Validity { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
}

fn names_of(pem: &str) -> Result<Vec<String>, Error> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| unreadable("tls.crt", &error))?;
    let certificate = block.parse_x509().map_err(|error| unreadable("tls.crt", &error))?;
    let extension = certificate.subject_alternative_name().map_err(|error| unreadable("tls.crt", &error))?;
    let mut names = Vec::new();
    for name in extension.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default() {
        if let x509_parser::extensions::GeneralName::DNSName(name) = name {
            names.push((*name).to_owned());
        }
    }
    Ok(names)
}

fn unreadable(key: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::Read { key, reason: error.to_string() }
}

/// The first certificate of a PEM text, if it is still valid.
fn still_valid_head(authorities: &str, now: i64) -> String {
    const END: &str = "-----END CERTIFICATE-----";
    let Some(at) = authorities.find(END) else { return String::new() };
    let head = &authorities[..at + END.len()];
    match first_validity("ca.crt", head) {
        Ok(validity) if now < validity.not_after => format!("{head}\n"),
        _ => String::new(),
    }
}

fn new_authority(now: i64) -> Result<(String, String), Error> {
    let key = KeyPair::generate().map_err(Error::Issue)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(Error::Issue)?;
    params.distinguished_name = common_name("ers-operator webhook authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = life(now, AUTHORITY_LIFE)?;
    let certificate = params.self_signed(&key).map_err(Error::Issue)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn life(now: i64, length: Duration) -> Result<(OffsetDateTime, OffsetDateTime), Error> {
    let start = OffsetDateTime::from_unix_timestamp(now).map_err(|_| Error::Time { seconds: now })?;
    Ok((start - BACKDATE, start - BACKDATE + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_750_000_000;
    const DAY: i64 = 86_400;

    fn names() -> Vec<String> {
        vec!["ers-operator.ers-system.svc".to_owned(), "localhost".to_owned()]
    }

    fn made_at(now: i64) -> Bundle {
        issue(due(None, &names(), now), None, &names(), now).expect("issued")
    }

    #[test]
    fn nothing_stored_means_a_new_authority() {
        assert_eq!(due(None, &names(), NOW), Due::Authority);
    }

    #[test]
    fn a_fresh_bundle_is_left_alone_until_two_thirds_of_the_leafs_life() {
        let bundle = made_at(NOW);
        let Due::Nothing { until } = due(Some(&bundle), &names(), NOW) else { panic!("must be fresh") };
        assert_eq!(until, NOW - 300 + 60 * DAY);
        assert_eq!(due(Some(&bundle), &names(), until - 1), Due::Nothing { until });
        assert_eq!(due(Some(&bundle), &names(), until), Due::Leaf);
    }

    #[test]
    fn a_new_leaf_keeps_the_authority() {
        let first = made_at(NOW);
        let later = NOW + 60 * DAY;
        let second = issue(Due::Leaf, Some(first.clone()), &names(), later).expect("issued");
        assert!(second.authorities == first.authorities && second.authority_key == first.authority_key);
        assert!(second.leaf != first.leaf && second.leaf_key != first.leaf_key);
    }

    #[test]
    fn a_new_authority_comes_at_two_thirds_of_its_life_and_the_old_one_stays_trusted() {
        let first = made_at(NOW);
        let later = NOW + 244 * DAY;
        assert_eq!(due(Some(&first), &names(), later), Due::Authority);
        let second = issue(Due::Authority, Some(first.clone()), &names(), later).expect("issued");
        assert!(second.authorities.ends_with(&first.authorities));
        assert_eq!(second.authorities.matches("BEGIN CERTIFICATE").count(), 2);
        let third = issue(Due::Authority, Some(second), &names(), later + 244 * DAY).expect("issued");
        assert_eq!(third.authorities.matches("BEGIN CERTIFICATE").count(), 2, "only the one before is kept");
    }

    #[test]
    fn an_expired_authority_is_not_kept() {
        let second = issue(Due::Authority, Some(made_at(NOW)), &names(), NOW + 400 * DAY).expect("issued");
        assert_eq!(second.authorities.matches("BEGIN CERTIFICATE").count(), 1);
    }

    #[test]
    fn a_broken_secret_is_made_anew() {
        let mut bundle = made_at(NOW);
        bundle.leaf_key = "not a key".to_owned();
        assert_eq!(due(Some(&bundle), &names(), NOW), Due::Leaf);
        bundle.authorities = "not a certificate".to_owned();
        assert_eq!(due(Some(&bundle), &names(), NOW), Due::Authority);
    }

    #[test]
    fn other_names_need_another_leaf() {
        let bundle = made_at(NOW);
        assert_eq!(due(Some(&bundle), &["elsewhere.svc".to_owned()], NOW), Due::Leaf);
    }

    #[test]
    fn the_leaf_verifies_with_the_first_authority() {
        let bundle = made_at(NOW);
        let (_, authority) = x509_parser::pem::parse_x509_pem(bundle.authorities.as_bytes()).expect("pem");
        let (_, leaf) = x509_parser::pem::parse_x509_pem(bundle.leaf.as_bytes()).expect("pem");
        let (authority, leaf) = (authority.parse_x509().expect("x509"), leaf.parse_x509().expect("x509"));
        assert_eq!(leaf.issuer(), authority.subject());
        assert!(authority.is_ca() && !leaf.is_ca());
    }
}
