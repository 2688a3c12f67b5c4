//! The sockets of RPC, and what each may take: jsonrpsee counts requests, and a client that is slow on purpose costs without ever making one.
//!
//! ```text
//!   accept ─▶ Seats: so many in all, so many from one address (else 503 and closed)
//!     │
//!     ▼ Socket: does not read on from who does not read, and gives up on who reads nothing at all; takes turns with the others
//!   hyper ─▶ the head of a request in time ─▶ Timely: its body in time
//!     │
//!     ▼ jsonrpsee: requests and sessions at a time (429), batch, body
//!   Guarded: requests a second from one address, calls of a session under way; counts and times each call
//!     │
//!     ▼ Handler
//! ```

use super::error::RpcError;
use crate::config;
use crate::metrics::Metrics;
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
use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
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
/// What is read from a connection in its turn, in bytes. Each message of a session becomes a task at once: those of a session that sends many are in
/// everybody's way until they are done.
const TURN_BYTES: u64 = 4 << 10;
/// What is read, and thrown away, of a body after it was refused, in bytes. Where that is not the end of it the connection is closed, and who is still
/// sending then may not get to read why.
const REFUSED_BYTES: u64 = 16 << 20;
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
        let seats = Arc::new(Seats {
            most: self.rpc.max_sockets as usize,
            most_of_one: self.rpc.max_sockets_per_ip as usize,
            taken: Mutex::default(),
        });
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
            let socket = Socket {
                stream: stream.take(TURN_BYTES),
                patience,
                blocked: None,
                reader: None,
                _seat: seat,
            };
            let guard = Guard {
                peer,
                rate: rate.clone(),
                most_calls: self.rpc.max_calls,
                calls: Arc::new(Semaphore::new(self.rpc.max_calls as usize)),
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

/// What counts as one address: of IPv6 the network that a customer gets.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

/// Connections there may be.
#[derive(Debug)]
struct Seats {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// A connection that there may be. Given back when it is dropped, with the socket.
#[derive(Debug)]
struct Seat {
    of: Arc<Seats>,
    peer: IpAddr,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Seats>, peer: IpAddr) -> Option<Seat> {
        let mut taken = self.lock();
        let own = taken.by.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.most || own >= self.most_of_one {
            return None;
        }
        taken.all += 1;
        taken.by.insert(peer, own + 1);
        let of = self.clone();
        Some(Seat { of, peer })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        taken.all -= 1;
        if let Some(own) = taken.by.get_mut(&self.peer) {
            *own -= 1;
            if *own == 0 {
                taken.by.remove(&self.peer);
            }
        }
    }
}

/// A connection that is not read from while it cannot be written to, so that who sends and does not read fills no memory here; and that fails when
/// nothing could be written for as long as [`Socket::patience`]. Who sends a lot is read from in turns, between which all other tasks have theirs.
#[derive(Debug)]
struct Socket {
    /// Its limit is what may still be read in this turn.
    stream: Take<TcpStream>,
    patience: Duration,
    /// Ends the wait of a write.
    blocked: Option<Pin<Box<Sleep>>>,
    /// Who waits for that.
    reader: Option<Waker>,
    _seat: Seat,
}

impl Socket {
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if wrote.is_pending() {
            let patience = self.patience;
            let blocked = self
                .blocked
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
            ready!(blocked.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.blocked = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        wrote
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.blocked.is_some() {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if self.stream.limit() == 0 {
            self.stream.set_limit(TURN_BYTES);
            // The runtime puts a task that wakes itself behind all that are ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            self.stream.set_limit(TURN_BYTES);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(self.stream.get_mut()).poll_write(context, bytes);
        self.wrote(context, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(self.stream.get_mut()).poll_write_vectored(context, parts);
        self.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
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
            }),
        }
    }
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
        let Guarded { inner, guard } = self.clone();
        async move {
            let method = openrpc::method_name(request.method_name()).unwrap_or("unknown");
            let started = Instant::now();
            let admitted = guard.check_rate(method, &request).and_then(|()| {
                guard
                    .calls
                    .try_acquire()
                    .map_err(|_| RpcError::TryAgainLater {
                        reason: format!("{} calls of this session are under way", guard.most_calls),
                    })
            });
            let answer = match admitted {
                Ok(_permit) => inner.call(request).await,
                Err(error) => MethodResponse::error(request.id, error),
            };
            let code = answer.as_error_code();
            guard.metrics.rpc_call(method, started.elapsed(), code);
            debug_assert!(
                code.is_none_or(|code| openrpc::documents(method, code)),
                "{method} answers with {code:?}, which its documentation does not have"
            );
            answer
        }
    }

    /// The entries one after the other, each as if it had come alone.
    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let this = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(this.guard.response_bytes);
            let mut notified = false;
            for entry in batch {
                let answer = match entry {
                    Ok(BatchEntry::Call(request)) => this.call(request).await,
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
            MethodResponse::from_batch(answers.finish())
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
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    #[test]
    fn seats_are_counted_by_network_and_given_back() {
        let seats = Arc::new(Seats {
            most: 3,
            most_of_one: 2,
            taken: Mutex::default(),
        });
        let address = |text: &str| network(text.parse().expect("an address"));
        let first = seats.take(address("2001:db8::1")).expect("a seat");
        let _second = seats.take(address("2001:db8::2:1")).expect("a seat");
        assert!(seats.take(address("2001:db8::3")).is_none(), "one network");
        let third = seats.take(address("10.0.0.1")).expect("another one's");
        assert!(seats.take(address("10.0.0.2")).is_none(), "all are taken");
        drop(first);
        let _fourth = seats.take(address("::ffff:10.0.0.1")).expect("free again");
        assert_eq!(seats.lock().by[&address("10.0.0.1")], 2, "as IPv4");
        drop(third);
        assert_eq!(seats.lock().all, 2);
    }

    #[tokio::test]
    async fn who_sends_much_is_read_from_in_turns() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let mut client = std::net::TcpStream::connect(address).expect("connected");
        let sent = vec![1; 64 << 10];
        client.write_all(&sent).expect("the kernel has it");
        let (stream, peer) = listener.accept().await.expect("connected");
        let seats = Arc::new(Seats {
            most: 1,
            most_of_one: 1,
            taken: Mutex::default(),
        });
        let mut socket = Socket {
            stream: stream.take(TURN_BYTES),
            patience: Duration::MAX,
            blocked: None,
            reader: None,
            _seat: seats.take(peer.ip()).expect("a seat"),
        };
        let turns = Arc::new(AtomicU64::new(0));
        let other = tokio::spawn({
            let turns = turns.clone();
            async move {
                loop {
                    turns.fetch_add(1, Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut received = vec![0; sent.len()];
        let read = socket.read_exact(&mut received).await;
        other.abort();
        assert_eq!(read.expect("all of it"), sent.len());
        let turns = turns.load(Relaxed);
        assert!(turns >= sent.len() as u64 / TURN_BYTES - 1, "{turns}");
        assert_eq!(received, sent);
    }
}
