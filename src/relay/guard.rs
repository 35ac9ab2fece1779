//! Who the client of a connection is, and the questions what it may do.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::{
    authenticate::{Begun, Shown, now_seconds},
    desk::Desk,
    enhanced::Enhanced,
    identities::Counted,
    settings::{Access, Unauthorized},
};
use crate::{
    audit::{Event, Whom},
    auth::{Action, Chain, Exchange, Inquiry, Method, NOT_ITS_CLIENT_ID, Principal, Rights, Step, Subject, Verdict},
    downstream::{CertificateIdentity, Link},
    mqtt::{Publish, QoS, ReasonCode, Version},
    session::{Answer, Cause, Close, Session},
};

/// Bytes of the longest topic that is remembered as allowed.
const LONGEST_REMEMBERED: usize = 256;
/// Allowed topics that are remembered of a connection.
const MOST_REMEMBERED: usize = 8;

/// What is known of the client of one connection.
#[derive(Debug)]
pub struct Guard {
    pub(super) peer: SocketAddr,
    /// Until the client is asked about.
    pub(super) chain: Option<Arc<Chain>>,
    rights: Option<Arc<Rights>>,
    /// Until its CONNECT is answered.
    pub(super) certificate: Option<Box<CertificateIdentity>>,
    /// Whom a refused login is told of while no method has said who it is.
    pub(super) named: Option<Box<str>>,
    pub(super) principal: Option<Principal>,
    /// Of a client that has named an authentication method.
    pub(super) enhanced: Option<Box<Enhanced>>,
    /// If identities have a limit.
    counted: Option<Counted>,
    /// When its credentials are good no longer, and why.
    pub expires: Option<(Instant, &'static str)>,
    /// What was allowed, last in use first: most devices have a few topics.
    allowed: Vec<Allowed>,
}

#[derive(Debug)]
struct Allowed {
    topic: Box<str>,
    qos: QoS,
    retain: bool,
}

/// How far the question is who a client is.
#[derive(Debug)]
pub enum Identity {
    /// Asked.
    Asked(oneshot::Receiver<Verdict>),
    /// The first message of enhanced authentication is looked at; the mailbox is rung then.
    Begun(oneshot::Receiver<Begun>),
    /// The client is to send the second one.
    Challenged(Box<Exchange>),
    /// Answered.
    Known(Verdict),
}

impl Identity {
    /// Whether it is known, or why a client is refused whose connection ends before.
    pub fn concluded(&self) -> Result<(), &'static str> {
        match self {
            Self::Known(_) => Ok(()),
            Self::Asked(_) | Self::Begun(_) => Err("login_unanswered"),
            Self::Challenged(_) => Err("authentication_unfinished"),
        }
    }

    /// Until there is an answer. Cancel-safe.
    pub async fn answered(&mut self) {
        let asked = match self {
            Self::Asked(asked) => asked,
            Self::Known(_) => return,
            Self::Begun(_) | Self::Challenged(_) => return std::future::pending().await,
        };
        let verdict = asked.await.unwrap_or(Verdict::Refused {
            reason: ReasonCode::UnspecifiedError,
            why: "login_failed",
        });
        *self = Self::Known(verdict);
    }
}

impl Guard {
    /// `None` where neither credentials nor rights are asked for.
    pub fn new(link: &Link, access: &Access) -> Option<Box<Self>> {
        let chain = access.chain(link.listener());
        if chain.is_none() && access.rights.is_none() {
            return None;
        }
        let by_certificate = |chain: &Arc<Chain>| chain.methods().any(|m| matches!(m, Method::Certificate(_) | Method::Http(_)));
        let certificate = match &chain {
            Some(chain) if by_certificate(chain) => link.identity().cloned().map(Box::new),
            _ => None,
        };
        Some(Box::new(Self {
            peer: link.peer(),
            chain,
            rights: access.rights.clone(),
            certificate,
            named: None,
            principal: None,
            enhanced: None,
            counted: None,
            expires: None,
            allowed: Vec::new(),
        }))
    }

    /// Where the client comes from; `None`: by a Unix socket, and no balancer says.
    fn address(&self) -> Option<SocketAddr> {
        Some(self.peer).filter(|peer| !peer.ip().to_canonical().is_unspecified())
    }

    fn subject<'a>(&'a self, client: &'a str) -> Subject<'a> {
        Subject {
            principal: self.principal.as_ref(),
            client,
        }
    }

    fn may_publish(&mut self, client: &str, topic: &str, qos: QoS, retain: bool) -> bool {
        let Some(rights) = &self.rights else { return true };
        let same = |a: &Allowed| (a.qos, a.retain) == (qos, retain) && *a.topic == *topic;
        if let Some(at) = self.allowed.iter().position(same) {
            self.allowed[..=at].rotate_right(1);
            return true;
        }
        let may = rights.permit(&self.subject(client), Action::Publish { retain }, topic, qos);
        if may && topic.len() <= LONGEST_REMEMBERED {
            self.allowed.truncate(MOST_REMEMBERED - 1);
            self.allowed.insert(
                0,
                Allowed {
                    topic: topic.into(),
                    qos,
                    retain,
                },
            );
        }
        may
    }
}

impl Desk {
    /// Asks who a client is. Where nobody asks it is known to be nobody.
    pub(super) fn identify(&mut self, session: &Session) -> Identity {
        if session.authentication().is_some() {
            return self.begin_enhanced(session);
        }
        let nobody = Verdict::Accepted {
            principal: None,
            expires: None,
        };
        let Some(guard) = &mut self.guard else {
            return Identity::Known(nobody);
        };
        let Some(chain) = guard.chain.take() else {
            return Identity::Known(nobody);
        };
        let shown = Shown {
            client: session.client_id().to_owned(),
            username: session.username().map(str::to_owned),
            password: session.password().map(|p| Zeroizing::new(p.to_vec())),
            certificate: guard.certificate.take().map(|c| *c),
            address: guard.address(),
        };
        let credentials = shown.credentials();
        guard.named = chain.named(&credentials).map(Into::into);
        if !chain.is_slow(&credentials)
            && let Step::Decided(verdict) = chain.go_on(&mut Inquiry::default(), &credentials, now_seconds())
        {
            return Identity::Known(verdict);
        }
        let (tell, asked) = oneshot::channel();
        self.shared.logins.ask(chain, shown, tell);
        Identity::Asked(asked)
    }

    /// Who the client was recognised as, if the rules ask.
    pub(super) fn identity(&self) -> Option<Arc<str>> {
        let guard = self.guard.as_ref().filter(|_| self.shared.rules.ask_identity())?;
        Some(guard.principal.as_ref()?.name.clone())
    }

    /// Takes the answer about a client that comes from `peer`. `assigned` is the client id of one that has sent none: who comes back with it is the
    /// same client. False: it is not let in, and was told so.
    pub(super) fn recognise(
        &mut self,
        verdict: Verdict,
        assigned: Option<&str>,
        session: &mut Session,
        peer: SocketAddr,
        now: Instant,
    ) -> bool {
        let seat = self.seat(&verdict, assigned.unwrap_or(session.client_id()));
        match verdict {
            Verdict::Accepted { principal, expires } if seat.is_ok() => {
                if let Some(guard) = &mut self.guard {
                    guard.principal = principal;
                    guard.named = None;
                    guard.allowed.clear();
                    guard.counted = seat.unwrap_or_default();
                    guard.expires = expires.and_then(|end| {
                        let left = Duration::from_secs(end.at.saturating_sub(now_seconds()));
                        // Beyond what an Instant can say is never.
                        Some((now.checked_add(left)?, end.reason))
                    });
                }
                true
            }
            Verdict::Accepted { principal, .. } => {
                let name = principal.map(|known| known.name);
                self.turn_away(name.as_deref(), (ReasonCode::QuotaExceeded, "identity_limit"), session, peer, now)
            }
            Verdict::Refused { reason, why } => self.turn_away(None, (reason, why), session, peer, now),
            Verdict::NotBound(name) => self.turn_away(Some(&name), NOT_ITS_CLIENT_ID, session, peer, now),
        }
    }

    /// Counts a client among those of its identity. An error: these are as many as may be.
    fn seat(&self, verdict: &Verdict, client: &str) -> Result<Option<Counted>, ()> {
        match (&self.shared.identities, verdict) {
            (
                Some(identities),
                Verdict::Accepted {
                    principal: Some(known), ..
                },
            ) => identities.enter(&known.name, client).map(Some).ok_or(()),
            _ => Ok(None),
        }
    }

    /// Tells a client that it is not let in. False, always.
    fn turn_away(
        &mut self,
        identity: Option<&str>,
        (reason, why): (ReasonCode, &'static str),
        session: &mut Session,
        peer: SocketAddr,
        now: Instant,
    ) -> bool {
        self.tell_login(session, identity, why, Some(peer), now);
        session.refuse(reason, now);
        false
    }

    /// Counts and tells a login that was refused. Without a `peer` it is whom somebody is asked about.
    pub(super) fn tell_login(&self, session: &Session, identity: Option<&str>, why: &'static str, peer: Option<SocketAddr>, now: Instant) {
        self.shared.metrics.refused(why);
        let guard = self.guard.as_ref();
        let named = guard.and_then(|guard| guard.named.as_deref());
        let whom = Whom {
            client: session.client_id(),
            identity: identity.or(named).or(session.username()).unwrap_or(""),
            peer: peer.or(guard.map(|guard| guard.peer)),
        };
        self.shared.audit.tell(Event::Login, whom, "", why, now);
    }

    /// Ends a session whose credentials have expired, also one whose CONNECT still waits for Kafka or the store.
    pub(super) fn regard_expiry(&mut self, session: &mut Session, now: Instant) {
        let Some(guard) = &mut self.guard else { return };
        let Some((_, reason)) = guard.expires.filter(|(at, _)| *at <= now && !session.is_closed()) else {
            return;
        };
        guard.expires = None;
        self.audit(Event::Expired, session.client_id(), "", reason, now);
        session.give_up(ReasonCode::NotAuthorized, "the credentials have expired", now);
    }

    /// Whether a PUBLISH is allowed; a refusal is counted and told.
    pub(super) fn may_publish(&mut self, session: &Session, publish: &Publish<'_>) -> bool {
        self.may_send(session.client_id(), session.resolved_topic(publish), publish)
    }

    /// The same for a message whose topic is known, as of a will.
    pub(super) fn may_send(&mut self, client: &str, topic: &str, publish: &Publish<'_>) -> bool {
        let Some(guard) = &mut self.guard else { return true };
        if guard.may_publish(client, topic, publish.qos, publish.retain) {
            return true;
        }
        self.shared.metrics.refused(ReasonCode::NotAuthorized.name());
        self.audit(Event::Publish, client, topic, "no_right", Instant::now());
        false
    }

    /// What a client is told of a message that it must not publish.
    pub(super) fn unauthorized(&self, version: Version) -> Answer {
        if version != Version::V5 && self.shared.settings.access.unauthorized == Unauthorized::Drop {
            return Answer::Acked;
        }
        Answer::Refused {
            reason: ReasonCode::NotAuthorized,
            reason_string: Some(ReasonCode::NotAuthorized.name()),
        }
    }

    /// A message that is answered so in any other case: of 3.x the end is the answer, and needs no packet id (`unauthorized: close`).
    pub(super) fn refused_at_qos_0(session: &mut Session, answer: &Answer, now: Instant) {
        if let Answer::Refused { reason, .. } = answer
            && session.version() != Version::V5
        {
            session.refused_at_qos_0(*reason, now);
        }
    }

    /// Why a login is refused by the end of its connection; `None`: it was decided, or the client has gone by itself, or all are ended.
    pub(super) fn unfinished_login(&self, close: &Close) -> Option<&'static str> {
        if close.cause == Cause::Client || close.reason == ReasonCode::ServerShuttingDown {
            return None;
        }
        self.admission.as_ref()?.identity.as_ref()?.concluded().err()
    }

    /// Whether a subscription is allowed, asked for now or of a session that goes on; a refusal is told.
    pub(super) fn may_keep(&self, client: &str, filter: &str, qos: QoS, now: Instant) -> bool {
        let Some(guard) = &self.guard else { return true };
        let Some(rights) = &guard.rights else { return true };
        let may = rights.permit(&guard.subject(client), Action::Subscribe, filter, qos);
        if !may {
            self.audit(Event::Subscribe, client, filter, "no_right", now);
        }
        may
    }

    /// A line of the audit log about a connection that ends another one, or is ended, for its client id. Its address is its socket's: who
    /// asks for no credentials is told of it, too.
    pub(super) fn tell_takeover(&self, client: &str, peer: SocketAddr, reason: &str, now: Instant) {
        let identity = self.guard.as_ref().and_then(|g| g.principal.as_ref()).map_or("", |p| &p.name);
        let peer = Some(peer);
        let whom = Whom { client, identity, peer };
        self.shared.audit.tell(Event::Takeover, whom, "", reason, now);
    }

    /// A line of the audit log about this connection's client.
    pub(super) fn audit(&self, event: Event, client: &str, topic: &str, reason: &str, now: Instant) {
        let guard = self.guard.as_ref();
        let whom = Whom {
            client,
            identity: guard.and_then(|g| g.principal.as_ref()).map_or("", |p| &p.name),
            peer: guard.map(|g| g.peer),
        };
        self.shared.audit.tell(event, whom, topic, reason, now);
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
