//! The sockets of RPC, and what each may take: jsonrpsee counts requests, and a client that is slow on purpose costs without ever making one.
//!
//! ```text
//!   accept ─▶ Seats: so many in all, so many from one address (else 503 and closed)
//!     │
//!     ▼ Socket: does not read on from who does not read, and gives up on who reads nothing at all; takes turns with the others
//!   hyper ─▶ the head of a request in time ─▶ Timely: its body in time
//!     │
//!     ▼ jsonrpsee: requests and sessions at a time (429), batch, body
//!   Guarded: requests a second from one address, calls of a session under way, their bytes, and those of answers that are not read; counts and
//!     │      times each call
//!     │
//!     ▼ Handler
//! ```

use super::error::RpcError;
use super::unsent::{self, Reserved, Unsent};
use crate::config;
use crate::metrics::Metrics;
use crate::socket::{Seats, Socket, network};
use governor::{DefaultKeyedRateLimiter, InsufficientCapacity, Quota, RateLimiter};
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use jsonrpsee::core::middleware::{
    Batch, BatchEntry, Notification, RpcServiceBuilder, RpcServiceT,
};
use jsonrpsee::server::{
    BatchRequestConfig, BatchResponseBuilder, HttpRequest, MethodResponse, Methods, PingConfig,
    Server, ServerConfig, ServerHandle, StopHandle, TowerServiceBuilder, stop_channel,
};
use jsonrpsee::types::Request;
use serde::Deserialize;
use serde_json::value::RawValue;
use slackline_client::openrpc;
use slackline_executor::params::Limits;
use std::future::Future;
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tower::{Service, layer::util::Identity};

/// Room in a request for everything but the hexadecimal transaction, in bytes.
const REQUEST_SLACK_BYTES: usize = 64 << 10;
/// Room in a response for everything but hexadecimal data, in bytes. A revert's message comes a second time as text,
/// of which JSON can make six bytes for each.
const RESPONSE_SLACK_BYTES: usize = 1 << 20;
/// After how many connections the addresses that have been quiet are forgotten.
const FORGET_EVERY: u32 = 1_024;
/// What who is one too many is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 21\r\nconnection: close\r\n\r\ntoo many connections\n";
/// What is read, and thrown away, of a body after it was refused, in bytes. Where that is not the end of it the connection is closed, and who is still
/// sending then may not get to read why.
const REFUSED_BYTES: u64 = 16 << 20;
/// What the requests under way may take together, in bytes: who waits for a transaction keeps what he has sent of it.
const REQUESTS_BYTES: usize = 128 << 20;
/// Of that, those of one connection.
const OWN_REQUESTS_BYTES: usize = 32 << 20;
/// How many times a request is in memory while it is read: as it came, and what was made of it.
const COPIES: usize = 2;
/// Calls that read the database at a time. Each has the whole answer in memory before it is known how large that is.
pub const READERS: usize = 16;
/// How long to wait when no connection can be accepted: open ones have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An open port. Connections wait until [`Listener::start`].
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    service: TowerServiceBuilder<Identity, Identity>,
    rpc: config::Rpc,
    response_bytes: usize,
}

impl Listener {
    /// Opens the port at [`config::Rpc::listen`].
    ///
    /// # Errors
    ///
    /// The address cannot be listened on.
    pub async fn bind(
        address: SocketAddr,
        rpc: config::Rpc,
        limits: Limits,
    ) -> io::Result<Listener> {
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        // The largest answers are a call's input, and the data and the events of a receipt; two digits for a byte.
        let event = limits.event_bytes + 32 * (1 + limits.event_topics) + 64;
        let answer =
            2 * (limits.transaction_bytes + limits.events * event) + (2 + 6) * limits.data_bytes;
        let response_bytes = answer + RESPONSE_SLACK_BYTES;
        let config = ServerConfig::builder()
            .max_request_body_size(bytes(2 * limits.transaction_bytes + REQUEST_SLACK_BYTES))
            .max_response_body_size(bytes(response_bytes))
            .max_connections(rpc.max_connections)
            .max_subscriptions_per_connection(rpc.max_subscriptions)
            .set_batch_request_config(BatchRequestConfig::Limit(rpc.max_batch))
            // Sessions whose client is gone without a word end after two pings.
            .enable_ws_ping(PingConfig::new().max_failures(2))
            .build();
        Ok(Listener {
            tcp: TcpListener::bind(address).await?,
            service: Server::builder().set_config(config).to_service_builder(),
            rpc,
            response_bytes,
        })
    }

    /// Where it is.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves `methods` until the handle says so, on the runtime that this is called on.
    pub fn start(self, methods: impl Into<Methods>, metrics: Arc<Metrics>) -> ServerHandle {
        let (stop, handle) = stop_channel();
        tokio::spawn(self.accept(methods.into(), metrics, stop));
        handle
    }

    async fn accept(self, methods: Methods, metrics: Arc<Metrics>, stop: StopHandle) {
        let patience = Duration::from_millis(self.rpc.timeout_ms);
        let seats = Seats::new(
            self.rpc.max_sockets as usize,
            self.rpc.max_sockets_per_ip as usize,
        );
        let room = unsent::room();
        let requests = Arc::new(Semaphore::new(REQUESTS_BYTES));
        let readers = Arc::new(Semaphore::new(READERS));
        let rate = NonZeroU32::new(self.rpc.requests_per_second);
        let rate = rate.map(|rate| Arc::new(RateLimiter::keyed(Quota::per_second(rate))));
        let mut until_forgetting = FORGET_EVERY;
        let mut stopped = pin!(stop.clone().shutdown());
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                () = &mut stopped => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let peer = network(peer.ip());
            let Some(seat) = seats.take(peer) else {
                metrics.rpc_connection_refused();
                // As much of it as the kernel takes: nobody waits for who is one too many.
                if let Ok(mut stream) = stream.into_std() {
                    let _ = stream.write(TOO_MANY);
                }
                continue;
            };
            until_forgetting -= 1;
            if until_forgetting == 0 {
                until_forgetting = FORGET_EVERY;
                if let Some(rate) = &rate {
                    rate.retain_recent();
                }
            }
            // Answers are small, and waited for.
            let _ = stream.set_nodelay(true);
            let unsent = Unsent::new(room.clone());
            let socket = Counted {
                socket: Socket::new(stream, patience, seat),
                unsent: unsent.clone(),
            };
            let guard = Guard {
                peer,
                rate: rate.clone(),
                most_calls: self.rpc.max_calls,
                calls: Arc::new(Semaphore::new(self.rpc.max_calls as usize)),
                own_requests: Arc::new(Semaphore::new(OWN_REQUESTS_BYTES)),
                requests: requests.clone(),
                readers: readers.clone(),
                unsent,
                response_bytes: self.response_bytes,
                metrics: metrics.clone(),
            };
            let middleware = RpcServiceBuilder::new().layer_fn(move |inner| Guarded {
                inner,
                guard: guard.clone(),
            });
            let service = self.service.clone().set_rpc_middleware(middleware);
            let service = service.build(methods.clone(), stop.clone());
            let stop = stop.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: hyper::Request<Incoming>| {
                    let request: HttpRequest<_> = request.map(|body| Timely::new(body, patience));
                    let answering = service.clone().call(request);
                    async move { answering.await.map_err(io::Error::other) }
                });
                let mut connection = pin!(
                    hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .header_read_timeout(patience)
                        .serve_connection(TokioIo::new(socket), service)
                        .with_upgrades()
                );
                let ended = tokio::select! {
                    ended = &mut connection => ended,
                    () = stop.shutdown() => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                };
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection has ended");
                }
            });
        }
    }
}

/// A socket that says how much it has written.
#[derive(Debug)]
struct Counted {
    socket: Socket,
    unsent: Arc<Unsent>,
}

impl Counted {
    fn wrote(&self, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.unsent.sent(*bytes);
        }
        wrote
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.socket).poll_write_vectored(context, parts);
        self.wrote(wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.unsent.close();
    }
}

/// The body of a request, all of which has to come in time.
///
/// What is left of it when its reader has had enough is read all the same, up to [`REFUSED_BYTES`]: closing a connection with bytes unread
/// resets it, and the client, which is still sending, would learn that instead of the answer (RFC 9112, 9.6).
struct Timely {
    /// None once it is dropped.
    body: Option<Incoming>,
    deadline: Pin<Box<Sleep>>,
}

impl Timely {
    fn new(body: Incoming, patience: Duration) -> Timely {
        Timely {
            body: Some(body),
            deadline: Box::pin(tokio::time::sleep(patience)),
        }
    }
}

impl Body for Timely {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        match Pin::new(body).poll_frame(context) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other))),
            Poll::Pending => {
                ready!(self.deadline.as_mut().poll(context));
                Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Timely {
    fn drop(&mut self) {
        let Some(mut rest) = self.body.take() else {
            return;
        };
        if rest.is_end_stream() || rest.size_hint().lower() > REFUSED_BYTES {
            return;
        }
        let deadline = self.deadline.deadline();
        // There is none any more when a runtime drops its tasks.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout_at(deadline, async move {
                let mut read = 0;
                while let Some(Ok(frame)) = rest.frame().await
                    && read <= REFUSED_BYTES
                {
                    read += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
            }));
        }
    }
}

/// What is asked before each call of a connection.
#[derive(Clone)]
struct Guard {
    peer: IpAddr,
    rate: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    most_calls: u32,
    /// Of the connection.
    calls: Arc<Semaphore>,
    /// Bytes of its requests that may be under way.
    own_requests: Arc<Semaphore>,
    /// Bytes of all requests.
    requests: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    unsent: Arc<Unsent>,
    response_bytes: usize,
    metrics: Arc<Metrics>,
}

impl Guard {
    /// Each transaction of a call that submits several counts as a request.
    fn check_rate(&self, method: &str, request: &Request<'_>) -> Result<(), RpcError> {
        let Some(rate) = &self.rate else {
            return Ok(());
        };
        let requests = match method {
            "submit_transactions" => submitted(request),
            _ => NonZeroU32::MIN,
        };
        match rate.check_key_n(&self.peer, requests) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(RpcError::TryAgainLater {
                reason: "more requests a second from one address than are answered".to_owned(),
            }),
            Err(InsufficientCapacity(most)) => Err(RpcError::InvalidParams {
                parameter: "transactions".to_owned(),
                reason: format!("{requests} at once, and one address may send {most} a second"),
                cause: None,
            }),
        }
    }
}

/// What a request, or a batch of them, has of the room for requests.
type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Guard {
    /// Room for requests with parameters of `bytes` bytes, until they are answered.
    fn hold(&self, bytes: usize) -> Result<Held, RpcError> {
        let take = |room: &Arc<Semaphore>| {
            let count = u32::try_from(COPIES * bytes).ok()?;
            room.clone().try_acquire_many_owned(count).ok()
        };
        take(&self.own_requests)
            .zip(take(&self.requests))
            .ok_or_else(|| RpcError::TryAgainLater {
                reason: "requests under way take all the memory that there is for them".to_owned(),
            })
    }

    /// Waits until an answer may be made; what reads the database has a reader then.
    async fn ready(&self, method: &str) -> Option<OwnedSemaphorePermit> {
        // What is not the database is looked at where it waits, or on threads of which there are a few.
        let reads = method.starts_with("get_") && method != "get_status";
        loop {
            self.unsent.ready().await;
            if !reads {
                return None;
            }
            // Nobody closes it.
            let reader = self.readers.clone().acquire_owned().await.ok();
            if self.unsent.is_ready() {
                return reader;
            }
        }
    }
}

/// Length of a request's parameters, in bytes.
fn params_len(request: &Request<'_>) -> usize {
    request.params().as_str().map_or(0, str::len)
}

/// How many transactions a call of `submit_transactions` has; one if that is for the method to refuse.
fn submitted(request: &Request<'_>) -> NonZeroU32 {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        transactions: Vec<&'a RawValue>,
    }
    let params = request.params();
    let many = match params.parse::<Named<'_>>() {
        Ok(named) => named.transactions,
        Err(_) => params.sequence().next().unwrap_or_default(),
    };
    u32::try_from(many.len())
        .ok()
        .and_then(NonZeroU32::new)
        .unwrap_or(NonZeroU32::MIN)
}

#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    guard: Guard,
}

impl<S> Guarded<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse, NotificationResponse = MethodResponse>
        + Clone
        + Send
        + Sync
        + 'static,
{
    /// Answers, unless `refused` says why not; with the room that the answer has until it is sent.
    async fn answer(
        &self,
        mut request: Request<'_>,
        refused: Option<&RpcError>,
    ) -> (MethodResponse, Option<Reserved>) {
        let Guarded { inner, guard } = self;
        let method = openrpc::method_name(request.method_name()).unwrap_or("unknown");
        let started = Instant::now();
        let id = request.id.clone().into_owned();
        let admitted = guard.check_rate(method, &request).and_then(|()| {
            if let Some(refused) = refused {
                return Err(refused.clone());
            }
            guard
                .calls
                .try_acquire()
                .map_err(|_| RpcError::TryAgainLater {
                    reason: format!("{} calls of this session are under way", guard.most_calls),
                })
        });
        let mut answer = match admitted {
            Ok(_permit) => {
                // Subscriptions go on sending.
                request.extensions_mut().insert(guard.unsent.clone());
                let _reader = guard.ready(method).await;
                inner.call(request).await
            }
            Err(error) => MethodResponse::error(request.id, error),
        };
        let mut reserved = guard.unsent.reserve(answer.as_json().get().len());
        if reserved.is_none() {
            let reason = "answers that nobody reads take all the memory that there is for them";
            let error = RpcError::TryAgainLater {
                reason: reason.to_owned(),
            };
            answer = MethodResponse::error(id, error);
            reserved = guard.unsent.reserve(answer.as_json().get().len());
        }
        let code = answer.as_error_code();
        guard.metrics.rpc_call(method, started.elapsed(), code);
        debug_assert!(
            code.is_none_or(|code| openrpc::documents(method, code)),
            "{method} answers with {code:?}, which its documentation does not have"
        );
        (answer, reserved)
    }
}

impl<S> RpcServiceT for Guarded<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse, NotificationResponse = MethodResponse>
        + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let held = this.guard.hold(params_len(&request));
            let (answer, reserved) = this.answer(request, held.as_ref().err()).await;
            // Whether a subscription has begun has been sent by now.
            if let Some(reserved) = reserved
                && !answer.is_subscription()
            {
                reserved.send(answer.as_json().get().len());
            }
            answer
        }
    }

    /// The entries one after the other, each as if it had come alone.
    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let requests = batch.iter().filter_map(|entry| match entry {
                Ok(BatchEntry::Call(request)) => Some(params_len(request)),
                _ => None,
            });
            let held = this.guard.hold(requests.sum());
            let mut answers = BatchResponseBuilder::new_with_limit(this.guard.response_bytes);
            let mut all: Option<Reserved> = None;
            let mut notified = false;
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => {
                        let (answer, reserved) = this.answer(request, held.as_ref().err()).await;
                        all = match (all, reserved) {
                            (Some(all), Some(more)) => Some(all.and(more)),
                            (all, more) => all.or(more),
                        };
                        answer
                    }
                    Ok(BatchEntry::Notification(notification)) => {
                        this.notification(notification).await;
                        notified = true;
                        continue;
                    }
                    Err(error) => {
                        let (error, id) = error.into_parts();
                        MethodResponse::error(id, error)
                    }
                };
                if let Err(too_large) = answers.append(answer) {
                    return too_large;
                }
            }
            if answers.is_empty() && notified {
                return MethodResponse::notification();
            }
            let answer = MethodResponse::from_batch(answers.finish());
            if let Some(all) = all {
                all.send(answer.as_json().get().len());
            }
            answer
        }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        let inner = self.inner.clone();
        async move { inner.notification(notification).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::server::ResponsePayload;
    use jsonrpsee::types::Id;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const ANSWER_BYTES: usize = 2 << 20;

    /// Answers at once, with much.
    #[derive(Clone)]
    struct Chatty(Arc<AtomicUsize>);

    impl RpcServiceT for Chatty {
        type MethodResponse = MethodResponse;
        type NotificationResponse = MethodResponse;
        type BatchResponse = MethodResponse;

        fn call<'a>(
            &self,
            request: Request<'a>,
        ) -> impl Future<Output = MethodResponse> + Send + 'a {
            self.0.fetch_add(1, Relaxed);
            let answer = ResponsePayload::success("x".repeat(ANSWER_BYTES));
            std::future::ready(MethodResponse::response(request.id, answer, usize::MAX))
        }

        fn batch<'a>(&self, _: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
            std::future::ready(MethodResponse::notification())
        }

        fn notification<'a>(
            &self,
            _: Notification<'a>,
        ) -> impl Future<Output = MethodResponse> + Send + 'a {
            std::future::ready(MethodResponse::notification())
        }
    }

    #[tokio::test]
    async fn who_does_not_read_is_answered_no_further() {
        let answered = Arc::new(AtomicUsize::new(0));
        let guard = Guard {
            peer: IpAddr::from([127, 0, 0, 1]),
            rate: None,
            most_calls: 64,
            calls: Arc::new(Semaphore::new(64)),
            own_requests: Arc::new(Semaphore::new(OWN_REQUESTS_BYTES)),
            requests: Arc::new(Semaphore::new(REQUESTS_BYTES)),
            readers: Arc::new(Semaphore::new(READERS)),
            unsent: Unsent::new(unsent::room()),
            response_bytes: usize::MAX,
            metrics: Arc::default(),
        };
        let guarded = Guarded {
            inner: Chatty(answered.clone()),
            guard: guard.clone(),
        };
        let calls: Vec<_> = ["get_block", "call_view"]
            .into_iter()
            .cycle()
            .take(64)
            .map(|method| {
                let guarded = guarded.clone();
                tokio::spawn(async move {
                    let request = Request::borrowed(method, None, Id::Number(1));
                    guarded.call(request).await.is_success()
                })
            })
            .collect();
        for _ in 0..1_000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(answered.load(Relaxed), 4);
        // As it reads, it is answered the rest.
        let reading = async {
            loop {
                guard.unsent.sent(ANSWER_BYTES);
                tokio::task::yield_now().await;
            }
        };
        let answers = async {
            for call in calls {
                assert!(call.await.expect("no panic"));
            }
        };
        tokio::select! {
            () = answers => {}
            () = reading => {}
        }
        assert_eq!(answered.load(Relaxed), 64);
    }

    #[test]
    fn requests_under_way_have_so_much_memory() {
        let requests = Arc::new(Semaphore::new(REQUESTS_BYTES));
        let connection = || Guard {
            peer: IpAddr::from([127, 0, 0, 1]),
            rate: None,
            most_calls: 1,
            calls: Arc::new(Semaphore::new(1)),
            own_requests: Arc::new(Semaphore::new(OWN_REQUESTS_BYTES)),
            requests: requests.clone(),
            readers: Arc::new(Semaphore::new(READERS)),
            unsent: Unsent::new(unsent::room()),
            response_bytes: usize::MAX,
            metrics: Arc::default(),
        };
        let first = connection();
        let all = first.hold(OWN_REQUESTS_BYTES / COPIES);
        assert!(all.is_ok() && first.hold(1).is_err());
        let others: Vec<_> = (1..REQUESTS_BYTES / OWN_REQUESTS_BYTES)
            .map(|_| connection().hold(OWN_REQUESTS_BYTES / COPIES))
            .collect();
        assert!(others.iter().all(Result::is_ok));
        assert!(connection().hold(1).is_err());
        drop(all);
        assert!(first.hold(1).is_ok());
    }
}
