//! A way to the server that can be closed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, watch};

type ToClient = Arc<AsyncMutex<OwnedWriteHalf>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Open,
    /// Connections are cut and refused, without goodbye to the server: they stay open there.
    Cut,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    clients: Arc<Mutex<Vec<ToClient>>>,
}

impl Proxy {
    /// `url` is that of the server.
    pub(crate) async fn to(url: &str) -> Self {
        let server = url.split(['@', '/']).nth(3).unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (way, watching) = watch::channel(Way::Open);
        let clients = Arc::<Mutex<Vec<ToClient>>>::default();
        let known = Arc::clone(&clients);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *watching.borrow() == Way::Open {
                    let known = Arc::clone(&known);
                    tokio::spawn(serve(client, server.clone(), watching.clone(), known));
                }
            }
        });
        Self { address, way, clients }
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    pub(crate) fn set(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Writes octets to every client, as if they came from the server; while it is silent.
    pub(crate) async fn say(&self, octets: &[u8]) {
        let clients = self.clients.lock().unwrap().clone();
        for client in clients {
            let _ = client.lock().await.write_all(octets).await;
        }
    }
}

async fn serve(
    client: TcpStream,
    server: String,
    mut way: watch::Receiver<Way>,
    known: Arc<Mutex<Vec<ToClient>>>,
) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let to_client = Arc::new(AsyncMutex::new(to_client));
    known.lock().unwrap().push(Arc::clone(&to_client));
    let there = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let back = async {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if to_client.lock().await.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    };
    let cut = async { way.wait_for(|way| *way == Way::Cut).await.map(drop) };
    tokio::select! {
        () = there => return,
        () = back => return,
        _ = cut => {}
    }
    let _ = to_client.lock().await.shutdown().await;
    known.lock().unwrap().retain(|one| !Arc::ptr_eq(one, &to_client));
    drop((from_client, to_client));
    // The server learns nothing.
    let _ = way.wait_for(|_| false).await;
}
