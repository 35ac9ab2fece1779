//! What a claimer makes of the session it finds.

use super::output::Offer;
use super::record::Millis;
use super::state::Body;
use super::will::{SendingWill, StoredWill};

/// The session under the new claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Adopted {
    pub(super) body: Body,
    /// Something goes on: session present.
    pub(super) present: bool,
    /// As it is again if the connection that asked is never answered.
    pub(super) before: Before,
}

/// What a CONNECT changes of the session that it finds, as that was. Of one that begins: that it is over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Before {
    pub(super) since: Millis,
    pub(super) expiry: u32,
    pub(super) will: Option<Box<StoredWill>>,
}

impl Before {
    /// Makes the session what it was.
    pub(super) fn restore(self, body: &mut Body) {
        body.connected = false;
        (body.since, body.expiry) = (self.since, self.expiry);
        body.will = self.will.map(|will| *will);
    }
}

/// Decides: goes the session on, and what becomes of its will?
///
/// A claimer that finds "connected" has met an abnormal end or a takeover: the connection is no more. The will of that connection is
/// cancelled by a return before its delay is over (§3.1.3.2.2), else it is due; it is also due when the session ends, whichever comes
/// first [MQTT-3.1.2-8]. Wills on their way are handed on whatever becomes of the session. A clean start whose connection is gone before its claim was read discards nothing: the session that is found may be of
/// a later connection, elsewhere.
pub(super) fn adopt(found: Option<Body>, offer: Option<&Offer>, now: Millis) -> Adopted {
    let Some(mut body) = found else {
        return answered(Body::fresh(now), None, offer, now);
    };
    body.left.get_or_insert(body.since);
    if body.connected {
        body.connected = false;
        body.since = now;
    }
    let over = body.expires_at().is_some_and(|at| at <= now);
    let goes_on = !over && !offer.is_some_and(|offer| offer.clean_start);
    if let Some(will) = body.will.take() {
        let due = body.since + u64::from(will.delay) * 1000 <= now;
        if due || !goes_on {
            body.sending.push(SendingWill { will, pairs: Vec::new() });
        } else {
            body.will = Some(will);
        }
    }
    if !goes_on {
        body = Body {
            sending: body.sending,
            ..Body::fresh(now)
        };
    }
    let before = goes_on.then(|| Before {
        since: body.since,
        expiry: body.expiry,
        will: body.will.clone().filter(|_| offer.is_some()).map(Box::new),
    });
    answered(body, before, offer, now)
}

/// With the connection that asked, if there is one.
fn answered(mut body: Body, before: Option<Before>, offer: Option<&Offer>, now: Millis) -> Adopted {
    if let Some(offer) = offer {
        body.connected = true;
        body.since = now;
        body.expiry = offer.expiry;
        body.will.clone_from(&offer.will);
    }
    Adopted {
        body,
        present: before.is_some(),
        before: before.unwrap_or_default(),
    }
}
