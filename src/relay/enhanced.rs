//! Enhanced authentication (§4.12): the client's messages to the chain, its answers back, before CONNACK and again on a connection that lives.
//!
//! The first message is taken away from the reactor, since files may have to be read; the second costs a few hashes. A connection stays its
//! identity's: who authenticates again as somebody else is refused.

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{
    authenticate::names_of,
    desk::Desk,
    guard::{Guard, Identity},
};
use crate::{
    audit::Event,
    auth::{Chain, Credentials, NOT_ITS_CLIENT_ID, Verdict, scram},
    mqtt::ReasonCode,
    session::Session,
};

/// What a connection keeps whose client has named a method.
#[derive(Debug)]
pub struct Enhanced {
    chain: Arc<Chain>,
    /// Of a client that authenticates again.
    again: Option<Identity>,
}

/// Of a question that ended by a panic.
pub const FAILED: Verdict = Verdict::Refused {
    reason: ReasonCode::UnspecifiedError,
    why: "login_failed",
};

impl Guard {
    /// The chain, which is asked now. What the client shows of this, its certificate among it, says whom a refusal is told of; `user` is of its first message.
    pub(super) fn begun(&mut self, session: &Session, user: Option<&str>) -> Option<Arc<Chain>> {
        let (chain, certificate) = (self.chain.take(), self.certificate.take());
        let shown = Credentials {
            client: session.client_id(),
            username: user.or(session.username()),
            password: None,
            certificate: certificate.as_deref().map(names_of),
        };
        let named = chain.as_ref().and_then(|chain| chain.named(&shown)).or(user);
        self.named = named.map(Into::into);
        chain
    }
}

impl Desk {
    /// Takes the first message, which came with CONNECT.
    pub(super) fn begin_enhanced(&mut self, session: &Session) -> Identity {
        let (method, message) = session.authentication().unzip();
        let user = message.filter(|_| method == Some(scram::METHOD)).and_then(scram::user_of);
        let chain = self.guard.as_mut().and_then(|guard| guard.begun(session, user.as_deref()));
        match chain.filter(|chain| chain.is_enhanced() && method == Some(scram::METHOD)) {
            Some(chain) => {
                let begun = self.ask_enhanced(&chain, session);
                if let Some(guard) = &mut self.guard {
                    guard.enhanced = Some(Box::new(Enhanced { chain, again: None }));
                }
                begun
            }
            None => Identity::Known(Verdict::Refused {
                reason: ReasonCode::BadAuthenticationMethod,
                why: "authentication_method",
            }),
        }
    }

    fn ask_enhanced(&self, chain: &Arc<Chain>, session: &Session) -> Identity {
        let message = session.authentication().map(|(_, data)| data.to_vec()).unwrap_or_default();
        let from = self.guard.as_ref().map_or(Ipv4Addr::UNSPECIFIED.into(), |guard| guard.peer.ip());
        let (tell, begun) = oneshot::channel();
        let mailbox = self.mailbox.clone();
        self.shared.logins.begin(chain.clone(), (message, from), tell, mailbox);
        Identity::Begun(begun)
    }

    /// AUTH came: the second message of a CONNECT, or one of a client that authenticates again.
    pub(super) fn authenticate(&mut self, session: &mut Session, now: Instant) {
        let message = session.authentication().map(|(_, data)| data.to_vec()).unwrap_or_default();
        let Some(enhanced) = self.guard.as_mut().and_then(|guard| guard.enhanced.as_mut()) else {
            return;
        };
        let chain = enhanced.chain.clone();
        if let Some(admission) = &mut self.admission {
            admission.go_on(|exchange| chain.finish(exchange, &message, session.client_id()));
            return;
        }
        match enhanced.again.take() {
            Some(Identity::Challenged(exchange)) => {
                let (verdict, proof) = chain.finish(*exchange, &message, session.client_id());
                self.authenticated_again(&verdict, &proof, session, now);
            }
            _ => {
                let begun = self.ask_enhanced(&chain, session);
                if let Some(enhanced) = self.guard.as_mut().and_then(|guard| guard.enhanced.as_mut()) {
                    enhanced.again = Some(begun);
                }
            }
        }
    }

    /// Looks whether the first message of a client that authenticates again was taken.
    pub(super) fn regard_enhanced(&mut self, session: &mut Session, now: Instant) {
        let Some(enhanced) = self.guard.as_mut().and_then(|guard| guard.enhanced.as_mut()) else {
            return;
        };
        let Some(Identity::Begun(begun)) = &mut enhanced.again else {
            return;
        };
        match begun.try_recv() {
            Err(TryRecvError::Empty) => {}
            Ok(Ok((exchange, challenge))) => {
                enhanced.again = Some(Identity::Challenged(Box::new(exchange)));
                session.challenge(&challenge, now);
            }
            Ok(Err(verdict)) => self.authenticated_again(&verdict, &[], session, now),
            // It ended by a panic.
            Err(TryRecvError::Closed) => self.authenticated_again(&FAILED, &[], session, now),
        }
    }

    /// A client has authenticated again, or could not [MQTT-4.12.1-2].
    fn authenticated_again(&mut self, verdict: &Verdict, proof: &[u8], session: &mut Session, now: Instant) {
        let Some(guard) = &mut self.guard else { return };
        if let Some(enhanced) = &mut guard.enhanced {
            enhanced.again = None;
        }
        let (reason, why) = match verdict {
            Verdict::Accepted { principal, .. } if *principal == guard.principal => return session.reauthenticated(proof, now),
            Verdict::Accepted { .. } => (ReasonCode::NotAuthorized, "another_identity"),
            Verdict::Refused { reason, why } => (*reason, *why),
            Verdict::NotBound(_) => NOT_ITS_CLIENT_ID,
        };
        self.shared.metrics.refused(why);
        self.audit(Event::Login, session.client_id(), "", why, now);
        session.give_up(reason, "the client could not authenticate again", now);
    }
}
