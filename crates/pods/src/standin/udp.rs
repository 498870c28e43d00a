use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::server::Serving;
use super::tcp::who;

/// Answers every datagram: `KILTER-WHO` with the pod's name, anything else with itself.
pub(super) async fn serve(socket: UdpSocket, serving: Arc<Serving>, cancel: CancellationToken) {
    let mut buffer = vec![0; 65_536];
    loop {
        let received = tokio::select! {
            () = cancel.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An ICMP error of an earlier answer shows up here; the socket itself is well.
        let Ok((length, client)) = received else { continue };
        let datagram = &buffer[..length];
        let answer = who(datagram, &serving.identity);
        let sent = socket.send_to(answer.as_deref().unwrap_or(datagram), client).await;
        if answer.is_none() {
            let verdict = if sent.is_ok() { "echoed" } else { "could not be answered" };
            serving.log.print(&format!("UDP {} from {client}: {length} bytes {verdict}", serving.port));
        }
    }
}
