//! The coordinator as Kafka's requests and answers: what the state machine asks for, on two connections.
//!
//! JoinGroup and SyncGroup are answered when all members have come, and a broker serves the requests of a connection one after the
//! other: heartbeats and commits would wait behind them. So those have a connection of their own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use kafka_protocol::{
    messages::{
        ApiKey, GroupId, HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse,
        SyncGroupRequest, SyncGroupResponse, join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::{Encodable, HeaderVersion, StrBytes},
};
use tokio::{sync::OnceCell, time::timeout};

use super::{
    embedded,
    finding::{find, unless_succeeded},
    limits, offsets,
    requests::{Answer, Joined, Request},
    settings::GroupSettings,
    task,
};
use crate::{
    kafka::error::ErrorCode,
    upstream::{
        answers::Answer as Decoded,
        cluster::Core,
        connection::{CallError, Connection, ORDINARY_FRAME},
    },
};

/// Kafka's name for groups whose members read topics.
const PROTOCOL_TYPE: &str = "consumer";
/// How this proxy shares partitions out, and what it writes beside them. Another number when either changes.
const PROTOCOL: &str = "mqtt-kafka-proxy-2";
/// The first versions that carry a `group.instance.id` (KIP-345), by API.
const STATIC: [(ApiKey, i16); 5] = [
    (ApiKey::JoinGroup, 5),
    (ApiKey::SyncGroup, 3),
    (ApiKey::Heartbeat, 3),
    (ApiKey::LeaveGroup, 3),
    (ApiKey::OffsetCommit, 7),
];

/// Who the member is.
pub(super) struct Identity {
    pub(super) settings: Arc<GroupSettings>,
    /// How often the coordinator was looked for.
    pub(super) searches: AtomicUsize,
}

/// Where the coordinator is, and the connections to it, each opened when it is first needed.
pub(super) struct Coordinator {
    node: i32,
    address: String,
    seat: OnceCell<Connection>,
    rest: OnceCell<Connection>,
    /// Bytes of all members' subscriptions, as the one that leads has heard of them.
    pub(super) subscribed: AtomicUsize,
}

/// Why there is no answer that says something.
pub(super) enum Fault {
    Call(CallError),
    Refused(ErrorCode, String),
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl Identity {
    pub(super) fn new(settings: Arc<GroupSettings>) -> Self {
        Self {
            settings,
            searches: AtomicUsize::new(0),
        }
    }

    pub(super) fn group(&self) -> GroupId {
        GroupId(text(&self.settings.group))
    }

    pub(super) fn instance(&self) -> Option<StrBytes> {
        self.settings.instance.as_deref().map(text)
    }
}

pub(super) fn text(of: &str) -> StrBytes {
    StrBytes::from_string(of.to_owned())
}

pub(super) fn millis(of: Duration) -> i32 {
    i32::try_from(of.as_millis()).unwrap_or(i32::MAX)
}

/// A heartbeat has at least so long, for the handshakes of a connection.
const LEAST_BEAT: Duration = Duration::from_secs(2);

/// Asks, within a bounded time. A coordinator that was found comes with the answer.
pub(super) async fn ask(core: &Core, me: &Identity, at: Option<&Coordinator>, request: Request) -> (Answer, Option<Coordinator>) {
    let patience = core.settings.connect_timeout + core.settings.request_timeout;
    let patience = match request {
        Request::Join { .. } | Request::Sync { .. } => patience + me.settings.rebalance_timeout,
        // There must be time to find its heir, more than once, before the session is over.
        Request::Heartbeat { .. } => patience.min((me.settings.session_timeout / 4).max(LEAST_BEAT)),
        _ => patience,
    };
    let asked = async {
        match (request, at) {
            (Request::Find, _) => find(core, me).await.map(|found| (Answer::Found, Some(found))),
            (Request::Count { topics }, _) => Ok((Answer::Counted(task::count(core, topics).await), None)),
            (request @ (Request::Join { .. } | Request::Sync { .. }), Some(at)) => {
                let asked = at.ask(core, me, request);
                unless_succeeded(core, me, at, asked).await.map(|answer| (answer, None))
            }
            (request, Some(at)) => at.ask(core, me, request).await.map(|answer| (answer, None)),
            (_, None) => Err(Fault::Call(CallError::Unsendable("the coordinator is not known"))),
        }
    };
    let failed = |why: String| (Answer::Failed { why }, None);
    match timeout(patience, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(Fault::Refused(error, why))) => {
            core.counters.error(error.name());
            (Answer::Refused { error, why }, None)
        }
        Ok(Err(Fault::Call(error))) => failed(error.to_string()),
        Err(_) => failed("no answer in time".to_owned()),
    }
}

/// The version to speak with a broker. A static member needs one that can carry its id.
pub(super) fn version_of(connection: &Connection, api: ApiKey, most: i16) -> Result<i16, CallError> {
    connection
        .version(api, most)
        .ok_or(CallError::Unsendable("the broker shares no version of the group protocol"))
}

/// Whether the broker has accepted a request.
pub(super) fn accepted(me: &Identity, what: &str, code: i16) -> Result<(), Fault> {
    let error = ErrorCode::from(code);
    if error.is_ok() {
        return Ok(());
    }
    let group = &me.settings.group;
    let cure = match code {
        23 => "the group has members that are not this proxy's, or of another build's protocol: they must leave it".to_owned(),
        24 => "the name of the group is not allowed".to_owned(),
        30 => "the proxy's principal needs READ on the group".to_owned(),
        81 => "the group has as many members as the brokers' group.max.size allows".to_owned(),
        _ => String::new(),
    };
    let why = format!("{what} for group {group}: {} {cure}", error.name());
    Err(Fault::Refused(error, why.trim_end().to_owned()))
}

impl Coordinator {
    pub(super) fn at(node: i32, address: String) -> Self {
        Self {
            node,
            address,
            seat: OnceCell::new(),
            rest: OnceCell::new(),
            subscribed: AtomicUsize::new(0),
        }
    }

    /// Whether both are the same broker at the same place.
    pub(super) fn is_at(&self, other: &Self) -> bool {
        (self.node, &self.address) == (other.node, &other.address)
    }

    /// The broker's id.
    pub(super) fn node(&self) -> i32 {
        self.node
    }

    async fn ask(&self, core: &Core, me: &Identity, request: Request) -> Result<Answer, Fault> {
        match request {
            Request::Join {
                member,
                topics,
                owned,
                generation,
            } => {
                let subscription = embedded::subscription(&topics, &me.settings.user_data, &owned, generation);
                self.join(core, me, &member, subscription).await
            }
            Request::Sync {
                member,
                generation,
                assignments,
            } => {
                let assignments = assignments.iter().map(|(member, assignment)| {
                    SyncGroupRequestAssignment::default()
                        .with_member_id(text(member))
                        .with_assignment(embedded::assignment(assignment))
                });
                self.sync(core, me, &member, generation, assignments.collect()).await
            }
            Request::Heartbeat { member, generation } => self.heartbeat(core, me, &member, generation).await,
            Request::Leave { member } => self.leave(core, me, &member).await,
            Request::Fetch { partitions } => offsets::fetch(self, core, me, &partitions).await,
            Request::Commit {
                member,
                generation,
                offsets,
            } => offsets::commit(self, core, me, &member, generation, &offsets).await,
            Request::Find | Request::Count { .. } => Err(Fault::Call(CallError::Unsendable("not a question for the coordinator"))),
        }
    }

    /// The version and the answer of a request on one of the connections.
    pub(super) async fn call<Q, R>(
        &self,
        core: &Core,
        me: &Identity,
        api: ApiKey,
        most: i16,
        make: impl FnOnce(i16) -> Q,
    ) -> Result<R, Fault>
    where
        Q: Encodable + HeaderVersion,
        R: Decoded,
    {
        let seat = matches!(api, ApiKey::JoinGroup | ApiKey::SyncGroup);
        let (cell, patience) = if seat {
            (&self.seat, me.settings.rebalance_timeout)
        } else {
            (&self.rest, Duration::ZERO)
        };
        let open = || Connection::open(&self.address, core, ORDINARY_FRAME);
        let connection = cell.get_or_try_init(open).await?;
        let version = version_of(connection, api, most)?;
        let carries = STATIC.iter().find(|(of, _)| *of == api).is_none_or(|(_, first)| version >= *first);
        if me.settings.instance.is_some() && !carries {
            return Err(Fault::Call(CallError::Unsendable(
                "the broker is too old for static members (KIP-345)",
            )));
        }
        let bound = patience + core.settings.request_timeout;
        Ok(connection.send(api, version, &make(version), bound)?.answer().await?)
    }

    async fn join(&self, core: &Core, me: &Identity, member: &str, subscription: bytes::Bytes) -> Result<Answer, Fault> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(PROTOCOL))
            .with_metadata(subscription);
        let make = |_| {
            JoinGroupRequest::default()
                .with_group_id(me.group())
                .with_session_timeout_ms(millis(me.settings.session_timeout))
                .with_rebalance_timeout_ms(millis(me.settings.rebalance_timeout))
                .with_member_id(text(member))
                .with_group_instance_id(me.instance())
                .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
                .with_protocols(vec![protocol])
        };
        let answer: JoinGroupResponse = self.call(core, me, ApiKey::JoinGroup, 9, make).await?;
        if ErrorCode::from(answer.error_code) == ErrorCode::MEMBER_ID_REQUIRED {
            let member = answer.member_id.to_string();
            return Ok(Answer::NamedBy { member });
        }
        if let Err(Fault::Refused(error, why)) = accepted(me, "JoinGroup", answer.error_code) {
            return Err(self.explain(core, me, error, why).await);
        }
        let leads = answer.leader == answer.member_id;
        let subscribed = answer.members.iter().map(|one| one.metadata.len()).sum();
        self.subscribed.store(subscribed, Relaxed);
        let members = answer.members.into_iter().map(|one| {
            let read = embedded::read_subscription(&one.member_id, one.metadata);
            read.unwrap_or_else(|| {
                tracing::warn!(
                    group = me.settings.group,
                    member = &*one.member_id,
                    "a member's subscription cannot be read"
                );
                (super::assign::Candidate::unreadable(&one.member_id), bytes::Bytes::new())
            })
        });
        Ok(Answer::Joined(Joined {
            generation: answer.generation_id,
            member: answer.member_id.to_string(),
            members: if leads { members.collect() } else { Vec::new() },
            leads,
            keeps_assignment: answer.skip_assignment,
        }))
    }

    /// A refusal of JoinGroup, with what the broker allows if that is the matter.
    async fn explain(&self, core: &Core, me: &Identity, error: ErrorCode, why: String) -> Fault {
        if error != ErrorCode::INVALID_SESSION_TIMEOUT {
            return Fault::Refused(error, why);
        }
        let limits = limits::session_timeouts(self, core, me).await;
        let asked = me.settings.session_timeout.as_millis();
        Fault::Refused(error, format!("{why}: {asked} ms, but the brokers have {limits}"))
    }

    async fn sync(
        &self,
        core: &Core,
        me: &Identity,
        member: &str,
        generation: i32,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<Answer, Fault> {
        let told = assignments.iter().map(|one| one.assignment.len()).sum();
        let given = (assignments.len(), told);
        let make = |version| {
            let request = SyncGroupRequest::default()
                .with_group_id(me.group())
                .with_generation_id(generation)
                .with_member_id(text(member))
                .with_group_instance_id(me.instance())
                .with_assignments(assignments);
            if version < 5 {
                return request;
            }
            request
                .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
                .with_protocol_name(Some(StrBytes::from_static_str(PROTOCOL)))
        };
        let answer: SyncGroupResponse = self.call(core, me, ApiKey::SyncGroup, 5, make).await?;
        if let Err(Fault::Refused(error, why)) = accepted(me, "SyncGroup", answer.error_code) {
            return Err(limits::sync_refused(self, core, me, (error, why), given).await);
        }
        let read = embedded::read_assignment(answer.assignment);
        // Nothing is given up for bytes that say nothing: it asks for another generation, as if the coordinator were away.
        read.map(Answer::Synced)
            .ok_or(Fault::Call(CallError::Unsendable("an assignment that cannot be read")))
    }

    async fn heartbeat(&self, core: &Core, me: &Identity, member: &str, generation: i32) -> Result<Answer, Fault> {
        let make = |_| {
            HeartbeatRequest::default()
                .with_group_id(me.group())
                .with_generation_id(generation)
                .with_member_id(text(member))
                .with_group_instance_id(me.instance())
        };
        let answer: HeartbeatResponse = self.call(core, me, ApiKey::Heartbeat, 4, make).await?;
        accepted(me, "Heartbeat", answer.error_code)?;
        Ok(Answer::Done)
    }

    async fn leave(&self, core: &Core, me: &Identity, member: &str) -> Result<Answer, Fault> {
        let make = |version| {
            let request = LeaveGroupRequest::default().with_group_id(me.group());
            if version < 3 {
                return request.with_member_id(text(member));
            }
            let identity = MemberIdentity::default()
                .with_member_id(text(member))
                .with_group_instance_id(me.instance());
            request.with_members(vec![identity])
        };
        let answer: LeaveGroupResponse = self.call(core, me, ApiKey::LeaveGroup, 5, make).await?;
        accepted(me, "LeaveGroup", answer.error_code)?;
        Ok(Answer::Done)
    }
}
