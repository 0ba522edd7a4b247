//! A load balancer in front of ours, as TCP has them: it says whom it speaks for in a PROXY header, and passes on
//! what comes.

use std::net::{IpAddr, SocketAddr};

use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;

use crate::address::Host;

const PORT: u16 = 4_000;

/// The relay. Its connections end when it is dropped.
pub struct ProxyRelay {
    host: Host,
    _runtime: Runtime,
}

impl ProxyRelay {
    /// A relay on `host` to `address`, which gets `header` first on each connection.
    ///
    /// # Panics
    /// When it cannot be had.
    #[must_use]
    pub fn on(host: Host, address: SocketAddr, header: Vec<u8>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind(host.port(PORT))).expect("the relay's port");
        runtime.spawn(accept(listener, host.ip().into(), address, header));
        Self { host, _runtime: runtime }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.host.port(PORT)
    }
}

async fn accept(listener: TcpListener, from: IpAddr, to: SocketAddr, header: Vec<u8>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let header = header.clone();
        tokio::spawn(async move {
            let Ok(mut server) = connect(from, to).await else { return };
            if server.write_all(&header).await.is_ok() {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}

async fn connect(from: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}
