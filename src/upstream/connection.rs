//! One socket to one broker: requests out in order, answers back in the same order.
//!
//! A writer task and a reader task share a short queue. The broker answers in the order of the requests, so a FIFO of correlation
//! ids is all the matching there is. Once the framing is in doubt (a wrong id, an impossible length, bytes left over, an answer
//! that does not come in time) the connection is *poisoned*: nobody can tell any more which answer belongs to whom, so all who wait
//! are told that it broke, and it is closed. It does not reconnect; whoever drives the lane does.

use std::{
    marker::PhantomData,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{ApiKey, RequestHeader},
    protocol::{Encodable, HeaderVersion, encode_request_header_into_buffer},
};
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

use super::{
    answers::Answer,
    frame::{api_name, decode},
    pieces::Pieces,
    versions::Versions,
    wire::{CLOSED_BY_US, Frame, Wire},
};

/// Largest answer that is taken from a lane that does not fetch.
pub(crate) const ORDINARY_FRAME: usize = 16 * 1024 * 1024;

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection ended or was closed by us; whether the broker saw the request is unknown.
    Broken(Arc<str>),
    /// The broker does not take us, or we do not take it, until an operator mends it: certificates, credentials.
    Refused(Arc<str>),
    /// The request never left: it cannot be encoded, or both sides share no version of it.
    Unsendable(&'static str),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Broken(why) | Self::Refused(why) => f.write_str(why),
            Self::Unsendable(why) => f.write_str(why),
        }
    }
}

/// An open connection. Dropping it closes the socket and ends both tasks.
pub(crate) struct Connection {
    /// `host:port`, as it was dialled.
    pub(crate) address: Arc<str>,
    pub(super) wire: Arc<Wire>,
    pub(super) versions: Versions,
    pub(super) tasks: Vec<JoinHandle<()>>,
}

/// A request that the broker will not answer, on its way to the socket. Dropping it does not stop the request.
pub(crate) struct Unanswered {
    written: oneshot::Receiver<()>,
    wire: Arc<Wire>,
}

/// The answer to come of one request.
pub(crate) struct Call<R> {
    reply: oneshot::Receiver<Result<Bytes, CallError>>,
    api: ApiKey,
    version: i16,
    wire: Arc<Wire>,
    answer: PhantomData<fn() -> R>,
}

/// The body of a request.
pub(crate) trait Body {
    /// Writes it behind the header.
    fn put(&self, version: i16, into: &mut Pieces) -> Result<(), CallError>;
}

impl<Q: Encodable + HeaderVersion> Body for Q {
    fn put(&self, version: i16, into: &mut Pieces) -> Result<(), CallError> {
        let size = self.compute_size(version).map_err(|_| NO_CODE)?;
        into.end().reserve(size);
        self.encode(into.end(), version).map_err(|_| NO_CODE)
    }
}

const NO_CODE: CallError = CallError::Unsendable("the request cannot be encoded");

impl Connection {
    /// The newest version of `api` that the broker, kafka-protocol and the caller (`most`) know.
    pub(crate) fn version(&self, api: ApiKey, most: i16) -> Option<i16> {
        self.versions.newest(api, most)
    }

    /// Whether the broker offers this version of an API that we encode ourselves.
    pub(crate) fn offers(&self, api: ApiKey, version: i16) -> bool {
        self.versions.offers(api, version)
    }

    /// Puts a request on the wire. The order of calls is the order on the wire; the answer is awaited on the returned value.
    pub(crate) fn send<Q, R>(&self, api: ApiKey, version: i16, request: &Q, within: Duration) -> Result<Call<R>, CallError>
    where
        Q: Body,
        R: Answer,
    {
        self.wire.send(api, version, request, within)
    }

    /// As [`send`](Self::send), for a request that the broker does not answer (Produce with `acks` 0).
    pub(crate) fn send_unanswered<Q>(&self, api: ApiKey, version: i16, request: &Q, within: Duration) -> Result<Unanswered, CallError>
    where
        Q: Body,
    {
        self.wire.send_unanswered(api, version, request, within)
    }

    /// Resolves once it is closed. Does not borrow it.
    pub(crate) fn closed(&self) -> impl Future<Output = ()> + use<> {
        let wire = Arc::clone(&self.wire);
        async move { wire.closed().await }
    }

    /// Bytes that came on it so far.
    pub(crate) fn heard(&self) -> u64 {
        self.wire.heard.load(Relaxed)
    }

    /// Until when the broker wants no request (KIP-219), if it wants none now.
    pub(crate) fn throttled(&self) -> Option<Instant> {
        self.wire.throttled()
    }

    /// Whether requests can still be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.wire.broken().is_none()
    }
}

impl Wire {
    /// See [`Connection::send`].
    pub(super) fn send<Q, R>(self: &Arc<Self>, api: ApiKey, version: i16, request: &Q, within: Duration) -> Result<Call<R>, CallError>
    where
        Q: Body,
        R: Answer,
    {
        let pieces = self.encode(api, version, request)?;
        let (reply, receiver) = oneshot::channel();
        let deadline = Instant::now() + within;
        let frame = Frame {
            pieces,
            deadline,
            written: None,
        };
        self.enqueue(frame, Some(reply))?;
        self.counters.request(api_name(api));
        Ok(Call {
            reply: receiver,
            api,
            version,
            wire: Arc::clone(self),
            answer: PhantomData,
        })
    }

    fn send_unanswered<Q>(self: &Arc<Self>, api: ApiKey, version: i16, request: &Q, within: Duration) -> Result<Unanswered, CallError>
    where
        Q: Body,
    {
        let pieces = self.encode(api, version, request)?;
        let (sender, written) = oneshot::channel();
        let frame = Frame {
            pieces,
            deadline: Instant::now() + within,
            written: Some(sender),
        };
        self.enqueue(frame, None)?;
        self.counters.request(api_name(api));
        Ok(Unanswered {
            written,
            wire: Arc::clone(self),
        })
    }

    /// Length, header and body; the place of the correlation id is left free.
    fn encode<Q: Body>(&self, api: ApiKey, version: i16, request: &Q) -> Result<Pieces, CallError> {
        let header = RequestHeader::default()
            .with_request_api_key(api as i16)
            .with_request_api_version(version)
            .with_client_id(Some(self.client_id.clone()));
        let mut head = BytesMut::with_capacity(64 + self.client_id.len());
        head.put_u32(0);
        encode_request_header_into_buffer(&mut head, &header).map_err(|_| NO_CODE)?;
        let mut pieces = Pieces::starting(head);
        request.put(version, &mut pieces)?;
        let length = i32::try_from(pieces.len() - 4).map_err(|_| CallError::Unsendable("the request is too long"))?;
        pieces.head[..4].copy_from_slice(&length.to_be_bytes());
        Ok(pieces)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.poison(CLOSED_BY_US);
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl<R: Answer> Call<R> {
    /// Waits for the answer. Cancel-safe: a dropped wait can be taken up again.
    pub(crate) async fn answer(&mut self) -> Result<R, CallError> {
        let frame = match (&mut self.reply).await {
            Ok(result) => result?,
            Err(_) => return Err(CallError::Broken("closed".into())),
        };
        let decoded = decode(frame, self.api, self.version);
        let (answer, _): (R, _) = decoded.map_err(|why| self.wire.poison(why))?;
        self.wire.throttle(answer.throttle_time_ms());
        Ok(answer)
    }

    /// The answer as it came.
    pub(super) async fn frame(self) -> Result<Bytes, CallError> {
        self.reply.await.unwrap_or_else(|_| Err(CallError::Broken("closed".into())))
    }
}

impl Unanswered {
    /// Waits until the socket has taken it. Cancel-safe.
    pub(crate) async fn written(&mut self) -> Result<(), CallError> {
        let closed = || self.wire.broken().unwrap_or_else(|| CallError::Broken("closed".into()));
        (&mut self.written).await.map_err(|_| closed())
    }
}
