//! The door of a realm: making tickets, letting their holders in, and going in elsewhere.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    membership::{Membership, Role},
    ticket::{JoinReply, JoinRequest, Ticket},
};
use tokio::sync::mpsc;

use super::{Mesh, MeshError, endpoint::Arrival, join, lock, roster::Msg, tls::Credentials};

/// Joins that are answered at once; more wait at the door.
const JOINS: usize = 32;

impl Mesh {
    /// Makes a ticket that lets `uses` nodes join within `expires`.
    pub async fn invite(
        &self,
        role: Role,
        uses: u32,
        expires: Duration,
    ) -> Result<Ticket, ErrorInfo> {
        let realm = self.membership().realm();
        if !self.is_founder() {
            let founder = self.founder();
            let message = format!("only {founder} can invite to this realm");
            return Err(ErrorInfo::new(ErrorKind::PermissionDenied, message)
                .hint(format!("rhd invite, on {founder}"))
                .on(&self.name()));
        }
        let invites = self.inner.invites.clone();
        let now = SystemTime::now();
        let create = move || lock(&invites).create(role, uses, expires, now);
        let secret = tokio::task::spawn_blocking(create)
            .await
            .map_err(|_| MeshError::Stopped)?
            .map_err(MeshError::from)?;
        let addrs = self.listen_addrs().iter().map(SocketAddr::to_string).collect();
        Ok(Ticket { realm, host: self.me(), addrs, secret, role })
    }

    /// Joins the ticket's realm, under `name` if it is free there.
    pub async fn join(&self, ticket: &str, name: Option<String>) -> Result<(), ErrorInfo> {
        let _one = self.inner.joining.lock().await;
        let ticket = join::read_ticket(ticket)?;
        self.may_join(&ticket).map_err(|error| error.on(&self.name()))?;
        let arrival = join::reach(&self.inner.endpoint, &ticket).await?;
        let name = name.unwrap_or_else(|| self.name());
        let reply = join::ask(&arrival, &ticket, name).await;
        arrival.connection.close(0u32.into(), b"done");
        let (cert, host) = match reply? {
            JoinReply::Welcome { cert, host } => (cert, host),
            JoinReply::Refused { error } => return Err(error),
        };
        let welcome = cert.body.node == self.me() && cert.verify(ticket.realm).is_ok();
        if !welcome || host.body.node != ticket.host || host.verify(ticket.realm).is_err() {
            let message = "the host answered with a certificate that does not hold";
            return Err(ErrorInfo::new(ErrorKind::Internal, message));
        }
        tracing::info!(realm = %ticket.realm.short(), name = cert.body.name, "joined");
        let addr = arrival.connection.remote_address();
        {
            let mut identity = lock(&self.inner.identity);
            let keypair = identity.keypair();
            let membership = Membership { cert: cert.clone() };
            let credentials = Credentials::new(&keypair, membership).map_err(MeshError::from)?;
            identity.adopt(cert, host.clone()).map_err(MeshError::from)?;
            self.inner.credentials.send_replace(Arc::new(credentials));
        }
        self.inner.roster.tell(Msg::Rejoined).await;
        let learned = Msg::Learned { node: ticket.host, cert: Some(host), addrs: vec![addr] };
        self.inner.roster.tell(learned).await;
        Ok(())
    }

    fn may_join(&self, ticket: &Ticket) -> Result<(), ErrorInfo> {
        let conflict = |message: &str| ErrorInfo::new(ErrorKind::Conflict, message);
        if ticket.host == self.me() {
            return Err(conflict("this ticket was issued by this very node")
                .hint("give it to another node: rhd join TICKET"));
        }
        if ticket.realm == self.membership().realm() {
            return Err(conflict("this node belongs to that realm already").hint("rhd peers"));
        }
        let alone = self.is_founder() && self.peers().borrow().is_empty();
        if !alone {
            return Err(conflict("this node belongs to another realm with other members")
                .hint("start a second node for this realm: rhd --home DIR up, then join there"));
        }
        Ok(())
    }

    /// The founder's name, as far as it is known here.
    fn founder(&self) -> String {
        let founder = lock(&self.inner.identity).founder.clone();
        founder.map_or_else(|| "the node that founded it".into(), |cert| cert.body.name)
    }

    pub(super) async fn answer_joins(self, mut arrivals: mpsc::Receiver<Arrival>) {
        let mut running = tokio::task::JoinSet::new();
        while let Some(arrival) = arrivals.recv().await {
            if running.len() >= JOINS {
                running.join_next().await;
            }
            let mesh = self.clone();
            let addr = arrival.connection.remote_address();
            running.spawn(join::answer(arrival, move |node, request| async move {
                mesh.decide(node, addr, request).await
            }));
        }
    }

    async fn decide(&self, node: NodeId, addr: SocketAddr, request: JoinRequest) -> JoinReply {
        let host = self.membership().cert;
        let key = lock(&self.inner.identity).realm_key().cloned();
        let invites = self.inner.invites.clone();
        let founder = host.clone();
        let now = SystemTime::now();
        let admit = move || match key {
            Some(key) => {
                lock(&invites).admit(node, &request.secret, &request.name, &founder, &key, now)
            }
            None => {
                Err(ErrorInfo::new(ErrorKind::PermissionDenied, "this node can't let others in")
                    .hint("ask for a ticket of the realm's founder"))
            }
        };
        let stopped = || Err(MeshError::Stopped.into());
        match tokio::task::spawn_blocking(admit).await.unwrap_or_else(|_| stopped()) {
            Ok(cert) => {
                tracing::info!(peer = %node.short(), name = cert.body.name, "let in");
                let learned = Msg::Learned { node, cert: Some(cert.clone()), addrs: vec![addr] };
                self.inner.roster.tell(learned).await;
                JoinReply::Welcome { cert, host }
            }
            Err(error) => JoinReply::Refused { error: error.on(&host.body.name) },
        }
    }
}
