//! Those who don't belong, and garbage.

use quinn::ConnectionError;
use rhd_protocol::frame;

use super::*;
use crate::mesh::tls::{ALPN_DATA, ALPN_JOIN, ALPN_LIBP2P};

/// Connects to `to` with the certificate of `from`, which its own code would not let it do, and offers
/// these protocols.
async fn intrude(
    from: &Node,
    to: &Node,
    alpns: &[&[u8]],
) -> Result<quinn::Connection, ConnectionError> {
    let credentials = from.mesh.inner.credentials.borrow().clone();
    let tls = tls::lax_client(&credentials, to.mesh.membership().realm(), alpns);
    let mut quic = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    quic.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connection = soon(quic.connect(to.mesh.listen_addrs()[0], "l").unwrap()).await?;
    // The client's side completes before the server has judged it.
    let judged = async {
        let (mut send, mut recv) = connection.open_bi().await?;
        let hello = frame::encode(&"hello", 0).unwrap();
        let _ = send.write_all(&hello).await;
        match recv.read_to_end(1024).await {
            Err(quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(error))) => Err(error),
            _ => Ok(()),
        }
    };
    soon(judged).await.map(|()| connection)
}

fn tls_alert(error: &ConnectionError) -> bool {
    let ConnectionError::ConnectionClosed(close) = error else { return false };
    // RFC 9001, 4.8: TLS alerts are errors 0x100 to 0x1ff.
    (0x100..0x200).contains(&u64::from(close.error_code))
}

#[tokio::test]
async fn strangers_fail_the_handshake_of_every_protocol_but_join() {
    let (a, stranger) = (Node::start("a").await, Node::start("s").await);
    let refused: [&[&[u8]]; 4] =
        [&[ALPN_DATA], &[ALPN_LIBP2P], &[ALPN_JOIN, ALPN_DATA], &[ALPN_DATA, ALPN_JOIN]];
    for alpns in refused {
        let error = intrude(&stranger, &a, alpns).await.unwrap_err();
        assert!(tls_alert(&error), "{alpns:?}: {error}");
    }
    assert!(intrude(&stranger, &a, &[ALPN_JOIN]).await.is_ok());
    assert!(a.mesh.peers().borrow().is_empty());
}

#[tokio::test]
async fn a_member_passes_the_same_door() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    intrude(&b, &a, &[ALPN_DATA]).await.unwrap();
}

#[tokio::test]
async fn a_dialer_refuses_a_host_of_another_realm() {
    let (a, stranger) = (Node::start("a").await, Node::start("s").await);
    let addr = stranger.mesh.listen_addrs()[0];
    for alpn in [ALPN_DATA, ALPN_LIBP2P] {
        let dialed = soon(a.mesh.inner.endpoint.dial(addr, alpn, None)).await;
        assert!(matches!(dialed, Err(MeshError::Unreachable { .. })));
    }
}

#[tokio::test]
async fn garbage_changes_nothing() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut seed = 1u64;
    for len in (0..1500).step_by(7) {
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 33) as u8
        })
        .take(len)
        .collect();
        socket.send_to(&bytes, a.mesh.listen_addrs()[0]).unwrap();
    }
    // Join requests: none at all, random, a claimed length, a wrong message.
    let huge = [0, 3, 0xff, 0xff, 0, 0, 0, 0];
    let wrong = frame::encode(&[1, 2, 3], 0).unwrap();
    for bytes in [&[][..], &[0xc1; 64], &huge, &wrong] {
        let connection = intrude(&b, &a, &[ALPN_JOIN]).await.unwrap();
        drop(connection);
        let ticket: Ticket = a.ticket(1).await.parse().unwrap();
        let arrival = soon(join::reach(&b.mesh.inner.endpoint, &ticket)).await.unwrap();
        let (mut send, mut recv) = soon(arrival.connection.open_bi()).await.unwrap();
        send.write_all(bytes).await.unwrap();
        let _ = send.finish();
        let reply: JoinReply = soon(stream::read_first(&mut recv)).await.unwrap();
        assert!(matches!(reply, JoinReply::Refused { .. }), "{reply:?}");
    }
    a.admit(&b).await;
}
