//! SASL over a connection: `SaslHandshake` names the mechanism, `SaslAuthenticate` carries its messages (KIP-43, KIP-152).

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use kafka_protocol::{
    messages::{ApiKey, SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse},
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{
    Security,
    settings::{SaslSettings, TokenSource},
    token::Token,
};
use crate::{
    kafka::{
        error::ErrorCode,
        sasl::{Conversation, Message, Step, shown},
    },
    upstream::{
        connection::{CallError, Connection},
        wire::Wire,
    },
};

const UNSUPPORTED_MECHANISM: i16 = 33;
const ILLEGAL_STATE: i16 = 34;
const AUTHENTICATION_FAILED: i16 = 58;
/// Messages of the longest mechanism, and some.
const MOST_MESSAGES: usize = 8;

/// What is ready to be said, and what must be told apart when it is not believed.
pub(crate) struct Credentials {
    conversation: Conversation,
    first: Message,
    token: Option<Token>,
}

/// Proves who we are. `until` bounds all of it. The session's lifetime, if the broker gives it one (KIP-368).
pub(crate) async fn authenticate(connection: &Connection, security: &Security, until: Instant) -> Result<Option<Session>, CallError> {
    let Some(sasl) = &security.sasl else { return Ok(None) };
    const OLD: &str = "the broker is too old for it: SaslHandshake 1 and SaslAuthenticate are needed";
    let versions = versions(connection).ok_or_else(|| refused(sasl, OLD))?;
    let credentials = prepare(security, sasl).await?;
    let lifetime = exchange(&connection.wire, versions, security, sasl, credentials, until).await?;
    Ok(lifetime.map(|lifetime| Session { lifetime, versions }))
}

/// Until when the broker believes us, and how we told it.
pub(crate) struct Session {
    pub(super) lifetime: Duration,
    pub(super) versions: SaslVersions,
}

/// Of `SaslHandshake` and `SaslAuthenticate`.
pub(super) type SaslVersions = (i16, i16);

fn refused(sasl: &SaslSettings, why: &str) -> CallError {
    CallError::Refused(format!("SASL {}: {why}", sasl.mechanism().name()).into())
}

/// Reads the secrets. It may take: files, or a server of tokens.
pub(super) async fn prepare(security: &Security, sasl: &SaslSettings) -> Result<Credentials, CallError> {
    let token = match &security.tokens {
        Some(tokens) => Some(tokens.get().await.map_err(|why| refused(sasl, &format!("no token: {why}")))?),
        None => None,
    };
    let (settings, held) = (sasl.clone(), token.clone());
    let begin = move || match (&settings, held) {
        (SaslSettings::Plain { username, password }, _) => Ok(Conversation::plain(username, &password.read()?)),
        (SaslSettings::Scram { hash, username, password }, _) => Ok(Conversation::scram(*hash, username, &password.read()?, &nonce()?)),
        (SaslSettings::OauthBearer(_), Some(token)) => Ok(Conversation::oauth_bearer(&token)),
        (SaslSettings::OauthBearer(_), None) => Err("no token".to_owned()),
    };
    // Off the runtime's threads, since secrets may be in files.
    let begun: Result<_, String> = tokio::task::spawn_blocking(begin).await.map_err(|_| closed())?;
    let (conversation, first) = begun.map_err(|why| refused(sasl, &why))?;
    Ok(Credentials {
        conversation,
        first,
        token,
    })
}

/// All that is said. `wire` must carry nothing else meanwhile.
pub(super) async fn exchange(
    wire: &Arc<Wire>,
    (handshake, authenticate): SaslVersions,
    security: &Security,
    sasl: &SaslSettings,
    credentials: Credentials,
    until: Instant,
) -> Result<Option<Duration>, CallError> {
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(sasl.mechanism().name()));
    let mut call = wire.send(ApiKey::SaslHandshake, handshake, &request, left(until))?;
    agreed(&call.answer().await?).map_err(|why| refused(sasl, &why))?;
    let Credentials {
        mut conversation,
        first: mut message,
        token,
    } = credentials;
    for _ in 0..MOST_MESSAGES {
        let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::copy_from_slice(&message));
        let mut call = wire.send(ApiKey::SaslAuthenticate, authenticate, &request, left(until))?;
        let answer: SaslAuthenticateResponse = call.answer().await?;
        if answer.error_code != 0 {
            if let (Some(tokens), Some(token)) = (&security.tokens, &token) {
                tokens.refused(token).await;
            }
            return Err(refused(sasl, &not_taken(sasl, &answer, conversation.status())));
        }
        let (next, step) = step(conversation, answer.auth_bytes).await?;
        conversation = next;
        match step.map_err(|why| refused(sasl, &why))? {
            Step::Send(next) => message = next,
            Step::Done => {
                let lifetime = u64::try_from(answer.session_lifetime_ms).ok().filter(|ms| *ms > 0);
                return Ok(lifetime.map(Duration::from_millis));
            }
        }
    }
    Err(refused(sasl, "the broker comes to no end"))
}

fn versions(connection: &Connection) -> Option<SaslVersions> {
    // Before version 1 of the handshake the messages have no frame of Kafka's.
    let handshake = connection.version(ApiKey::SaslHandshake, 1).filter(|v| *v >= 1)?;
    Some((handshake, connection.version(ApiKey::SaslAuthenticate, 2)?))
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

/// Off the runtime's threads, since SCRAM takes milliseconds of a processor.
async fn step(mut conversation: Conversation, answer: Bytes) -> Result<(Conversation, Result<Step, String>), CallError> {
    let step = move || {
        let step = conversation.answer(&answer);
        (conversation, step)
    };
    tokio::task::spawn_blocking(step).await.map_err(|_| closed())
}

fn closed() -> CallError {
    CallError::Broken(Arc::from("closed by us"))
}

/// 192 bits, in letters that SCRAM allows.
fn nonce() -> Result<String, String> {
    let mut bytes = [0; 24];
    rand::fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn agreed(answer: &SaslHandshakeResponse) -> Result<(), String> {
    match answer.error_code {
        0 => Ok(()),
        UNSUPPORTED_MECHANISM => {
            let offered: Vec<&str> = answer.mechanisms.iter().take(10).map(|m| &**m).collect();
            Err(format!(
                "the broker does not offer it on this port, only {}: set `kafka.security.sasl.mechanism`",
                shown(&offered.join(", "))
            ))
        }
        ILLEGAL_STATE => Err("this port takes no SASL: set `kafka.security.protocol` to plaintext or ssl, or give another port".to_owned()),
        code => Err(format!("the broker answers {}", ErrorCode::from(code).name())),
    }
}

fn not_taken(sasl: &SaslSettings, answer: &SaslAuthenticateResponse, status: Option<&str>) -> String {
    let words = answer.error_message.as_deref().unwrap_or("");
    let words = match answer.error_code {
        AUTHENTICATION_FAILED if !words.is_empty() => shown(words),
        code => format!("{} {}", ErrorCode::from(code).name(), shown(words)).trim_end().to_owned(),
    };
    let status = status.filter(|status| !words.contains(status));
    let status = status.map_or(String::new(), |status| format!(" ({status})"));
    match sasl {
        SaslSettings::Plain { username, .. } | SaslSettings::Scram { username, .. } => {
            format!(
                "{words}{status}: check `username` ({username:?}) and `password` of `kafka.security.sasl`, and that the broker knows this user with this mechanism"
            )
        }
        SaslSettings::OauthBearer(TokenSource::Held(_)) => {
            format!(
                "{words}{status}: renew `token` of `kafka.security.sasl` if it has expired, and check that the broker trusts who issued it"
            )
        }
        SaslSettings::OauthBearer(TokenSource::Endpoint(endpoint)) => {
            format!(
                "{words}{status}: check that the broker trusts the tokens of {} and takes this `scope`",
                endpoint.url
            )
        }
    }
}
