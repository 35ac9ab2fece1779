//! One socket to one broker: requests out in order, answers back in the same order.
//!
//! A writer task and a reader task share a short queue. The broker answers in the order of the requests, so a FIFO of correlation
//! ids is all the matching there is. Once the framing is in doubt (a wrong id, an impossible length, bytes left over, an answer
//! that does not come in time) the connection is *poisoned*: nobody can tell any more which answer belongs to whom, so all who wait
//! are told that it broke, and it is closed. It does not reconnect; whoever drives the lane does.

use std::{
    collections::VecDeque,
    marker::PhantomData,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader},
    protocol::{Decodable, Encodable, HeaderVersion, StrBytes, VersionRange, encode_request_header_into_buffer},
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::Instant,
};

use super::{
    counters::Counters,
    frame::{api_name, decode},
    pumps::{read_answers, write_frames},
    settings::Settings,
    stream,
};

/// Largest answer that is taken from a lane that does not fetch.
pub(crate) const ORDINARY_FRAME: usize = 16 * 1024 * 1024;
/// Requests that may wait for an answer on one connection. Far above what the lanes send; a bound all the same.
const MOST_PENDING: usize = 1024;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection ended or was closed by us; whether the broker saw the request is unknown.
    Broken(Arc<str>),
    /// The request never left: it cannot be encoded, or both sides share no version of it.
    Unsendable(&'static str),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(why) => f.write_str(why),
            Self::Unsendable(why) => f.write_str(why),
        }
    }
}

/// The versions that a broker offers, by API key.
#[derive(Debug, Default)]
struct Versions(Vec<(i16, VersionRange)>);

/// An open connection. Dropping it closes the socket and ends both tasks.
pub(crate) struct Connection {
    wire: Arc<Wire>,
    versions: Versions,
    tasks: [JoinHandle<()>; 2],
}

/// What the two tasks and the senders share.
pub(super) struct Wire {
    /// Short: pushes and pops only.
    state: Mutex<WireState>,
    /// Rung when there is something to write.
    pub(super) outgoing: Notify,
    /// Rung when the connection is poisoned, for the reader, which may be asleep in a read.
    pub(super) poisoned: Notify,
    client_id: StrBytes,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct WireState {
    frames: VecDeque<Frame>,
    pending: VecDeque<Pending>,
    next_correlation: i32,
    broken: Option<Arc<str>>,
}

/// A request that is not written yet.
pub(super) struct Frame {
    pub(super) bytes: BytesMut,
    pub(super) deadline: Instant,
    /// Told when it is written, if no answer will come.
    pub(super) written: Option<oneshot::Sender<()>>,
}

/// A request that the broker will not answer, on its way to the socket. Dropping it does not stop the request.
pub(crate) struct Unanswered {
    written: oneshot::Receiver<()>,
    wire: Arc<Wire>,
}

/// A request whose answer has not come yet.
struct Pending {
    correlation: i32,
    deadline: Instant,
    reply: oneshot::Sender<Result<Bytes, CallError>>,
}

/// The answer to come of one request.
pub(crate) struct Call<R> {
    reply: oneshot::Receiver<Result<Bytes, CallError>>,
    api: ApiKey,
    version: i16,
    wire: Arc<Wire>,
    answer: PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects to `address`, asks for the versions and is then ready for requests. `largest` bounds one answer in bytes.
    pub(crate) async fn open(address: &str, settings: &Settings, counters: &Arc<Counters>, largest: usize) -> Result<Self, CallError> {
        let connected = stream::connect(address, settings.connect_timeout).await;
        let (read, write) = connected.map_err(|e| {
            counters.disconnects.inc();
            CallError::Broken(format!("{address}: {e}").into())
        })?;
        let wire = Arc::new(Wire {
            state: Mutex::default(),
            outgoing: Notify::new(),
            poisoned: Notify::new(),
            client_id: StrBytes::from_string(settings.client_id.clone()),
            counters: Arc::clone(counters),
        });
        let reader = tokio::spawn(read_answers(Arc::clone(&wire), read, largest));
        let writer = tokio::spawn(write_frames(Arc::clone(&wire), write));
        let mut connection = Self {
            wire,
            versions: Versions::default(),
            tasks: [reader, writer],
        };
        // An end from here on is counted by whoever poisons the wire.
        connection.versions = connection.ask_versions(settings.connect_timeout).await?;
        counters.connects.inc();
        Ok(connection)
    }

    /// The newest version of `api` that the broker, kafka-protocol and the caller (`most`) know.
    pub(crate) fn version(&self, api: ApiKey, most: i16) -> Option<i16> {
        let theirs = self.versions.0.iter().find(|(key, _)| *key == api as i16)?.1;
        let mut ours = api.valid_versions();
        ours.max = ours.max.min(most);
        let both = ours.intersect(&theirs);
        (!both.is_empty()).then_some(both.max)
    }

    /// Puts a request on the wire. The order of calls is the order on the wire; the answer is awaited on the returned value.
    pub(crate) fn send<Q, R>(&self, api: ApiKey, version: i16, request: &Q, within: Duration) -> Result<Call<R>, CallError>
    where
        Q: Encodable + HeaderVersion,
        R: Decodable + HeaderVersion,
    {
        let bytes = self.encode(api, version, request)?;
        let (reply, receiver) = oneshot::channel();
        let deadline = Instant::now() + within;
        let frame = Frame {
            bytes,
            deadline,
            written: None,
        };
        self.wire.enqueue(frame, Some(reply))?;
        self.wire.counters.request(api_name(api));
        Ok(Call {
            reply: receiver,
            api,
            version,
            wire: Arc::clone(&self.wire),
            answer: PhantomData,
        })
    }

    /// As [`send`](Self::send), for a request that the broker does not answer (Produce with `acks` 0).
    pub(crate) fn send_unanswered<Q>(&self, api: ApiKey, version: i16, request: &Q, within: Duration) -> Result<Unanswered, CallError>
    where
        Q: Encodable + HeaderVersion,
    {
        let bytes = self.encode(api, version, request)?;
        let (sender, written) = oneshot::channel();
        let frame = Frame {
            bytes,
            deadline: Instant::now() + within,
            written: Some(sender),
        };
        self.wire.enqueue(frame, None)?;
        self.wire.counters.request(api_name(api));
        Ok(Unanswered {
            written,
            wire: Arc::clone(&self.wire),
        })
    }

    /// Length, header and body; the place of the correlation id is left free.
    fn encode<Q: Encodable + HeaderVersion>(&self, api: ApiKey, version: i16, request: &Q) -> Result<BytesMut, CallError> {
        let header = RequestHeader::default()
            .with_request_api_key(api as i16)
            .with_request_api_version(version)
            .with_client_id(Some(self.wire.client_id.clone()));
        let size = request
            .compute_size(version)
            .map_err(|_| CallError::Unsendable("the request cannot be encoded"))?;
        let mut frame = BytesMut::with_capacity(size + 64 + self.wire.client_id.len());
        frame.put_u32(0);
        encode_request_header_into_buffer(&mut frame, &header)
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|_| CallError::Unsendable("the request cannot be encoded"))?;
        let length = u32::try_from(frame.len() - 4).map_err(|_| CallError::Unsendable("the request is too long"))?;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        Ok(frame)
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.wire.lock().broken.is_none()
    }

    /// ApiVersions in the newest version we know; a broker that does not know it answers 35 in the layout of version 0, and is
    /// asked again in that one (KIP-511).
    async fn ask_versions(&self, within: Duration) -> Result<Versions, CallError> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("mqtt-kafka-proxy"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        for version in [3, 0] {
            let call: Call<ApiVersionsResponse> = self.send(ApiKey::ApiVersions, version, &request, within)?;
            let wire = Arc::clone(&call.wire);
            let frame = call.frame().await?;
            // After the correlation id every version starts with the error code.
            if version > 0 && frame.get(4..6) == Some(&[0, 35]) {
                continue;
            }
            let answer: ApiVersionsResponse = decode(frame, ApiKey::ApiVersions, version).map_err(|why| wire.poison(why))?;
            if answer.error_code != 0 {
                return Err(wire.poison("the broker refused ApiVersions"));
            }
            let offered = answer.api_keys.iter().map(|k| {
                (
                    k.api_key,
                    VersionRange {
                        min: k.min_version,
                        max: k.max_version,
                    },
                )
            });
            return Ok(Versions(offered.collect()));
        }
        Err(self.wire.poison("the broker knows no version of ApiVersions that we know"))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.poison("closed by us");
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl<R: Decodable + HeaderVersion> Call<R> {
    /// Waits for the answer. Cancel-safe: a dropped wait can be taken up again.
    pub(crate) async fn answer(&mut self) -> Result<R, CallError> {
        let frame = match (&mut self.reply).await {
            Ok(result) => result?,
            Err(_) => return Err(CallError::Broken("closed".into())),
        };
        decode(frame, self.api, self.version).map_err(|why| self.wire.poison(why))
    }

    async fn frame(self) -> Result<Bytes, CallError> {
        self.reply.await.unwrap_or_else(|_| Err(CallError::Broken("closed".into())))
    }
}

impl Unanswered {
    /// Waits until the socket has taken it. Cancel-safe.
    pub(crate) async fn written(&mut self) -> Result<(), CallError> {
        let closed = || CallError::Broken(self.wire.lock().broken.clone().unwrap_or_else(|| "closed".into()));
        (&mut self.written).await.map_err(|_| closed())
    }
}

impl Wire {
    fn lock(&self) -> std::sync::MutexGuard<'_, WireState> {
        self.state.lock().expect("no code that holds this lock panics")
    }

    /// Takes what is to be written, and the time by which the oldest request must have its answer. `None`: it is poisoned.
    pub(super) fn take_frames(&self) -> Option<(VecDeque<Frame>, Option<Instant>)> {
        let mut state = self.lock();
        let frames = std::mem::take(&mut state.frames);
        let deadline = state.pending.front().map(|p| p.deadline);
        state.broken.is_none().then_some((frames, deadline))
    }

    /// Puts a request in line; with `reply` an answer is waited for.
    fn enqueue(&self, mut frame: Frame, reply: Option<oneshot::Sender<Result<Bytes, CallError>>>) -> Result<(), CallError> {
        let mut state = self.lock();
        if let Some(why) = &state.broken {
            return Err(CallError::Broken(Arc::clone(why)));
        }
        if state.pending.len() >= MOST_PENDING || state.frames.len() >= MOST_PENDING {
            return Err(CallError::Unsendable("too many requests wait on one connection"));
        }
        let correlation = state.next_correlation;
        state.next_correlation = correlation.wrapping_add(1);
        // The id stands behind length (4), API key (2) and version (2).
        frame.bytes[8..12].copy_from_slice(&correlation.to_be_bytes());
        let deadline = frame.deadline;
        state.frames.push_back(frame);
        state.pending.extend(reply.map(|reply| Pending {
            correlation,
            deadline,
            reply,
        }));
        drop(state);
        self.outgoing.notify_one();
        Ok(())
    }

    /// Ends the connection for `why`; everyone who waits is told. The first reason stays.
    pub(super) fn poison(&self, why: &str) -> CallError {
        let mut state = self.lock();
        let first = state.broken.is_none();
        let why: Arc<str> = Arc::clone(state.broken.get_or_insert_with(|| why.into()));
        let pending = std::mem::take(&mut state.pending);
        state.frames.clear();
        drop(state);
        if first && &*why != "closed by us" {
            self.counters.disconnects.inc();
        }
        for waiting in pending {
            // The receiver may be gone; then nobody asks any more.
            let _ = waiting.reply.send(Err(CallError::Broken(Arc::clone(&why))));
        }
        self.outgoing.notify_one();
        self.poisoned.notify_one();
        CallError::Broken(why)
    }

    /// Hands one frame to the request it answers.
    pub(super) fn settle(&self, frame: Bytes) -> Result<(), &'static str> {
        let correlation = frame.get(..4).map(|b| i32::from_be_bytes(b.try_into().expect("four bytes")));
        let waiting = {
            let mut state = self.lock();
            match (state.pending.front(), correlation) {
                (Some(front), Some(id)) if front.correlation == id => state.pending.pop_front(),
                _ => None,
            }
        };
        let waiting = waiting.ok_or("an answer that nobody asked for")?;
        let _ = waiting.reply.send(Ok(frame));
        Ok(())
    }
}
