//! Enhanced authentication (§4.12): AUTH between CONNECT and CONNACK, and again on a connection that lives (§4.12.1).
//!
//! What the data mean is the relay's to know. The session sees that method and order are kept, and that nothing else comes in between
//! before CONNACK.

use std::fmt;
use std::time::Instant;

use super::{Cause, Close, Output, Phase, Session};
use crate::mqtt::{Auth, Packet, ReasonCode};

/// Of a client whose CONNECT had an authentication method.
pub(super) struct Enhanced {
    pub(super) method: Box<str>,
    /// What the client said last, until that is answered.
    pub(super) data: Box<[u8]>,
    /// Of a client that authenticates again.
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It does not.
    Idle,
    /// Its message is with the relay.
    Asked,
    /// The next one is with the client.
    Challenged,
}

impl fmt::Debug for Enhanced {
    /// Without the data: by what SCRAM says passwords can be guessed elsewhere.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Enhanced");
        shown
            .field("method", &self.method)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Enhanced {
    pub(super) fn new(method: &str, data: Option<&[u8]>) -> Self {
        Self {
            method: method.into(),
            data: data.unwrap_or_default().into(),
            stage: Stage::Idle,
        }
    }
}

impl Session {
    /// Method and data of the client's last message, until it is answered; `None`: it has named no method.
    pub fn authentication(&self) -> Option<(&str, &[u8])> {
        let enhanced = self.credentials.as_ref()?.enhanced.as_ref()?;
        Some((&enhanced.method, &enhanced.data))
    }

    /// Asks the client to go on: AUTH with these data. Its answer comes as [`Output::Authenticate`].
    pub fn challenge(&mut self, data: &[u8], now: Instant) {
        match (
            self.phase,
            self.credentials.as_mut().and_then(|credentials| credentials.enhanced.as_mut()),
        ) {
            (Phase::Offered, Some(_)) => self.phase = Phase::Challenged,
            (Phase::Live, Some(enhanced)) if enhanced.stage == Stage::Asked => enhanced.stage = Stage::Challenged,
            _ => return,
        }
        self.send_auth(ReasonCode::ContinueAuthentication, data, now);
    }

    /// A client that lives has authenticated again: AUTH with success and these data. One that could not is to be given up (0x87).
    pub fn reauthenticated(&mut self, data: &[u8], now: Instant) {
        match self.enhanced() {
            Some(enhanced) if enhanced.stage == Stage::Asked => enhanced.stage = Stage::Idle,
            _ => return,
        }
        self.send_auth(ReasonCode::Success, data, now);
    }

    /// [MQTT-4.12.0-5]: with the method of CONNECT.
    fn send_auth(&mut self, reason: ReasonCode, data: &[u8], now: Instant) {
        // Out of the way of the borrow of `send`.
        let Some(mut credentials) = self.credentials.take() else { return };
        if let Some(enhanced) = &mut credentials.enhanced {
            enhanced.data = Box::default();
        }
        let auth = Auth {
            reason,
            method: credentials.enhanced.as_ref().map(|enhanced| &*enhanced.method),
            data: Some(data),
            reason_string: None,
            user: Default::default(),
        };
        self.send_or_end(&Packet::Auth(auth), now);
        if !self.is_closed() {
            self.credentials = Some(credentials);
        }
    }

    /// A packet between AUTH and its answer: AUTH, or a goodbye [MQTT-3.1.2-30].
    pub(super) fn handle_challenged(&mut self, packet: &Packet<'_>, now: Instant) {
        match packet {
            Packet::Auth(auth) if auth.reason == ReasonCode::ContinueAuthentication && self.is_of_method(auth) => {
                self.phase = Phase::Offered;
                self.hear(auth);
            }
            Packet::Disconnect(disconnect) => self.close(Close {
                reason: disconnect.reason,
                cause: Cause::Client,
                detail: "",
            }),
            _ => self.end(
                ReasonCode::ProtocolError,
                "another packet than AUTH in the middle of authentication",
                now,
            ),
        }
    }

    /// AUTH on a connection that lives.
    pub(super) fn authenticate_again(&mut self, auth: &Auth<'_>, now: Instant) {
        let stage = self.enhanced().map(|enhanced| enhanced.stage);
        let in_order = matches!(
            (auth.reason, stage),
            (ReasonCode::ReAuthenticate, Some(Stage::Idle)) | (ReasonCode::ContinueAuthentication, Some(Stage::Challenged))
        );
        // [MQTT-4.12.1-1]
        if !in_order || !self.is_of_method(auth) {
            return self.end(
                ReasonCode::ProtocolError,
                "AUTH out of turn, or of another method than CONNECT",
                now,
            );
        }
        if let Some(enhanced) = self.enhanced() {
            enhanced.stage = Stage::Asked;
        }
        self.hear(auth);
    }

    fn is_of_method(&self, auth: &Auth<'_>) -> bool {
        self.authentication().is_some_and(|(method, _)| auth.method == Some(method))
    }

    fn enhanced(&mut self) -> Option<&mut Enhanced> {
        self.credentials.as_mut()?.enhanced.as_mut()
    }

    fn hear(&mut self, auth: &Auth<'_>) {
        if let Some(enhanced) = self.enhanced() {
            enhanced.data = auth.data.unwrap_or_default().into();
        }
        self.outputs.push_back(Output::Authenticate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_proves_is_not_shown() {
        let shown = format!("{:?}", Enhanced::new("SCRAM-SHA-256", Some(b"n,,n=vin42,r=abc")));
        assert_eq!(shown, "Enhanced { method: \"SCRAM-SHA-256\", stage: Idle, .. }");
    }
}
