//! The small HTTP servers, of the operators' port and of snapshots. RPC has more to expect: [`crate::rpc::listener`].

use crate::socket::{Seats, Socket, network};
use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 128;
/// Of these, those from one address.
const CONNECTIONS_OF_ONE: usize = 32;
/// How long a client may take for the head of a request, be idle, and read nothing of what it is sent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long connections may take to finish what they are doing when the server stops.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be accepted: open ones have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who asks, with each request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// Serves `router` until `stop` says so, and until requests under way are answered, or [`GRACE`] is over. Nothing holds `router` then.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve_patiently(listener, router, stop, (PATIENCE, GRACE)).await;
}

async fn serve_patiently(
    listener: TcpListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
    (patience, grace): (Duration, Duration),
) {
    let seats = Seats::new(CONNECTIONS, CONNECTIONS_OF_ONE);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error says that nobody can say so any more.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, network(peer.ip())),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = seats.take(peer) else {
            continue;
        };
        let service = TowerToHyperService::new(router.clone().layer(Extension(Peer(peer))));
        let socket = Socket::new(stream, patience, seat);
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .serve_connection(TokioIo::new(socket), service);
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection has ended");
            }
        });
    }
    drop(listener);
    // Who does not read its answer keeps nobody waiting.
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
    connections.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use bytes::Bytes;
    use std::net::{Ipv4Addr, SocketAddr};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpSocket, TcpStream};
    use tokio::task::JoinHandle;

    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            let read = stream.read_buf(&mut answer).await.expect("answered");
            assert!(read > 0, "closed");
        }
        String::from_utf8(answer).expect("text")
    }

    const LONG: Duration = Duration::from_secs(3600);

    async fn start(
        times: (Duration, Duration),
    ) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let (stop, stopping) = watch::channel(false);
        let much = Bytes::from(vec![b'.'; 64 << 20]);
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/much", get(move || std::future::ready(much.clone())));
        let server = tokio::spawn(serve_patiently(listener, router, stopping, times));
        (address, stop, server)
    }

    /// From one of the addresses of this machine.
    async fn connect(from: usize, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = Ipv4Addr::from(Ipv4Addr::LOCALHOST.to_bits() + from as u32);
        socket.bind((from, 0).into()).expect("bound");
        socket.connect(to).await.expect("connected")
    }

    #[tokio::test]
    async fn there_are_only_so_many_connections_and_they_end_with_the_server() {
        let (address, stop, server) = start((LONG, LONG)).await;
        let mut open = Vec::new();
        for number in 0..CONNECTIONS {
            let peer = number / CONNECTIONS_OF_ONE;
            let mut stream = connect(peer, address).await;
            // It has its seat when it is answered.
            assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
            open.push(stream);
            if open.len() == CONNECTIONS_OF_ONE {
                let mut one_more = connect(peer, address).await;
                assert!(matches!(one_more.read(&mut [0]).await, Ok(0) | Err(_)));
            }
        }
        let mut late = connect(CONNECTIONS, address).await;
        assert!(matches!(late.read(&mut [0]).await, Ok(0) | Err(_)));
        stop.send_replace(true);
        server.await.expect("ended");
        for mut stream in open {
            assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
        }
    }

    #[tokio::test]
    async fn who_says_nothing_is_disconnected() {
        let (address, _stop, _server) = start((Duration::from_millis(1), LONG)).await;
        for said in [&b""[..], b"GET / HTTP/1.1\r\nhost: "] {
            let mut stream = connect(0, address).await;
            stream.write_all(said).await.expect("sent");
            // As it is, or after an answer that the request has timed out.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(!rest.starts_with(b"HTTP/1.1 200"));
        }
    }

    /// Asks for more than the kernel keeps, and reads none of it.
    async fn ask_for_much(address: SocketAddr) -> TcpStream {
        let mut stream = connect(0, address).await;
        let request = b"GET /much HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.expect("sent");
        // It is being answered.
        stream.peek(&mut [0]).await.expect("answered");
        stream
    }

    #[tokio::test]
    async fn who_reads_nothing_is_disconnected() {
        let (address, _stop, _server) = start((Duration::from_millis(50), LONG)).await;
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS_OF_ONE {
            streams.push(ask_for_much(address).await);
        }
        // Their seats are free some time.
        loop {
            let mut stream = connect(0, address).await;
            let request = b"GET / HTTP/1.0\r\nhost: localhost\r\n\r\n";
            let sent = stream.write_all(request).await;
            let mut answer = Vec::new();
            let read = stream.read_to_end(&mut answer).await;
            if sent.is_ok() && read.is_ok() && answer.ends_with(b"here") {
                break;
            }
        }
        drop(streams);
    }

    #[tokio::test]
    async fn who_reads_nothing_does_not_keep_the_server() {
        let (address, stop, server) = start((LONG, Duration::from_millis(1))).await;
        let _stuck = ask_for_much(address).await;
        stop.send_replace(true);
        server.await.expect("ended");
    }
}
