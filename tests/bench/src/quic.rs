//! The floor between two nodes: raw quinn, a stream for each call, an echo.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use quinn::{
    AckFrequencyConfig, ClientConfig, Connection, Endpoint, EndpointConfig, Incoming,
    MtuDiscoveryConfig, ServerConfig, TokioRuntime, TransportConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    RootCertStore,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::TLS13,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{
    Outcome, bulk,
    tally::{Found, repeat},
};

const NAME: &str = "localhost";
/// About what the header of a call without arguments has.
const MESSAGE: [u8; 128] = [7; 128];
const STREAMS: u32 = 1024;
/// The rest is as rhd's own links are set: with quinn's defaults bulk takes twice as long.
const MTU: u16 = 6500;
const UNACKED: u32 = 4;
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const SEND_WINDOW: u64 = 2 * 1024 * 1024;
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// The others take their turns meanwhile.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The cipher that rhd's own nodes prefer.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    Arc::new(CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() })
}

/// Serves until standard input ends.
pub(crate) async fn echo() -> Outcome<()> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.key_pair.serialize_der()));
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut transport = transport();
    transport.max_concurrent_bidi_streams(STREAMS.into());
    config.transport_config(Arc::new(transport));
    let endpoint = endpoint(Some(config))?;
    let certificate: String = made.cert.der().iter().map(|byte| format!("{byte:02x}")).collect();
    writeln!(std::io::stdout(), "{} {certificate}", endpoint.local_addr()?.port())?;
    tokio::spawn(async move {
        while let Some(incoming) = endpoint.accept().await {
            tokio::spawn(connection(incoming));
        }
    });
    // Blocks this one thread only.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

async fn connection(incoming: Incoming) -> Outcome<()> {
    let connection = incoming.await?;
    tokio::spawn(bulk::take(connection.clone()));
    loop {
        let (mut send, mut receive) = connection.accept_bi().await?;
        tokio::spawn(async move {
            let message = receive.read_to_end(MESSAGE.len()).await?;
            send.write_all(&message).await?;
            send.finish()?;
            Outcome::Ok(())
        });
    }
}

/// A connection to an echo in another process.
pub(crate) struct Peer {
    connection: Connection,
    _endpoint: Endpoint,
    _echo: Child,
}

impl Peer {
    /// Starts the echo and connects to it.
    pub(crate) async fn start() -> Outcome<Self> {
        let mut echo = Command::new(std::env::current_exe()?)
            .arg("echo-quic")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = echo.stdout.take().ok_or("no output of the echo")?;
        let line = BufReader::new(said).lines().next_line().await?.ok_or("the echo ended")?;
        let (port, certificate) = line.split_once(' ').ok_or("the echo did not say where it is")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
        let endpoint = endpoint(None)?;
        let config = trusting(bytes(certificate)?)?;
        let connection = endpoint.connect_with(config, address, NAME)?.await?;
        Ok(Self { connection, _endpoint: endpoint, _echo: echo })
    }

    /// Sends so many MiB, and returns how long they took.
    pub(crate) async fn bulk(&self, mib: usize) -> Outcome<Duration> {
        bulk::send(&self.connection, mib).await
    }

    /// Sends messages there and back, a stream for each, so many at once.
    pub(crate) async fn measure(&self, width: usize, span: Duration) -> Outcome<Found> {
        let connection = self.connection.clone();
        repeat(width, span, move |_| {
            let connection = connection.clone();
            async move {
                let (mut send, mut receive) = connection.open_bi().await?;
                send.write_all(&MESSAGE).await?;
                send.finish()?;
                let back = receive.read_to_end(MESSAGE.len()).await?;
                if back == MESSAGE { Ok(()) } else { Err("another message came back".into()) }
            }
        })
        .await
    }
}

fn endpoint(server: Option<ServerConfig>) -> Outcome<Endpoint> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // As much as the system allows.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let mut config = EndpointConfig::default();
    // What it is ready to take: a peer sends no more than that, whatever its own bound is.
    config.max_udp_payload_size(MTU)?;
    Ok(Endpoint::new(config, server, socket.into(), Arc::new(TokioRuntime))?)
}

fn transport() -> TransportConfig {
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(MTU);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(UNACKED.into());
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(STREAM_WINDOW.into())
        .send_window(SEND_WINDOW)
        .mtu_discovery_config(Some(mtu))
        .ack_frequency_config(Some(acks));
    transport
}

fn trusting(certificate: Vec<u8>) -> Outcome<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate))?;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let mut transport = transport();
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

fn bytes(hex: &str) -> Outcome<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}
