//! What must hold in every world.

use rhd_protocol::{
    id::NodeId,
    machine::routing::{self, Wish},
    presence::TTL_MS,
};

use crate::world::{Broken, World};

impl World<'_> {
    /// Checks every invariant and makes a call; whether the run is over.
    pub(crate) fn check(&mut self) -> Result<bool, Broken> {
        for node in self.alive() {
            self.check_table(node)?;
        }
        self.call()?;
        if !self.is_quiet() {
            return Ok(false);
        }
        match self.disagreement() {
            None => {
                self.metrics.converge_ms = self.now - self.scenario.chaos_ms;
                self.check_routes()?;
                Ok(true)
            }
            Some(why) if self.now > self.deadline() => {
                Err(self.broken(format!("no agreement after faults ended: {why}")))
            }
            Some(_) => Ok(false),
        }
    }

    fn index(&self, id: NodeId) -> Option<usize> {
        self.nodes.iter().position(|node| node.id() == id)
    }

    /// Tables list what was said, never go back, and forget the dead.
    fn check_table(&mut self, at: usize) -> Result<(), Broken> {
        let (clock, life) = (self.nodes[at].clock(self.now), self.nodes[at].lives);
        let Some(alive) = &mut self.nodes[at].life else { return Ok(()) };
        alive.table.expire(clock);
        let listed: Vec<_> =
            alive.table.records().map(|r| (r.node(), r.seq, r.services.clone())).collect();
        for (node, seq, services) in listed {
            if !self.said.get(&(node, seq)).is_some_and(|said| said.contains(&services)) {
                return Err(self.broken(format!("node {at} lists what nobody said")));
            }
            let before = self.listed.insert((at, life, node), seq);
            if before.is_some_and(|before| before > seq) {
                return Err(self.broken(format!("node {at} went back to an older record")));
            }
            let Some(about) = self.index(node).filter(|n| self.nodes[*n].life.is_none()) else {
                continue;
            };
            let age = self.now - self.nodes[about].died;
            self.metrics.stalest_ms = self.metrics.stalest_ms.max(age);
            if age > TTL_MS + self.way() {
                let what = format!("node {at} lists node {about}, dead for {age} ms");
                return Err(self.broken(what));
            }
        }
        Ok(())
    }

    /// Routes a call from any node to any service.
    fn call(&mut self) -> Result<(), Broken> {
        let (alive, service) = (self.alive(), self.service());
        let Some(from) = self.rng.choose(&alive).copied() else { return Ok(()) };
        self.metrics.calls += 1;
        match self.route(from, &service) {
            None => self.metrics.refused += 1,
            Some(host) if self.nodes[host].life.is_none() => {
                self.metrics.calls_to_dead += 1;
                // `check_table` has just held every entry against its time.
                let listed = self.nodes[from].life.as_ref();
                if listed.is_none_or(|l| l.table.get(self.nodes[host].id()).is_none()) {
                    return Err(self.broken(format!("node {from} called an expired host")));
                }
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn route(&self, from: usize, service: &str) -> Option<usize> {
        let linked = |id| self.index(id).is_some_and(|to| !self.is_cut(from, to));
        let candidates = self.nodes[from].life.as_ref()?.candidates(service, linked);
        let host = routing::pick(&candidates, &Wish::default()).ok()?;
        self.index(host.node)
    }

    /// Why not every node knows exactly the nodes that are up, and what they host.
    fn disagreement(&self) -> Option<String> {
        let alive = self.alive();
        for at in &alive {
            let table = &self.nodes[*at].life.as_ref()?.table;
            if let Some(dead) = table
                .records()
                .find(|r| self.index(r.node()).is_none_or(|n| self.nodes[n].life.is_none()))
            {
                return Some(format!("node {at} lists {}, which is down", dead.cert.body.name));
            }
            for about in alive.iter().filter(|about| *about != at) {
                let truth = &self.nodes[*about].life.as_ref()?.record.services;
                if table.get(self.nodes[*about].id()).map(|r| &r.services) != Some(truth) {
                    return Some(format!("node {at} does not know what node {about} hosts"));
                }
            }
        }
        None
    }

    /// All agreeing, every node sends a call to the newest deployment that is up.
    fn check_routes(&mut self) -> Result<(), Broken> {
        for service in (0..self.scenario.services).map(|n| format!("/ann/s{n}")) {
            let ads = self
                .nodes
                .iter()
                .filter_map(|n| n.life.as_ref())
                .flat_map(|life| life.record.services.iter().filter(|ad| ad.name == service));
            let newest = ads.map(|ad| (ad.generation, ad.version)).max();
            for from in self.alive() {
                let host = self.route(from, &service).and_then(|n| self.nodes[n].life.as_ref());
                let hosted =
                    host.and_then(|h| h.record.services.iter().find(|ad| ad.name == service));
                if hosted.map(|ad| (ad.generation, ad.version)) != newest {
                    return Err(self.broken(format!("node {from} misses the newest {service}")));
                }
            }
        }
        Ok(())
    }
}
