//! Several nodes of one realm.

use std::ops::{Index, IndexMut};

use rhd_protocol::api::PathKind;

use crate::{Node, until};

/// Nodes that all see each other.
#[derive(Debug)]
pub struct Mesh {
    nodes: Vec<Node>,
}

impl Mesh {
    /// Starts `n` nodes, joins them by ticket and waits until all are linked to all.
    pub fn of(n: usize) -> Self {
        Self::with(n, &[])
    }

    /// As [`of`](Self::of), with these arguments to every `rhd up`.
    pub fn with(n: usize, flags: &[&str]) -> Self {
        let start = |i| Node::prepare(&format!("n{i}")).flags(flags).up();
        let nodes: Vec<Node> = (0..n).map(start).collect();
        if let [founder, others @ ..] = &nodes[..]
            && !others.is_empty()
        {
            let ticket = founder.invite(others.len());
            for node in others {
                node.join(&ticket);
            }
        }
        let mesh = Self { nodes };
        mesh.until_linked();
        mesh
    }

    /// Waits until every node has a link to every other.
    pub fn until_linked(&self) {
        for node in &self.nodes {
            until(&format!("{} is linked to all", node.name()), || {
                let linked = linked(node);
                (linked == self.nodes.len() - 1).then_some(())
            });
        }
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Takes a node out, to be dropped or kept.
    pub fn remove(&mut self, index: usize) -> Node {
        self.nodes.remove(index)
    }
}

/// Peers that `node` has a link to, without itself.
fn linked(node: &Node) -> usize {
    let reached = |path| matches!(path, PathKind::Direct | PathKind::Relayed);
    node.peers().iter().filter(|peer| reached(peer.path)).count()
}

impl Index<usize> for Mesh {
    type Output = Node;

    fn index(&self, index: usize) -> &Node {
        &self.nodes[index]
    }
}

impl IndexMut<usize> for Mesh {
    fn index_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }
}
