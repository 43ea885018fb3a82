//! Where this node can be reached, as its network interfaces come and go; and addresses as text.

use std::{
    future::poll_fn,
    net::{IpAddr, SocketAddr},
    task::Poll,
    time::Duration,
};

use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p::{Multiaddr, multiaddr::Protocol};
use rhd_protocol::presence::MAX_ADDRS;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The start of the node waits this long for the list of interfaces, and goes on without it.
const FIRST_LIST: Duration = Duration::from_millis(30);

/// Expands `bound` to addresses that peers can dial, loopback last.
fn reachable(bound: &[SocketAddr], interfaces: &[IpAddr]) -> Vec<SocketAddr> {
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for addr in bound {
        if addr.ip().is_unspecified() {
            let same = interfaces.iter().filter(|ip| ip.is_ipv4() == addr.is_ipv4());
            addrs.extend(same.map(|ip| SocketAddr::new(*ip, addr.port())));
        } else {
            addrs.push(*addr);
        }
    }
    addrs.retain(|addr| match addr.ip() {
        // A link-local address says nothing without the interface.
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        IpAddr::V4(ip) => !ip.is_link_local(),
    });
    addrs.sort_by_key(|addr| (addr.ip().is_loopback(), addr.is_ipv6()));
    addrs.dedup();
    addrs.truncate(MAX_ADDRS - 4);
    addrs
}

/// Starts to watch the interfaces for the sockets at `bound`.
pub(super) async fn watch(
    bound: Vec<SocketAddr>,
    stop: CancellationToken,
) -> watch::Receiver<Vec<SocketAddr>> {
    let (tx, rx) = watch::channel(reachable(&bound, &[]));
    let mut watcher = match IfWatcher::new() {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, "no list of network interfaces; this node can't be found");
            return rx;
        }
    };
    let publish = move |watcher: &IfWatcher| {
        let interfaces: Vec<IpAddr> = watcher.iter().map(|net| net.addr()).collect();
        let now = reachable(&bound, &interfaces);
        tx.send_if_modified(|before| std::mem::replace(before, now.clone()) != now);
    };
    let _ = tokio::time::timeout(FIRST_LIST, next(&mut watcher)).await;
    publish(&watcher);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                event = next(&mut watcher) => if let Err(error) = event {
                    tracing::debug!(%error, "watching network interfaces ended");
                    return;
                },
            }
            publish(&watcher);
        }
    });
    rx
}

/// Waits for a change, and takes all that are there.
async fn next(watcher: &mut IfWatcher) -> std::io::Result<()> {
    poll_fn(|cx| watcher.poll_if_event(cx)).await?;
    poll_fn(|cx| {
        loop {
            match watcher.poll_if_event(cx) {
                Poll::Ready(Ok(IfEvent::Up(_) | IfEvent::Down(_))) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Ready(Ok(())),
            }
        }
    })
    .await
}

/// `/ip4/192.0.2.1/udp/4242/quic-v1`
pub(super) fn to_multiaddr(addr: SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

/// The socket address of a direct QUIC multiaddress, with or without a peer at its end.
pub(super) fn from_multiaddr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    let (Protocol::Udp(port), Protocol::QuicV1) = (parts.next()?, parts.next()?) else {
        return None;
    };
    let rest = |part| matches!(part, Protocol::P2p(_));
    (port != 0 && !ip.is_unspecified() && parts.all(rest)).then(|| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_direct_quic_addresses_are_dialed() {
        let addr = "192.0.2.1:4242".parse().unwrap();
        assert_eq!(from_multiaddr(&to_multiaddr(addr)), Some(addr));
        for other in
            ["/ip4/192.0.2.1/tcp/1", "/ip4/0.0.0.0/udp/1/quic-v1", "/ip4/192.0.2.1/udp/0/quic-v1"]
        {
            assert_eq!(from_multiaddr(&other.parse().unwrap()), None, "{other}");
        }
    }

    #[test]
    fn loopback_comes_last_and_link_local_never() {
        let interfaces: Vec<IpAddr> =
            ["127.0.0.1", "fe80::1", "192.0.2.7"].iter().map(|ip| ip.parse().unwrap()).collect();
        let bound = ["0.0.0.0:1", "[::]:1"].map(|a| a.parse().unwrap());
        let addrs = reachable(&bound, &interfaces);
        assert_eq!(addrs, ["192.0.2.7:1", "127.0.0.1:1"].map(|a| a.parse().unwrap()));
    }
}
