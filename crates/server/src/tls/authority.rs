//! Our own certificate authority and the server's certificate, and when each is made anew. Pure but for the randomness of keys: time is an argument.
//!
//! - An authority lives 10 years, a certificate 90 days; each is replaced at two thirds of its life.
//! - A new authority is published beside the old one for a day before it signs anything, so that every caller has it in time; the old one stays published until it ends.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::material::MaterialError;

const DAY_MS: i64 = 86_400_000;
const AUTHORITY_LIFE_MS: i64 = 3_650 * DAY_MS;
const LEAF_LIFE_MS: i64 = 90 * DAY_MS;
/// A new authority is known to all callers after this long (a mounted ConfigMap follows within minutes).
const PUBLISHED_AFTER_MS: i64 = DAY_MS;
/// Clocks of callers may be behind ours.
const CLOCK_SKEW_MS: i64 = 3_600_000;

/// Version of the file that holds a [`TlsState`].
pub const STATE_VERSION: u32 = 1;

/// Everything that is kept. No `Debug`: it holds private keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsState {
    pub version: u32,
    /// Oldest first; all of them are published.
    pub authorities: Vec<Authority>,
    pub leaf: Leaf,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    pub certificate: String,
    pub key: String,
    pub made_at_ms: i64,
    pub not_after_ms: i64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Leaf {
    pub certificate: String,
    pub key: String,
    pub names: Vec<String>,
    /// `made_at_ms` of the authority that signed it.
    pub signed_by_ms: i64,
    pub made_at_ms: i64,
    pub not_after_ms: i64,
}

impl TlsState {
    /// All authorities as PEM, the newest first.
    pub fn bundle(&self) -> String {
        self.authorities.iter().rev().map(|authority| authority.certificate.trim_end().to_owned() + "\n").collect()
    }
}

pub struct Made {
    pub state: TlsState,
    pub changed: bool,
}

/// The state as it should be now: what is still good is kept.
pub fn up_to_date(known: Option<TlsState>, names: &[String], now_ms: i64) -> Result<Made, MaterialError> {
    let (mut authorities, leaf) = match known {
        Some(state) => (state.authorities, Some(state.leaf)),
        None => (Vec::new(), None),
    };
    let before = authorities.len();
    authorities.retain(|authority| now_ms < authority.not_after_ms);
    let mut changed = authorities.len() != before;
    let newest_is_old =
        authorities.last().is_none_or(|newest| now_ms >= two_thirds(newest.made_at_ms, newest.not_after_ms));
    if newest_is_old {
        authorities.push(new_authority(now_ms)?);
        changed = true;
    }
    let signer = signer(&authorities, now_ms);
    let good = leaf.filter(|leaf| {
        leaf.names == names
            && leaf.signed_by_ms == signer.made_at_ms
            && now_ms < two_thirds(leaf.made_at_ms, leaf.not_after_ms)
    });
    let leaf = match good {
        Some(leaf) => leaf,
        None => {
            changed = true;
            new_leaf(signer, names, now_ms)?
        }
    };
    Ok(Made { state: TlsState { version: STATE_VERSION, authorities, leaf }, changed })
}

fn two_thirds(from_ms: i64, to_ms: i64) -> i64 {
    from_ms + (to_ms - from_ms) / 3 * 2
}

/// The newest authority that is known to all callers; the oldest if none is yet.
fn signer(authorities: &[Authority], now_ms: i64) -> &Authority {
    let known = authorities.iter().rev().find(|authority| now_ms - authority.made_at_ms >= PUBLISHED_AFTER_MS);
    known.or(authorities.first()).expect("an authority was added above if there was none")
}

fn moment(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn new_authority(now_ms: i64) -> Result<Authority, MaterialError> {
    let key = KeyPair::generate().map_err(MaterialError::Make)?;
    let mut params = CertificateParams::default();
    // The name differs per authority, so that a verifier with both never tries the wrong one.
    params.distinguished_name.push(DnType::CommonName, format!("ERS server authority {}", now_ms.div_euclid(1_000)));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let not_after_ms = now_ms + AUTHORITY_LIFE_MS;
    params.not_before = moment(now_ms - CLOCK_SKEW_MS);
    params.not_after = moment(not_after_ms);
    let certificate = params.self_signed(&key).map_err(MaterialError::Make)?;
    Ok(Authority { certificate: certificate.pem(), key: key.serialize_pem(), made_at_ms: now_ms, not_after_ms })
}

fn new_leaf(authority: &Authority, names: &[String], now_ms: i64) -> Result<Leaf, MaterialError> {
    let authority_key = KeyPair::from_pem(&authority.key).map_err(MaterialError::Make)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, authority_key).map_err(MaterialError::Make)?;
    let key = KeyPair::generate().map_err(MaterialError::Make)?;
    let mut params = CertificateParams::new(names.to_vec()).map_err(MaterialError::Make)?;
    params.distinguished_name.push(DnType::CommonName, "ERS server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let not_after_ms = (now_ms + LEAF_LIFE_MS).min(authority.not_after_ms);
    params.not_before = moment(now_ms - CLOCK_SKEW_MS);
    params.not_after = moment(not_after_ms);
    let certificate = params.signed_by(&key, &issuer).map_err(MaterialError::Make)?;
    Ok(Leaf {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        names: names.to_vec(),
        signed_by_ms: authority.made_at_ms,
        made_at_ms: now_ms,
        not_after_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["reporting-server.demo.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    fn next(known: &TlsState, now_ms: i64) -> Made {
        up_to_date(Some(known.clone()), &names(), now_ms).unwrap()
    }

    #[test]
    fn what_is_good_is_kept_until_two_thirds_of_its_life() {
        let first = up_to_date(None, &names(), 0).unwrap();
        assert!(first.changed);
        assert!(!next(&first.state, 59 * DAY_MS).changed);
        let later = next(&first.state, 60 * DAY_MS);
        assert!(later.changed);
        assert_ne!(later.state.leaf.certificate, first.state.leaf.certificate);
        assert_eq!(later.state.bundle(), first.state.bundle(), "callers need nothing new");
    }

    #[test]
    fn other_names_make_another_certificate_by_the_same_authority() {
        let first = up_to_date(None, &names(), 0).unwrap().state;
        let other = up_to_date(Some(first.clone()), &["localhost".to_owned()], 1).unwrap();
        assert!(other.changed);
        assert_eq!(other.state.leaf.names, ["localhost"]);
        assert_eq!(other.state.bundle(), first.bundle());
    }

    #[test]
    fn a_new_authority_is_published_a_day_before_it_signs() {
        let first = up_to_date(None, &names(), 0).unwrap().state;
        let begin = AUTHORITY_LIFE_MS / 3 * 2;
        let both = next(&first, begin).state;
        assert_eq!(both.authorities.len(), 2);
        assert_eq!(both.leaf.signed_by_ms, 0, "the old one still signs");
        assert_eq!(both.bundle().matches("BEGIN CERTIFICATE").count(), 2);
        let switched = next(&both, begin + DAY_MS).state;
        assert_eq!(switched.leaf.signed_by_ms, begin);
        assert_eq!(switched.authorities.len(), 2, "callers that hold old certificates open are not cut off");
        let alone = next(&switched, AUTHORITY_LIFE_MS).state;
        assert_eq!(alone.authorities.len(), 1);
        assert!(!next(&alone, AUTHORITY_LIFE_MS + 1).changed);
    }
}
