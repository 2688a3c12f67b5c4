//! The small HTTP servers, of the operators' port and of snapshots. RPC has more to expect: [`crate::rpc::listener`].

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

/// Connections at a time; one more is closed at once.
const CONNECTIONS: usize = 128;
/// How long a client may take for the head of a request, and be idle.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be accepted: open ones have to end first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `router` until `stop` says so, and until requests under way are answered.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve_patiently(listener, router, stop, PATIENCE).await;
}

async fn serve_patiently(
    listener: TcpListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
    patience: Duration,
) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error says that nobody can say so any more.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else {
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(patience)
            .serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let _seat = seat;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection has ended");
            }
        });
    }
    drop(listener);
    connections.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
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

    async fn start(patience: Duration) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("address");
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "here" }));
        let server = tokio::spawn(serve_patiently(listener, router, stopping, patience));
        (address, stop, server)
    }

    #[tokio::test]
    async fn there_are_only_so_many_connections_and_they_end_with_the_server() {
        let (address, stop, server) = start(Duration::from_secs(3600)).await;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            // It has its seat when it is answered.
            assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
            open.push(stream);
        }
        let mut late = TcpStream::connect(address).await.expect("connected");
        assert!(matches!(late.read(&mut [0]).await, Ok(0) | Err(_)));
        stop.send_replace(true);
        server.await.expect("ended");
        for mut stream in open {
            assert_eq!(stream.read(&mut [0]).await.expect("closed"), 0);
        }
    }

    #[tokio::test]
    async fn who_says_nothing_is_disconnected() {
        let (address, _stop, _server) = start(Duration::from_millis(1)).await;
        for said in [&b""[..], b"GET / HTTP/1.1\r\nhost: "] {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(said).await.expect("sent");
            // As it is, or after an answer that the request has timed out.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            assert!(!rest.starts_with(b"HTTP/1.1 200"));
        }
    }
}
