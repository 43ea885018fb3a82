//! Who may ask: by the connection, the `Host`, the page that a browser asks for, and the token.
//!
//! On loopback no token is needed, so two things must not pass for the user: a web page of another
//! origin (`Origin`, `Sec-Fetch-Site`), and one whose name was made to point here (`Host`).

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, HeaderName, StatusCode, header, request::Parts, uri::Authority};
use rhd_protocol::error::{ErrorInfo, ErrorKind};

use super::{
    config::{Config, Token},
    failure::Failure,
};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FORWARDED: [HeaderName; 2] = [header::FORWARDED, HeaderName::from_static("x-forwarded-for")];

/// The two ends of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
}

/// The rules.
#[derive(Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    token: blake3::Hash,
    require_token: bool,
    token_file: String,
}

impl Guard {
    pub(super) fn new(config: &Config, token: &Token, token_file: String) -> Self {
        Self {
            hosts: config.hosts.iter().map(|host| bare(host).to_ascii_lowercase()).collect(),
            token: blake3::hash(token.0.as_bytes()),
            require_token: config.require_token,
            token_file,
        }
    }

    /// Whether a request may go on.
    pub(super) fn admit(&self, ends: &Ends, request: &Parts) -> Result<(), Failure> {
        let host = self.host(ends, request)?;
        same_origin(&request.headers, &host)?;
        self.token(ends, &request.headers)
    }

    /// The host that was asked for, if it is this node.
    fn host(&self, ends: &Ends, request: &Parts) -> Result<Authority, Failure> {
        let mut said = request.headers.get_all(header::HOST).iter();
        let (Some(host), None) = (said.next(), said.next()) else {
            return Err(refused(StatusCode::BAD_REQUEST, "a request names one Host", ""));
        };
        let of_uri = request.uri.authority();
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        match host {
            Some(host) if self.is_ours(ends, &host) && of_uri.is_none_or(|uri| *uri == host) => {
                Ok(host)
            }
            _ => Err(refused(
                StatusCode::FORBIDDEN,
                "the Host of this request is not this node",
                "ask for it by its address, or add the name to the setting web.hosts",
            )),
        }
    }

    fn is_ours(&self, ends: &Ends, host: &Authority) -> bool {
        if host.as_str().contains('@') {
            return false;
        }
        let name = bare(host.host());
        match name.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
            // A page can't make its own address point elsewhere; a name it can.
            Ok(ip) if ip.is_loopback() || ip == ends.local.ip().to_canonical() => true,
            _ => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || self.hosts.contains(&name)
            }
        }
    }

    fn token(&self, ends: &Ends, headers: &HeaderMap) -> Result<(), Failure> {
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        match (said.next(), said.next()) {
            (Some(said), None) => {
                let token = said.as_bytes().split_at_checked(7);
                let right = token.is_some_and(|(scheme, token)| {
                    // Compared as hashes: the time it takes says nothing about the token.
                    scheme.eq_ignore_ascii_case(b"bearer ") && blake3::hash(token) == self.token
                });
                if right { Ok(()) } else { Err(self.unauthorised("the token is not the node's")) }
            }
            (None, _) if self.is_trusted(ends, headers) => Ok(()),
            (None, _) => Err(self.unauthorised("a token is needed")),
            _ => Err(self.unauthorised("a request has one Authorization")),
        }
    }

    /// Whether the caller is on this machine, and not a proxy for someone who is not.
    fn is_trusted(&self, ends: &Ends, headers: &HeaderMap) -> bool {
        let near = |end: SocketAddr| end.ip().to_canonical().is_loopback();
        !self.require_token
            && near(ends.peer)
            && near(ends.local)
            && !FORWARDED.iter().any(|name| headers.contains_key(name))
    }

    fn unauthorised(&self, why: &str) -> Failure {
        let hint = format!("send `Authorization: Bearer TOKEN`; it is in {}", self.token_file);
        refused(StatusCode::UNAUTHORIZED, why, &hint)
            .with(header::WWW_AUTHENTICATE, "Bearer realm=\"rhd\"")
    }
}

/// Refuses what a page of another origin has its browser ask.
fn same_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Failure> {
    let fine = |name: HeaderName, allowed: &dyn Fn(&str) -> bool| {
        headers.get_all(name).iter().all(|value| value.to_str().is_ok_and(allowed))
    };
    let own = format!("http://{host}");
    if fine(FETCH_SITE, &|site| matches!(site, "same-origin" | "none"))
        && fine(header::ORIGIN, &|origin| origin.eq_ignore_ascii_case(&own))
    {
        return Ok(());
    }
    Err(refused(
        StatusCode::FORBIDDEN,
        "a web page of another origin may not call this node",
        "call it from a program, or from a page that the node itself serves",
    ))
}

/// An address without the brackets that IPv6 has in a URL.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn refused(status: StatusCode, message: &str, hint: &str) -> Failure {
    let kind = match status {
        StatusCode::BAD_REQUEST => ErrorKind::BadRequest,
        _ => ErrorKind::PermissionDenied,
    };
    Failure::new(status, ErrorInfo::new(kind, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn ask(peer: &str, local: &str, config: &Config, headers: &[(&str, &str)]) -> u16 {
        let guard = Guard::new(config, &Token(TOKEN.into()), String::new());
        let ends = Ends { peer: peer.parse().unwrap(), local: local.parse().unwrap() };
        let mut request = Request::builder().uri("/f");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        guard.admit(&ends, &parts).err().map_or(200, |f| f.status.as_u16())
    }

    fn near(headers: &[(&str, &str)]) -> u16 {
        ask("127.0.0.1:9", "127.0.0.1:32300", &Config::default(), headers)
    }

    #[test]
    fn only_a_name_that_cannot_be_bent_reaches_loopback() {
        for host in ["127.0.0.1:32300", "localhost:32300", "LOCALHOST", "[::1]:1", "127.8.8.8"] {
            assert_eq!(near(&[("host", host)]), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io",
            "10.0.0.1",
            "a@127.0.0.1",
        ] {
            assert_eq!(near(&[("host", host)]), 403, "{host}");
        }
        assert_eq!(near(&[]), 400);
        assert_eq!(near(&[("host", "localhost"), ("host", "localhost")]), 400);
        let config = Config { hosts: vec!["Box.lan".into()], ..Config::default() };
        let named = |host| ask("127.0.0.1:9", "127.0.0.1:1", &config, &[("host", host)]);
        assert_eq!((named("box.LAN:1"), named("box2.lan")), (200, 403));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let host = ("host", "localhost:32300");
        for (name, value, status) in [
            ("origin", "http://localhost:32300", 200),
            ("origin", "http://localhost:8000", 403),
            ("origin", "https://localhost:32300", 403),
            ("origin", "https://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "same-origin", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "cross-site", 403),
        ] {
            assert_eq!(near(&[host, (name, value)]), status, "{name}: {value}");
        }
    }

    #[test]
    fn whoever_is_not_on_this_machine_needs_the_token() {
        let (host, right) = (("host", "10.0.0.1:1"), format!("Bearer {TOKEN}"));
        let far = |headers: &[_]| ask("10.0.0.9:9", "10.0.0.1:1", &Config::default(), headers);
        assert_eq!(far(&[host]), 401);
        for wrong in ["Bearer", "Bearer x", "Basic 0123456789abcdef", TOKEN, ""] {
            assert_eq!(far(&[host, ("authorization", wrong)]), 401, "{wrong}");
        }
        assert_eq!(far(&[host, ("authorization", &right)]), 200);
        assert_eq!(far(&[host, ("authorization", &right), ("authorization", &right)]), 401);
        // A token does not open the door to a page of another origin.
        assert_eq!(far(&[host, ("authorization", &right), ("origin", "http://x")]), 403);
        let host = ("host", "localhost");
        assert_eq!(near(&[host, ("authorization", "Bearer wrong")]), 401);
        assert_eq!(near(&[host, ("x-forwarded-for", "10.0.0.9")]), 401);
        let strict = Config { require_token: true, ..Config::default() };
        let near = |headers: &[_]| ask("[::1]:9", "[::1]:1", &strict, headers);
        assert_eq!((near(&[host]), near(&[host, ("authorization", &right)])), (401, 200));
    }
}
