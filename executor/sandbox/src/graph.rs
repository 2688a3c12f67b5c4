//! Who calls whom: what can recurse, and how deep the rest gets.

/// Directed edges between `0..nodes`.
#[derive(Debug)]
pub(crate) struct Graph {
    /// Where the edges of each node begin in `targets`; one entry more than there are nodes.
    starts: Vec<u32>,
    targets: Vec<u32>,
}

/// What the analysis finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Analysis {
    /// Of each node: whether it is on a cycle.
    pub(crate) recursive: Vec<bool>,
    /// The most that the weights of the nodes on a path add up to, nodes on cycles counting nothing. Saturates.
    pub(crate) deepest: u32,
}

impl Graph {
    /// The graph with these edges, in any order.
    pub(crate) fn new(nodes: usize, edges: &[(u32, u32)]) -> Graph {
        let mut starts = vec![0u32; nodes + 1];
        for &(from, _) in edges {
            starts[from as usize + 1] += 1;
        }
        for node in 0..nodes {
            starts[node + 1] += starts[node];
        }
        let mut next = starts.clone();
        let mut targets = vec![0; edges.len()];
        for &(from, to) in edges {
            let slot = &mut next[from as usize];
            targets[*slot as usize] = to;
            *slot += 1;
        }
        Graph { starts, targets }
    }

    fn nodes(&self) -> usize {
        self.starts.len() - 1
    }

    fn edges(&self, node: u32) -> std::ops::Range<usize> {
        self.starts[node as usize] as usize..self.starts[node as usize + 1] as usize
    }

    /// Tarjan's strongly connected components (SIAM J. Comput. 1(2), 1972), with a stack of its own: the calls of a contract may
    /// be a chain of thousands. Components come out callees first, so the longest path is computed on the way.
    pub(crate) fn analyse(&self, weight: impl Fn(u32) -> u32) -> Analysis {
        const UNSEEN: u32 = u32::MAX;
        let nodes = self.nodes();
        let mut order = vec![UNSEEN; nodes];
        let mut low = vec![0u32; nodes];
        let mut open = vec![false; nodes];
        let mut component = Vec::new();
        let mut recursive = vec![false; nodes];
        // Of each finished node: the deepest path from it on, itself included.
        let mut depth = vec![0u32; nodes];
        let mut path: Vec<(u32, usize)> = Vec::new();
        let mut seen = 0;
        for root in 0..nodes as u32 {
            if order[root as usize] != UNSEEN {
                continue;
            }
            path.push((root, self.edges(root).start));
            while let Some((node, edge)) = path.last_mut() {
                let at = *node as usize;
                if order[at] == UNSEEN {
                    order[at] = seen;
                    low[at] = seen;
                    seen += 1;
                    open[at] = true;
                    component.push(*node);
                }
                if *edge < self.edges(*node).end {
                    let to = self.targets[*edge];
                    *edge += 1;
                    if order[to as usize] == UNSEEN {
                        path.push((to, self.edges(to).start));
                    } else if open[to as usize] {
                        low[at] = low[at].min(order[to as usize]);
                    }
                    continue;
                }
                let node = *node;
                path.pop();
                if let Some(&(parent, _)) = path.last() {
                    low[parent as usize] = low[parent as usize].min(low[at]);
                }
                if low[at] != order[at] {
                    continue;
                }
                // `node` is the first of its component, which is the end of the list.
                let first = component
                    .iter()
                    .rposition(|&member| member == node)
                    .unwrap_or(0);
                let members = component.split_off(first);
                let cycle =
                    members.len() > 1 || self.edges(node).any(|edge| self.targets[edge] == node);
                let below = members
                    .iter()
                    .flat_map(|&member| self.edges(member))
                    .map(|edge| depth[self.targets[edge] as usize])
                    .max()
                    .unwrap_or(0);
                let here = if cycle { 0 } else { weight(node) };
                for &member in &members {
                    open[member as usize] = false;
                    recursive[member as usize] = cycle;
                    depth[member as usize] = below.saturating_add(here);
                }
            }
        }
        Analysis {
            recursive,
            deepest: depth.into_iter().max().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reaches(nodes: usize, edges: &[(u32, u32)]) -> Vec<Vec<bool>> {
        let mut reach = vec![vec![false; nodes]; nodes];
        for &(from, to) in edges {
            reach[from as usize][to as usize] = true;
        }
        for k in 0..nodes {
            for i in 0..nodes {
                for j in 0..nodes {
                    reach[i][j] |= reach[i][k] && reach[k][j];
                }
            }
        }
        reach
    }

    /// By trying all paths.
    fn deepest(nodes: usize, edges: &[(u32, u32)], recursive: &[bool], weights: &[u32]) -> u32 {
        fn from(
            node: u32,
            edges: &[(u32, u32)],
            recursive: &[bool],
            weights: &[u32],
            on: &mut Vec<u32>,
        ) -> u32 {
            on.push(node);
            let below = edges
                .iter()
                .filter(|&&(a, b)| a == node && !on.contains(&b))
                .map(|&(_, b)| b)
                .collect::<Vec<_>>()
                .into_iter()
                .map(|next| from(next, edges, recursive, weights, on))
                .max()
                .unwrap_or(0);
            on.pop();
            let own = if recursive[node as usize] {
                0
            } else {
                weights[node as usize]
            };
            below + own
        }
        (0..nodes as u32)
            .map(|node| from(node, edges, recursive, weights, &mut Vec::new()))
            .max()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn cycles_and_depths_are_those_of_the_definition(
            edges in proptest::collection::vec((0u32..7, 0u32..7), 0..14),
            weights in proptest::collection::vec(0u32..100, 7),
        ) {
            let found = Graph::new(7, &edges).analyse(|node| weights[node as usize]);
            let reach = reaches(7, &edges);
            let recursive: Vec<bool> = (0..7).map(|node| reach[node][node]).collect();
            prop_assert_eq!(found.deepest, deepest(7, &edges, &recursive, &weights));
            prop_assert_eq!(found.recursive, recursive);
        }
    }

    #[test]
    fn a_chain_of_a_million_calls_needs_no_native_stack_and_saturates() {
        let edges: Vec<(u32, u32)> = (0..999_999).map(|node| (node, node + 1)).collect();
        let found = Graph::new(1_000_000, &edges).analyse(|_| 10_000);
        assert_eq!(found.deepest, u32::MAX);
        assert!(!found.recursive.contains(&true));
    }
}
