//! Joining a realm: invites on the founder's side, a ticket on the other.

use std::time::Duration;

use rhd_protocol::{
    VERSION,
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
    ticket::{JoinReply, JoinRequest, Ticket, TicketError},
};
use tokio::task::JoinSet;

use super::{
    endpoint::{Arrival, Endpoint},
    stream::{read_first, write_first},
};

mod invites;
pub(super) use invites::Invites;

/// How long reaching the host may take in all.
const REACH: Duration = Duration::from_secs(10);
/// Addresses of a ticket that are tried.
const ADDRS: usize = 16;

/// Reads a ticket, or says what is wrong with it.
pub(super) fn read_ticket(text: &str) -> Result<Ticket, ErrorInfo> {
    text.parse().map_err(|error: TicketError| {
        let hint = match error {
            TicketError::Foreign => "ask for one: `rhd invite` on a node of the realm prints it",
            TicketError::Garbled => "copy the whole line that `rhd invite` printed",
        };
        ErrorInfo::new(ErrorKind::BadRequest, error.to_string()).hint(hint)
    })
}

/// Reaches the ticket's host, at any of its addresses, and proves it is the one that is named.
pub(super) async fn reach(endpoint: &Endpoint, ticket: &Ticket) -> Result<Arrival, ErrorInfo> {
    let mut tried = Vec::new();
    let mut dials = JoinSet::new();
    for text in ticket.addrs.iter().take(ADDRS) {
        let Ok(addr) = text.parse() else { continue };
        let (endpoint, realm, host) = (endpoint.clone(), ticket.realm, ticket.host);
        dials.spawn(async move { endpoint.dial_join(addr, realm, host).await });
        tried.push(text.as_str());
    }
    let first = async {
        let mut failed = Vec::new();
        while let Some(dialed) = dials.join_next().await {
            match dialed {
                Ok(Ok(arrival)) => return Ok(arrival),
                Ok(Err(error)) => failed.push(error.to_string()),
                Err(_) => {}
            }
        }
        Err(failed)
    };
    let failed = match tokio::time::timeout(REACH, first).await {
        Ok(Ok(arrival)) => return Ok(arrival),
        Ok(Err(failed)) if !failed.is_empty() => failed.join("; "),
        _ => format!("no answer within {} s", REACH.as_secs()),
    };
    let message = format!(
        "the node that issued this ticket can't be reached; tried {}: {failed}",
        tried.join(", ")
    );
    Err(ErrorInfo::new(ErrorKind::PeerLost, message).hint(
        "check that it is up (`rhd status` there), that a firewall lets its UDP port through, \
         or make a new ticket with `rhd invite`",
    ))
}

/// Asks the host, which is proved, for a certificate.
pub(super) async fn ask(
    arrival: &Arrival,
    ticket: &Ticket,
    name: String,
) -> Result<JoinReply, ErrorInfo> {
    let lost = |error: String| {
        ErrorInfo::new(
            ErrorKind::PeerLost,
            format!("the host went away while it was asked: {error}"),
        )
        .hint("try again with the same ticket")
    };
    let (mut send, mut recv) =
        arrival.connection.open_bi().await.map_err(|e| lost(e.to_string()))?;
    let request = JoinRequest { v: VERSION, secret: ticket.secret.clone(), name };
    write_first(&mut send, &request).await.map_err(|e| lost(e.to_string()))?;
    let _ = send.finish();
    read_first(&mut recv).await.map_err(|e| lost(e.to_string()))
}

/// Answers one who asks for membership as `decide` says, then lets go of it.
pub(super) async fn answer<F>(arrival: Arrival, decide: impl FnOnce(NodeId, JoinRequest) -> F)
where
    F: Future<Output = JoinReply>,
{
    let serve = async {
        let (mut send, mut recv) = arrival.connection.accept_bi().await?;
        let reply = match read_first::<JoinRequest>(&mut recv).await {
            Ok(request) => decide(arrival.peer.node, request).await,
            Err(error) => {
                let message = format!("the request to join is not understood: {error}");
                let error = ErrorInfo::new(ErrorKind::VersionMismatch, message)
                    .hint("use the same version of rhd on both nodes");
                JoinReply::Refused { error }
            }
        };
        let _ = write_first(&mut send, &reply).await;
        let _ = send.finish();
        // The peer closes when it has read the answer.
        arrival.connection.closed().await;
        Ok::<_, quinn::ConnectionError>(())
    };
    if tokio::time::timeout(REACH, serve).await.is_err() {
        arrival.connection.close(0u32.into(), b"timeout");
    }
}
