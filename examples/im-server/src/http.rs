//! The HTTP side: connections, their time limits and their end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use gateway_core::{Admission, ConnectionRefused, Gateway};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use stomp_ws::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// How long a client may take to send the head of a request, the first or a further one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request may take, with its body. A WebSocket counts up to its opening only.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause after a failed accept: where the process may open no more files, trying again at once would
/// only heat the machine.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How many at a time of those for whom there is no place are told so; the others are cut off.
const REFUSALS: usize = 64;

/// How long that may take, and how much of a request is read meanwhile: a socket that is closed with something unread
/// takes the answer with it.
const REFUSAL: (Duration, u64) = (Duration::from_secs(2), 64 * 1024);

/// Serves until told to end; then takes no new connection and lets requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<ServerTls>,
    gateway: Gateway,
    router: Router,
    ended: CancellationToken,
) {
    let connections = TaskTracker::new();
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ended.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY could not be set");
                }
                let admission = match gateway.admit(Some(peer.ip())) {
                    Ok(admission) => admission,
                    Err(refused) => {
                        if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                            let tls = tls.clone();
                            connections.spawn(async move {
                                refuse(stream, tls, refused).await;
                                drop(permit);
                            });
                        }
                        continue;
                    }
                };
                let from = (peer, admission);
                let (router, ended) = (router.clone(), ended.clone());
                match &tls {
                    // The handshake is part of the time that the head of the first request may take.
                    Some(tls) => {
                        connections.spawn(connection(tls.accept(stream), from, router, ended))
                    }
                    None => connections.spawn(connection(stream, from, router, ended)),
                };
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    (peer, admission): (SocketAddr, Admission),
    router: Router,
    ended: CancellationToken,
) {
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        // For the WebSocket that it may become.
        request.extensions_mut().insert(admission.clone());
        answer(router.clone(), request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = ended.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "an HTTP connection ended badly");
    }
}

/// Answers whatever is asked with 503.
async fn refuse(stream: TcpStream, tls: Option<ServerTls>, refused: ConnectionRefused) {
    let told = async {
        match tls {
            Some(tls) => tell(tls.accept(stream), refused).await,
            None => tell(stream, refused).await,
        }
    };
    // Whether it is heard makes no difference.
    let _ = tokio::time::timeout(REFUSAL.0, told).await;
}

async fn tell(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    refused: ConnectionRefused,
) -> io::Result<()> {
    let body =
        format!("{{\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"{refused}\"}}");
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nConnection: close\r\n\
         Content-Type: application/problem+json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(REFUSAL.1), &mut tokio::io::sink()).await?;
    Ok(())
}

async fn answer(router: Router, request: Request) -> Result<Response, Infallible> {
    match tokio::time::timeout(REQUEST_TIMEOUT, router.oneshot(request)).await {
        Ok(answer) => answer,
        Err(_) => Ok((StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response()),
    }
}
