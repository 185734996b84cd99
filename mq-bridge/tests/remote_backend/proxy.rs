//! A way to the server that can be closed.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections are cut and refused, without goodbye to the server: they stay open there.
    Cut,
    /// Connections stay open, and nothing comes through until the way is open again.
    Stuck,
}

pub(crate) struct Proxy {
    scheme: String,
    address: SocketAddr,
    way: watch::Sender<Way>,
}

impl Proxy {
    /// `url` is `SCHEME://HOST:PORT`.
    pub(crate) async fn to(url: &str) -> Self {
        let (scheme, server) = url.split_once("://").unwrap();
        let server = server.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, watching) = watch::channel(Way::Open);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *watching.borrow() != Way::Cut {
                    tokio::spawn(serve(client, server.clone(), watching.clone()));
                }
            }
        });
        Self { scheme: scheme.to_owned(), address, way }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn serve(client: TcpStream, server: String, mut way: watch::Receiver<Way>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = pipe(&mut from_client, &mut to_server, way.clone());
    let back = pipe(&mut from_server, &mut to_client, way.clone());
    let cut = async { way.wait_for(|way| *way == Way::Cut).await.map(drop) };
    tokio::select! {
        () = there => return,
        () = back => return,
        _ = cut => {}
    }
    drop((from_client, to_client));
    // The server learns nothing.
    let _ = way.wait_for(|_| false).await;
}

async fn pipe(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut way: watch::Receiver<Way>,
) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if way.wait_for(|way| *way == Way::Open).await.is_err()
            || to.write_all(&buffer[..count]).await.is_err()
        {
            return;
        }
    }
}
