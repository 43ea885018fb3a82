//! What versions were made from: their records, followed from node to node.

use std::collections::HashSet;

use futures::future::join_all;
use rhd_protocol::{
    data::{DataAsk, Input, Lineage, MAX_DEPTH, MAX_INPUTS, MAX_LINEAGE, Made, Record},
    error::ErrorInfo,
    id::{Hash, NodeId},
};
use tokio::time::timeout;

use super::{ANSWER, Data};
use crate::asked::refused;

impl Data {
    /// The records of this node that tell how these came about.
    pub(super) async fn records(
        &self,
        inputs: &[String],
    ) -> Result<Vec<Option<Record>>, ErrorInfo> {
        if inputs.len() > MAX_INPUTS {
            return Err(refused("too many inputs in one question"));
        }
        let parsed: Result<Vec<Input>, _> = inputs.iter().map(|input| input.parse()).collect();
        self.recorded(parsed.map_err(|e| refused(&e.to_string()))?).await
    }

    async fn recorded(&self, inputs: Vec<Input>) -> Result<Vec<Option<Record>>, ErrorInfo> {
        let (names, node) = (self.shelf.names.clone(), self.mesh.name());
        // There may be very many versions to look through.
        let found = tokio::task::spawn_blocking(move || names.holding(&inputs)).await;
        let found = found.map_err(|e| refused(&format!("the names could not be read: {e}")))?;
        let record = |(name, version)| Record { name, node: node.clone(), version };
        Ok(found.into_iter().map(|found| found.map(record)).collect())
    }

    /// What something was made from, and so on, so many steps back.
    pub(super) async fn lineage(
        &self,
        blob: &str,
        version: Option<u64>,
        depth: u32,
    ) -> Result<Lineage, ErrorInfo> {
        let mut peers = self.reachable();
        let root = self.root(blob, version, &mut peers).await?;
        let first = Input { name: Some(root.name.clone()), hash: root.version.content.hash };
        let mut next = inputs_of(&root);
        let mut lineage = Lineage { made: Vec::new(), cut: false };
        lineage.made.push(Made { blob: first.to_string(), record: Some(root) });
        let mut seen = HashSet::from([first]);
        for _ in 0..depth.min(MAX_DEPTH) {
            next.retain(|input| seen.insert(input.clone()));
            let room = MAX_LINEAGE - lineage.made.len();
            lineage.cut |= next.len() > room;
            next.truncate(room);
            if next.is_empty() {
                return Ok(lineage);
            }
            let records = self.known(&next, &mut peers).await?;
            let step = std::mem::take(&mut next);
            for (input, record) in step.into_iter().zip(records) {
                next.extend(record.iter().flat_map(inputs_of));
                lineage.made.push(Made { blob: input.to_string(), record });
            }
        }
        lineage.cut |= next.iter().any(|input| !seen.contains(input));
        Ok(lineage)
    }

    /// The record to start from: a version of a name here, or whatever holds the content.
    async fn root(
        &self,
        blob: &str,
        version: Option<u64>,
        peers: &mut Vec<NodeId>,
    ) -> Result<Record, ErrorInfo> {
        let Ok(hash) = blob.parse::<Hash>() else {
            let version = match version {
                Some(number) => self.shelf.version(blob, number)?,
                None => self.shelf.names.get(blob).ok_or_else(|| self.unknown(blob))?.0,
            };
            return Ok(Record { name: blob.into(), node: self.mesh.name(), version });
        };
        let found = self.known(&[Input { name: None, hash }], peers).await?.pop().flatten();
        found.ok_or_else(|| {
            self.unknown(blob).hint("no name stands for it: what is saved has a record")
        })
    }

    /// The records of these, here or wherever they are; nodes that don't answer are not asked again.
    async fn known(
        &self,
        inputs: &[Input],
        peers: &mut Vec<NodeId>,
    ) -> Result<Vec<Option<Record>>, ErrorInfo> {
        let mut found = self.recorded(inputs.to_vec()).await?;
        let open: Vec<usize> =
            (0..inputs.len()).filter(|n| !is_of(found[*n].as_ref(), &inputs[*n])).collect();
        if open.is_empty() || peers.is_empty() {
            return Ok(found);
        }
        let wanted: Vec<&Input> = open.iter().map(|n| &inputs[*n]).collect();
        let asks = peers.iter().map(|peer| self.asked(*peer, &wanted));
        let said = join_all(asks).await;
        let mut answering = said.iter().map(Option::is_some);
        peers.retain(|_| answering.next().unwrap_or(false));
        for records in said.into_iter().flatten() {
            for (n, record) in open.iter().zip(records) {
                let Some(record) = record.filter(|r| r.is_of(inputs[*n].hash)) else { continue };
                if is_better(&record, found[*n].as_ref(), &inputs[*n]) {
                    found[*n] = Some(record);
                }
            }
        }
        Ok(found)
    }

    /// What one node knows of them; none: it does not answer.
    async fn asked(&self, peer: NodeId, inputs: &[&Input]) -> Option<Vec<Option<Record>>> {
        let node = self.naming.node_name(peer);
        let mut all = Vec::with_capacity(inputs.len());
        for some in inputs.chunks(MAX_INPUTS) {
            let ask = DataAsk::Records { inputs: some.iter().map(ToString::to_string).collect() };
            let said = self.peers.value::<Vec<Option<Record>>>(peer, &ask);
            let mut said = timeout(ANSWER, said).await.ok()?.ok()?;
            said.resize(some.len(), None);
            // It speaks for itself only.
            let own = |record| Record { node: node.clone(), ..record };
            all.extend(said.into_iter().map(|record| record.map(own)));
        }
        Some(all)
    }
}

fn inputs_of(record: &Record) -> Vec<Input> {
    record.version.inputs.iter().filter_map(|input| input.parse().ok()).collect()
}

/// Whether this is the record of what was read, under the name that it was read by.
fn is_of(record: Option<&Record>, input: &Input) -> bool {
    record.is_some_and(|r| input.name.as_ref().is_none_or(|name| *name == r.name))
}

/// Whether a record tells more of what was read than another: by its own name, or from earlier.
fn is_better(record: &Record, known: Option<&Record>, input: &Input) -> bool {
    let Some(known) = known else { return true };
    let rank = |r: &Record| (!is_of(Some(r), input), r.version.saved_ms);
    rank(record) < rank(known)
}
