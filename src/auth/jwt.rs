//! JSON Web Tokens (RFC 7519) against a key set (RFC 7517): RS, PS, ES and EdDSA, never a shared secret.
//!
//! The algorithm that a token names must be one of its key's kind, so a public key is never taken for an HMAC secret. Time is an argument.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::Principal;

/// Keys of one set at most.
const MOST_KEYS: usize = 100;

/// Why a token is not good whose key is in no set: a newer one may have it.
pub const UNKNOWN_KEY: &str = "token_unknown_key";

/// The usable keys of a set. `Debug` shows how many.
pub struct KeySet {
    keys: Vec<Key>,
}

struct Key {
    id: Option<String>,
    algorithms: &'static [Algorithm],
    /// The only one it may be used with, if the set says so.
    only: Option<Algorithm>,
    key: DecodingKey,
}

impl KeySet {
    /// Reads a JWKS document. Keys for encryption and of kinds that sign nothing are left out.
    ///
    /// # Errors
    /// It is none, holds a shared secret, or nothing to verify with.
    pub fn parse(text: &str) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_str(text).map_err(|e| format!("is no JSON Web Key Set (line {})", e.line()))?;
        if set.keys.len() > MOST_KEYS {
            return Err(format!("holds more than {MOST_KEYS} keys"));
        }
        let mut keys = vec![];
        for jwk in &set.keys {
            keys.extend(Key::read(jwk)?);
        }
        if keys.is_empty() {
            return Err("holds no key of kind RSA, EC (P-256, P-384) or OKP (Ed25519) to verify signatures with".to_owned());
        }
        Ok(Self { keys })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Never: a set has a key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key that a token names; without a name the only one of its algorithm.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&Key> {
        let mut fitting = self
            .keys
            .iter()
            .filter(|key| key.fits(algorithm) && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        fitting.next().is_none().then_some(first)
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySet({} keys)", self.keys.len())
    }
}

impl Key {
    fn read(jwk: &Jwk) -> Result<Option<Self>, String> {
        let algorithms: &[Algorithm] = match &jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => {
                return Err("holds a shared secret (kty oct): who can check tokens could make them".to_owned());
            }
            AlgorithmParameters::RSA(_) => {
                use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
                &[RS256, RS384, RS512, PS256, PS384, PS512]
            }
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => &[Algorithm::ES256],
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P384 => &[Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
            _ => return Ok(None),
        };
        if jwk
            .common
            .public_key_use
            .as_ref()
            .is_some_and(|usage| *usage != PublicKeyUse::Signature)
        {
            return Ok(None);
        }
        let only = match jwk.common.key_algorithm {
            None => None,
            Some(named) => match named.to_string().parse() {
                Ok(algorithm) if algorithms.contains(&algorithm) => Some(algorithm),
                _ => return Ok(None),
            },
        };
        let key = DecodingKey::from_jwk(jwk).map_err(|_| "holds a key whose numbers are not base64url".to_owned())?;
        Ok(Some(Self {
            id: jwk.common.key_id.clone(),
            algorithms,
            only,
            key,
        }))
    }

    fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm) && self.only.is_none_or(|only| only == algorithm)
    }
}

/// What a token must say beside its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Demands {
    /// The claim that is the identity.
    pub claim: String,
    /// `iss` must be this.
    pub issuer: Option<String>,
    /// `aud` must be or hold this. Without it a token must have no audience (RFC 7519 §4.1.3).
    pub audience: Option<String>,
    /// By how much clocks may differ; it counts in whole seconds, rounded up.
    pub leeway: Duration,
    /// Claims that are kept for rights.
    pub kept: Vec<String>,
}

/// A token that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its owner.
    pub principal: Principal,
    /// When it is good no longer, leeway included: seconds since 1970.
    pub expires: u64,
}

/// Whether a password looks like a token at all: three parts, the first of them a JSON object in base64url.
pub fn looks_like_one(password: &[u8]) -> bool {
    password.starts_with(b"eyJ") && password.iter().filter(|b| **b == b'.').count() == 2
}

/// Checks a token at `now`, in seconds since 1970.
///
/// # Errors
/// Why it is not good: a word for logs. The client is not told.
pub fn check(token: &[u8], keys: &KeySet, demands: &Demands, now: u64) -> Result<Token, &'static str> {
    let header = decode_header(token).map_err(|_| "malformed_token")?;
    // RFC 7515 §4.1.11: what we do not know must not be passed over.
    if header.crit.is_some() {
        return Err("token_critical_header");
    }
    let key = keys.find(header.kid.as_deref(), header.alg).ok_or(UNKNOWN_KEY)?;
    let mut validation = Validation::new(header.alg);
    // All of these are judged below, by our time and our words.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    let claims = decode::<Map<String, Value>>(token, &key.key, &validation)
        .map_err(|_| "token_signature")?
        .claims;
    let expires = times(&claims, demands, now)?;
    parties(&claims, demands)?;
    let name = claims.get(&demands.claim).and_then(Value::as_str).ok_or("token_without_identity")?;
    let mut principal = Principal::new(name).ok_or("identity_not_legal")?;
    principal.claims = kept(&claims, demands);
    Ok(Token { principal, expires })
}

/// When it expires, leeway included.
fn times(claims: &Map<String, Value>, demands: &Demands, now: u64) -> Result<u64, &'static str> {
    // NumericDate may have a fraction (RFC 7519 §2).
    let seconds = |name, round: fn(f64) -> f64| claims.get(name).map(|v| v.as_f64().filter(|s| *s >= 0.0).map(|s| round(s) as u64));
    // A part of a second counts as a whole one.
    let leeway = demands.leeway.as_secs() + u64::from(demands.leeway.subsec_nanos() > 0);
    let expires = seconds("exp", f64::floor)
        .flatten()
        .ok_or("token_without_expiry")?
        .saturating_add(leeway);
    if now >= expires {
        return Err("token_expired");
    }
    match seconds("nbf", f64::ceil) {
        Some(None) => Err("malformed_token"),
        Some(Some(begins)) if begins > now.saturating_add(leeway) => Err("token_not_yet_valid"),
        _ => Ok(expires),
    }
}

fn parties(claims: &Map<String, Value>, demands: &Demands) -> Result<(), &'static str> {
    if let Some(issuer) = &demands.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err("token_issuer");
    }
    let is_meant = match (claims.get("aud"), &demands.audience) {
        (None, None) => true,
        (Some(Value::String(one)), Some(us)) => one == us,
        (Some(Value::Array(many)), Some(us)) => many.iter().any(|one| one.as_str() == Some(us)),
        _ => false,
    };
    is_meant.then_some(()).ok_or("token_audience")
}

fn kept(claims: &Map<String, Value>, demands: &Demands) -> Box<[(Box<str>, Box<str>)]> {
    let kept = |name: &String| Some((name.as_str().into(), claim_text(claims.get(name)?)?.into()));
    demands.kept.iter().filter_map(kept).collect()
}

/// A claim as rights compare it; `None`: it is no text, number or truth value, or too long.
pub(super) fn claim_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.len() <= super::LONGEST_IDENTITY => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
