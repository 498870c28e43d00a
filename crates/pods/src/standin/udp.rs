use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::server::Serving;
use super::tcp::who;

/// Answers every datagram: `KILTER-WHO` with the pod's name, anything else with itself.
pub(super) async fn serve(socket: UdpSocket, serving: Arc<Serving>, cancel: CancellationToken) {
    let socket = Arc::new(socket);
    let slow = TaskTracker::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => break,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An ICMP error of an earlier answer shows up here; the socket itself is well.
        let Ok((length, client)) = received else { continue };
        let datagram = &buffer[..length];
        if let Some(answer) = who(datagram, &serving.identity) {
            let _ = socket.send_to(&answer, client).await;
        } else if serving.behaviour().delay.is_zero() {
            echo(&socket, datagram, client, &serving).await;
        } else {
            let (socket, serving, cancel) = (socket.clone(), serving.clone(), cancel.clone());
            let datagram = datagram.to_vec();
            slow.spawn(async move {
                cancel.run_until_cancelled(echo(&socket, &datagram, client, &serving)).await;
            });
        }
    }
    slow.close();
    slow.wait().await;
}

async fn echo(socket: &UdpSocket, datagram: &[u8], client: SocketAddr, serving: &Serving) {
    let verdict = match serving.think().await {
        false => "dropped, as the annotation kilter.dev/error-rate asks",
        true if socket.send_to(datagram, client).await.is_ok() => "echoed",
        true => "could not be answered",
    };
    serving.log.print(&format!("UDP {} from {client}: {} bytes {verdict}", serving.port, datagram.len()));
}
