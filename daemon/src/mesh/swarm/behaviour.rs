//! What the swarm does, and its limits.

use std::time::Duration;

use libp2p::{
    StreamProtocol, autonat, connection_limits, dcutr, gossipsub, identify,
    identity::Keypair,
    kad, mdns, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use rhd_protocol::{id::RealmId, presence::MAX_RECORD};

use super::{closed::Members, streams::Streams};
use crate::mesh::config::Config;

/// What identify tells that this is.
const PROTOCOL: &str = "/rhd/1";
const KAD: StreamProtocol = StreamProtocol::new("/rhd/kad/1");
/// The longest gossip message: a record, its signature, and gossipsub's own fields.
const GOSSIP: usize = MAX_RECORD + 4096;
/// Control connections with one peer: direct, relayed, and one of each in the making.
const PER_PEER: u32 = 4;
/// Circuits that this node relays at once.
const CIRCUITS: usize = 64;
/// Bytes that one circuit may carry each way.
const CIRCUIT_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// How long one circuit may last.
const CIRCUIT_TIME: Duration = Duration::from_secs(3600);

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    members: Members,
    pub(super) identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
    pub(super) gossip: gossipsub::Behaviour,
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    autonat: autonat::Behaviour,
    relay: Toggle<relay::Behaviour>,
    relay_client: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
    streams: Streams,
}

impl Behaviour {
    pub(super) fn new(
        keypair: &Keypair,
        relay_client: relay::client::Behaviour,
        config: &Config,
        members: Members,
        streams: Streams,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let me = keypair.public().to_peer_id();
        let peers = u32::try_from(config.max_peers).unwrap_or(u32::MAX);
        let limits = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(64))
            .with_max_pending_outgoing(Some(64))
            .with_max_established_per_peer(Some(PER_PEER))
            .with_max_established(Some(peers.saturating_mul(2)));
        let identify = identify::Config::new(PROTOCOL.into(), keypair.public())
            .with_agent_version(concat!("rhd/", env!("CARGO_PKG_VERSION")).into())
            .with_cache_size(0)
            .with_push_listen_addr_updates(true);
        let mdns = if config.mdns {
            // Without multicast on this machine the mesh works all the same.
            mdns::tokio::Behaviour::new(mdns::Config::default(), me)
                .inspect_err(|error| tracing::info!(%error, "no mDNS on this machine"))
                .ok()
        } else {
            None
        };
        let gossip = gossipsub::ConfigBuilder::default()
            .max_transmit_size(GOSSIP)
            .validation_mode(gossipsub::ValidationMode::Strict)
            .message_id_fn(|message| blake3::hash(&message.data).as_bytes().to_vec().into())
            .flood_publish(true)
            .connection_handler_queue_len(256)
            .build()?;
        let gossip = gossipsub::Behaviour::new(
            gossipsub::MessageAuthenticity::Signed(keypair.clone()),
            gossip,
        )?;
        let mut kad_config = kad::Config::new(KAD);
        kad_config.set_record_filtering(kad::StoreInserts::FilterBoth);
        let store = kad::store::MemoryStore::with_config(
            me,
            // Peers are looked up, records are not: whoever sends some is not listened to.
            kad::store::MemoryStoreConfig {
                max_records: 0,
                max_provided_keys: 0,
                ..kad::store::MemoryStoreConfig::default()
            },
        );
        let relay = config.relay.then(|| {
            let limits = relay::Config {
                max_circuits: CIRCUITS,
                max_circuits_per_peer: CIRCUITS / 8,
                max_circuit_duration: CIRCUIT_TIME,
                max_circuit_bytes: CIRCUIT_BYTES,
                ..relay::Config::default()
            };
            relay::Behaviour::new(me, limits)
        });
        Ok(Self {
            limits: connection_limits::Behaviour::new(limits),
            members,
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::default(),
            mdns: mdns.into(),
            gossip,
            kad: kad::Behaviour::with_config(me, store, kad_config),
            autonat: autonat::Behaviour::new(me, autonat::Config::default()),
            relay: relay.into(),
            relay_client,
            dcutr: dcutr::Behaviour::new(me),
            streams,
        })
    }
}

/// The topic on which a realm gossips.
pub(super) fn topic(realm: RealmId) -> gossipsub::IdentTopic {
    gossipsub::IdentTopic::new(format!("rhd/{realm}/presence/1"))
}
