//! Networks of a test's own: namespaces, and cables between them. Needs root and `ip`.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

const PREFIX: &str = "rhdtest";

/// Namespaces; dropping it takes them away. Declare it before the nodes that live there.
#[derive(Debug)]
pub(crate) struct Network {
    id: String,
    names: Vec<String>,
}

impl Network {
    /// Hosts of these names, with nothing but loopback; `None`, said aloud, for anybody but root.
    ///
    /// # Panics
    /// When root can't make them: `tests/run` leaves these tests out then, and says so.
    pub(crate) fn of(hosts: &[&str]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            let _ = writeln!(io::stderr(), "NOT RUN: only root can make network namespaces");
            return None;
        }
        sweep();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{PREFIX}-{}-{count}", std::process::id());
        let mut network = Self { id, names: Vec::new() };
        for host in hosts {
            let name = network.ns(host);
            ip(&["netns", "add", &name]);
            network.names.push(name.clone());
            ip(&["-n", &name, "link", "set", "lo", "up"]);
        }
        Some(network)
    }

    /// The namespace of a host.
    pub(crate) fn ns(&self, host: &str) -> String {
        format!("{}-{host}", self.id)
    }

    /// Lays a cable between two hosts; each end has an address with the length of its network.
    pub(crate) fn cable(&self, ends: [(&str, &str); 2]) {
        let [(a, a_addr), (b, b_addr)] = ends;
        let (a_end, b_end) = (format!("to-{b}"), format!("to-{a}"));
        let (a, b) = (self.ns(a), self.ns(b));
        ip(&["-n", &a, "link", "add", &a_end, "type", "veth", "peer", "name", &b_end, "netns", &b]);
        for (ns, end, addr) in [(&a, &a_end, a_addr), (&b, &b_end, b_addr)] {
            ip(&["-n", ns, "addr", "add", addr, "dev", end]);
            ip(&["-n", ns, "link", "set", end, "up"]);
        }
    }

    /// Has a host send all that is not for its own network to a gateway.
    pub(crate) fn gateway(&self, host: &str, addr: &str) {
        ip(&["-n", &self.ns(host), "route", "add", "default", "via", addr]);
    }

    /// Whether a host passes on packets that are not for itself.
    pub(crate) fn forward(&self, host: &str, forward: bool) {
        let value = u8::from(forward);
        let script = format!("echo {value} > /proc/sys/net/ipv4/ip_forward");
        self.run(host, &["sh", "-c", &script]);
    }

    /// Makes a host a home router: it hides what is behind it, and lets in only what answers.
    pub(crate) fn masquerade(&self, host: &str, outside: &str) {
        self.forward(host, true);
        let out = format!("to-{outside}");
        let rules = format!(
            "table ip home {{
                chain hide {{
                    type nat hook postrouting priority 100;
                    oifname \"{out}\" masquerade
                }}
                chain input {{
                    type filter hook input priority 0;
                    iifname \"{out}\" ct state != {{ established, related }} drop
                }}
                chain forward {{
                    type filter hook forward priority 0;
                    iifname \"{out}\" ct state != {{ established, related }} drop
                }}
            }}"
        );
        self.run(host, &["nft", &rules]);
    }

    /// Runs a program on a host, which must succeed.
    pub(crate) fn run(&self, host: &str, args: &[&str]) {
        ip(&[&["netns", "exec", &self.ns(host)], args].concat());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            remove(name);
        }
    }
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// Takes away what tests left that were killed.
fn sweep() {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let mut parts = name.split('-');
        let ours = parts.next() == Some(PREFIX);
        let pid: Option<u32> = parts.next().and_then(|pid| pid.parse().ok());
        if ours && pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let output = match Command::new("ip").args(args).output() {
        Ok(output) => output,
        Err(error) => panic!("no networks for tests: ip: {error}; install iproute2"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", args.join(" "));
}
