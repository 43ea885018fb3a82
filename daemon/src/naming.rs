//! Names: what this node hosts, and which node to go to for a name.
//!
//! Presence is how nodes hear of each other's services for now; the replicated naming system takes
//! the place of [`Naming::hosts`], and nothing else asks presence for names.

mod fresh;
mod hosted;
mod registry;

use std::{path::Path, sync::Arc, time::Instant};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    machine::routing::{self, Candidate, Refusal, Wish},
    name::Name,
    service::ServiceAd,
};
use tokio::sync::watch;

pub use hosted::Hosted;
pub use registry::{Registry, RegistryError};

use crate::mesh::{self, Mesh, PeerInfo};

/// Where to send a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// This node hosts it.
    Here,
    /// A peer does.
    Peer(NodeId),
}

/// Cloneable handle to the names that this node knows.
#[derive(Clone)]
pub struct Naming {
    mesh: Mesh,
    peers: watch::Receiver<Arc<Vec<PeerInfo>>>,
    registry: Arc<Registry>,
    fresh: Arc<fresh::Fresh>,
    user: Arc<str>,
}

impl Naming {
    /// Opens the registry below `home`.
    pub fn open(home: &Path, mesh: Mesh, user: &str) -> Result<Self, RegistryError> {
        let registry = Arc::new(Registry::open(home)?);
        Ok(Self { peers: mesh.peers(), mesh, registry, fresh: Arc::default(), user: user.into() })
    }

    /// What this node hosts.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The user whose folder bare names go to.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Checks a name and makes it canonical.
    pub fn canonical(&self, name: &str) -> Result<String, ErrorInfo> {
        match Name::parse(name) {
            Ok(Name::Local(_) | Name::Builtin(_)) => Err(ErrorInfo::new(
                ErrorKind::BadRequest,
                format!("{name} names nothing that can be called"),
            )
            .hint("use a bare name, @/name or /user/name")),
            Ok(parsed) => Ok(parsed.canonical(&self.user, &format!("/{}", self.user))),
            Err(e) => Err(ErrorInfo::new(ErrorKind::BadRequest, e.to_string())),
        }
    }

    /// The node that `text` means: `here`, a node's name, its id or the start of one.
    pub fn node(&self, text: &str) -> Result<Route, ErrorInfo> {
        let id = text.parse::<NodeId>().ok();
        if text == "here" || id == Some(self.mesh.me()) || text == self.mesh.name() {
            return Ok(Route::Here);
        }
        let peers = self.peers.borrow();
        if let Some(peer) = peers.iter().find(|p| p.name == text || id == Some(p.node)) {
            return Ok(Route::Peer(peer.node));
        }
        let mut known: Vec<&str> = peers.iter().map(|p| p.name.as_str()).collect();
        known.sort_unstable();
        let hint = if known.is_empty() {
            "no other node is known: `rhd invite` here, `rhd join TICKET` there".into()
        } else {
            format!(
                "known nodes: here ({}), {}; see `rhd peers`",
                self.mesh.name(),
                known.join(", ")
            )
        };
        Err(ErrorInfo::new(ErrorKind::NotFound, format!("no node named {text:?} in this realm"))
            .hint(hint)
            .on(&self.mesh.name()))
    }

    /// The name of a node, for people.
    pub fn node_name(&self, node: NodeId) -> String {
        if node == self.mesh.me() {
            return self.mesh.name();
        }
        let peers = self.peers.borrow();
        peers.iter().find(|p| p.node == node).map_or_else(|| node.short(), |p| p.name.clone())
    }

    /// Picks the host to call `name` on: `node` if one is given, else the best that hosts it, as the
    /// wish says.
    pub fn resolve(&self, name: &str, node: Option<&str>, wish: &Wish) -> Result<Route, ErrorInfo> {
        if let Some(node) = node {
            return self.node(node);
        }
        match routing::pick(&self.candidates(name), wish) {
            Ok(best) if best.here => Ok(Route::Here),
            Ok(best) => Ok(Route::Peer(best.node)),
            Err(Refusal::Unreachable { hosts }) => {
                let hosts: Vec<String> = hosts.iter().map(|h| self.node_name(*h)).collect();
                Err(ErrorInfo::new(
                    ErrorKind::PeerLost,
                    format!("no host of {name} can be reached: {}", hosts.join(", ")),
                )
                .hint("nothing ran; see `rhd peers`")
                .on(&self.mesh.name()))
            }
            Err(_) => Err(self.not_found(name)),
        }
    }

    /// Whether a node is known to host this canonical name.
    pub fn knows(&self, name: &str) -> bool {
        self.registry.get(name).is_some()
            || self.peers.borrow().iter().any(|p| self.ads_of(p).iter().any(|ad| ad.name == name))
    }

    /// Every service that is known, with the nodes that host it.
    pub fn hosts(&self) -> Vec<(NodeId, ServiceAd)> {
        let mut all: Vec<_> =
            self.registry.ads().into_iter().map(|ad| (self.mesh.me(), ad)).collect();
        for peer in self.peers.borrow().iter() {
            all.extend(self.ads_of(peer).into_iter().map(|ad| (peer.node, ad)));
        }
        all.sort_by(|a, b| (&a.1.name, a.0).cmp(&(&b.1.name, b.0)));
        all
    }

    /// A generation above every deployment of `name` that is known.
    pub fn next_generation(&self, name: &str) -> u64 {
        let known = self.hosts().into_iter().filter(|(_, ad)| ad.name == name);
        known.map(|(_, ad)| ad.generation).max().unwrap_or(0).saturating_add(1)
    }

    /// The error for a name that nobody hosts, naming what is like it.
    pub fn not_found(&self, name: &str) -> ErrorInfo {
        let last = |n: &str| n.rsplit('/').next().unwrap_or_default().to_lowercase();
        let wanted = last(name);
        let mut near: Vec<String> = self
            .hosts()
            .into_iter()
            .map(|(_, ad)| ad.name)
            .filter(|n| last(n).contains(&wanted) || wanted.contains(&last(n)))
            .take(5)
            .collect();
        near.dedup();
        let hint = if near.is_empty() {
            "see `rhd ls` for what is hosted; send it with rh.function(f).to(node)".into()
        } else {
            format!("did you mean {}?", near.join(" or "))
        };
        ErrorInfo::new(ErrorKind::NotFound, format!("no node hosts {name}"))
            .hint(hint)
            .on(&self.mesh.name())
    }

    /// Notes what this node has just put on a peer, or taken off it, so that the next call here
    /// need not wait for the peer's presence.
    pub fn note(&self, peer: NodeId, name: &str, ad: Option<ServiceAd>) {
        if is_public(name) {
            self.fresh.note(peer, name, ad, Instant::now());
        }
    }

    fn ads_of(&self, peer: &PeerInfo) -> Vec<ServiceAd> {
        let said = peer.record.as_ref().map_or(&[][..], |record| &record.services);
        self.fresh.correct(peer.node, said, Instant::now())
    }

    fn candidates(&self, name: &str) -> Vec<Candidate> {
        let mut found = Vec::new();
        if let Some(hosted) = self.registry.get(name) {
            found.push(Candidate {
                node: self.mesh.me(),
                generation: hosted.service.generation,
                version: hosted.service.version,
                load: 0,
                rtt_us: Some(0),
                linked: true,
                here: true,
            });
        }
        for peer in self.peers.borrow().iter() {
            let ads = self.ads_of(peer).into_iter().filter(|ad| ad.name == name);
            found.extend(ads.map(|ad| Candidate {
                node: peer.node,
                generation: ad.generation,
                version: ad.version,
                load: peer.record.as_ref().map_or(0, |record| record.load),
                rtt_us: peer.rtt.map(|rtt| rtt.as_micros() as u64),
                linked: peer.path != mesh::Route::None,
                here: false,
            }));
        }
        found
    }
}

/// Whether a service is spread to peers: those whose last part starts with a dot are private to the
/// handle that made them.
pub fn is_public(name: &str) -> bool {
    !name.rsplit('/').next().is_some_and(|last| last.starts_with('.'))
}
