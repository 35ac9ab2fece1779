//! What a server says that is asked about logins: read strictly, since a word that is misread lets somebody in.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Principal;
use super::jwt::claim_text;

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The client is let in.
    Allow {
        /// As whom; `None`: as its user name says.
        identity: Option<Principal>,
        /// Claims that rights ask for.
        claims: Box<[(Box<str>, Box<str>)]>,
        /// When that is good no longer, seconds since 1970.
        expires: Option<u64>,
    },
    /// It is not.
    Deny,
    /// The next method is to be asked.
    Ignore,
    /// Nobody can tell now. Nobody is let in by that.
    Unable,
}

#[derive(Deserialize)]
struct Answer {
    result: Word,
    identity: Option<String>,
    claims: Option<Map<String, Value>>,
    expires_at: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Allow,
    Deny,
    Ignore,
}

impl Decision {
    /// Reads `{"result": "allow" | "deny" | "ignore", "identity": …, "claims": {…}, "expires_at": seconds}`; only `result` must be there. Other
    /// members are not looked at. Of the claims those are kept that are `kept` and a text, a number or a truth value.
    ///
    /// # Errors
    /// It is no such answer.
    pub fn read(body: &[u8], kept: &[String]) -> Result<Self, &'static str> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| "what it answers is no JSON with `result`: allow, deny or ignore")?;
        match answer.result {
            Word::Deny => return Ok(Self::Deny),
            Word::Ignore => return Ok(Self::Ignore),
            Word::Allow => {}
        }
        let identity = match answer.identity {
            Some(name) => Some(Principal::new(&name).ok_or("the `identity` that it answers is none")?),
            None => None,
        };
        let claims = answer.claims.unwrap_or_default();
        let claim = |name: &String| Some((name.as_str().into(), claim_text(claims.get(name)?)?.into()));
        Ok(Self::Allow {
            identity,
            claims: kept.iter().filter_map(claim).collect(),
            expires: answer.expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_strictly() {
        let kept = ["fleet".to_owned(), "level".to_owned(), "none".to_owned()];
        let read = |text: &str| Decision::read(text.as_bytes(), &kept);
        assert_eq!(read(r#"{"result":"deny","identity":""}"#), Ok(Decision::Deny));
        assert_eq!(read(r#"{"result":"ignore","more":[1]}"#), Ok(Decision::Ignore));
        let plain = Decision::Allow {
            identity: None,
            claims: Box::default(),
            expires: None,
        };
        assert_eq!(read(r#"{"result":"allow"}"#), Ok(plain));
        let full = r#"{"result":"allow","identity":"vin42","claims":{"fleet":"north","level":3,"none":[],"other":"x"},"expires_at":7}"#;
        let expected = Decision::Allow {
            identity: Principal::new("vin42"),
            claims: Box::new([("fleet".into(), "north".into()), ("level".into(), "3".into())]),
            expires: Some(7),
        };
        assert_eq!(read(full), Ok(expected));
        for bad in [
            "",
            "allow",
            "true",
            "{}",
            r#"{"result":true}"#,
            r#"{"result":"Allow"}"#,
            r#"{"result":"allow","result":"deny"}"#,
            r#"{"result":"allow","identity":""}"#,
            r#"{"result":"allow","identity":"a\nb"}"#,
            r#"{"result":"allow","identity":7}"#,
            r#"{"result":"allow","claims":[]}"#,
            r#"{"result":"allow","expires_at":"soon"}"#,
            r#"{"result":"allow","expires_at":-1}"#,
            r#"{"result":"allow"} {"result":"allow"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
