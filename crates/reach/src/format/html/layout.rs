//! Places for nodes in layers, so that most arrows point to the right.

use std::collections::{BTreeMap, BTreeSet};

/// A thing in the picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What tells it from others.
    pub key: String,
    /// Its first line.
    pub title: String,
    /// What has one colour.
    pub group: String,
    /// Its second line.
    pub detail: String,
    /// What follows.
    pub notes: Vec<String>,
}

/// A connection in the picture.
#[derive(Debug, Clone)]
pub struct Arrow {
    pub from: String,
    pub to: String,
    pub label: String,
}

/// Nodes with places, and what goes from which to which.
#[derive(Debug, Default)]
pub struct Layout {
    pub nodes: Vec<Node>,
    /// Layers from left to right, each from top to bottom: indices of nodes, and above those the
    /// places where arrows pass through.
    pub layers: Vec<Vec<usize>>,
    /// Where an arrow passes through the layers between its ends.
    pub passes: BTreeMap<(usize, usize), Vec<usize>>,
    /// From, to, and the labels of all connections between them.
    pub arrows: BTreeMap<(usize, usize), BTreeSet<String>>,
}

impl Layout {
    /// Arrows between things that are no nodes are left out.
    pub fn of(nodes: Vec<Node>, arrows: Vec<Arrow>) -> Self {
        let indices: BTreeMap<String, usize> =
            nodes.iter().enumerate().map(|(i, it)| (it.key.clone(), i)).collect();
        let mut layout = Self { nodes, ..Self::default() };
        for arrow in arrows {
            let (Some(from), Some(to)) = (indices.get(&arrow.from), indices.get(&arrow.to)) else { continue };
            layout.arrows.entry((*from, *to)).or_default().insert(arrow.label);
        }
        let forward = layout.forward();
        layout.layers = layers(layout.nodes.len(), &forward);
        let steps = layout.pass_through();
        for _ in 0..8 {
            sort_layers(&mut layout.layers, &steps);
        }
        layout
    }

    /// Gives arrows a place of their own in each layer that they cross: otherwise they would go on
    /// behind its nodes. Returns all arrows, step by step.
    fn pass_through(&mut self) -> Vec<(usize, usize)> {
        let mut rank = vec![0; self.nodes.len()];
        for (number, layer) in self.layers.iter().enumerate() {
            layer.iter().for_each(|node| rank[*node] = number);
        }
        let mut next = self.nodes.len();
        let mut steps = Vec::new();
        for (from, to) in self.arrows.keys() {
            let mut passes = Vec::new();
            for layer in rank[*from] + 1..rank[*to].max(rank[*from] + 1) {
                self.layers[layer].push(next);
                passes.push(next);
                next += 1;
            }
            let stops: Vec<usize> = std::iter::once(*from).chain(passes.iter().copied()).chain([*to]).collect();
            steps.extend(stops.windows(2).map(|it| (it[0], it[1])));
            self.passes.insert((*from, *to), passes);
        }
        steps
    }

    /// The arrows without those that close a circle.
    fn forward(&self) -> Vec<(usize, usize)> {
        let mut targets: Vec<Vec<usize>> = vec![vec![]; self.nodes.len()];
        let mut callers = vec![0_usize; self.nodes.len()];
        for (from, to) in self.arrows.keys() {
            targets[*from].push(*to);
            callers[*to] += 1;
        }
        // Whoever is called least and calls most is furthest to the left.
        let mut starts: Vec<usize> = (0..self.nodes.len()).collect();
        starts.sort_by_key(|it| (callers[*it], std::cmp::Reverse(targets[*it].len())));
        let mut state = vec![State::New; self.nodes.len()];
        let mut kept = vec![];
        for start in starts {
            visit(start, &targets, &mut state, &mut kept);
        }
        kept
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    OnPath,
    Done,
}

/// Depth first, on a stack of its own: a chain of workloads may be long.
fn visit(start: usize, targets: &[Vec<usize>], state: &mut [State], kept: &mut Vec<(usize, usize)>) {
    if state[start] != State::New {
        return;
    }
    state[start] = State::OnPath;
    let mut path = vec![(start, 0)];
    while let Some((node, next)) = path.last_mut() {
        let Some(target) = targets[*node].get(*next).copied() else {
            state[*node] = State::Done;
            path.pop();
            continue;
        };
        *next += 1;
        if state[target] != State::OnPath {
            kept.push((*node, target));
        }
        if state[target] == State::New {
            state[target] = State::OnPath;
            path.push((target, 0));
        }
    }
}

/// Each node one layer right of the last one that calls it.
fn layers(count: usize, forward: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut rank = vec![0_usize; count];
    // Without circles this ends after as many rounds as the longest path has arrows.
    loop {
        let mut moved = false;
        for (from, to) in forward {
            if rank[*to] <= rank[*from] {
                rank[*to] = rank[*from] + 1;
                moved = true;
            }
        }
        if !moved {
            break;
        }
    }
    let mut layers = vec![vec![]; rank.iter().max().map_or(0, |it| it + 1)];
    for (node, rank) in rank.into_iter().enumerate() {
        layers[rank].push(node);
    }
    layers
}

/// Moves each node to the mean height of its neighbours: fewer arrows cross.
fn sort_layers(layers: &mut [Vec<usize>], steps: &[(usize, usize)]) {
    let mut height: BTreeMap<usize, f64> = BTreeMap::new();
    for layer in layers.iter() {
        for (i, node) in layer.iter().enumerate() {
            height.insert(*node, (i as f64 + 0.5) / layer.len() as f64);
        }
    }
    let mut neighbours: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    for (from, to) in steps {
        neighbours.entry(*from).or_default().push(height[to]);
        neighbours.entry(*to).or_default().push(height[from]);
    }
    let mean = |node: &usize| {
        let all = neighbours.get(node).map_or(&[][..], Vec::as_slice);
        if all.is_empty() { height[node] } else { all.iter().sum::<f64>() / all.len() as f64 }
    };
    for layer in layers {
        layer.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(arrows: &[(&str, &str)]) -> Layout {
        let node = |key: &str| Node {
            key: key.into(),
            title: key.into(),
            group: String::new(),
            detail: String::new(),
            notes: vec![],
        };
        let keys: BTreeSet<&str> = arrows.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let arrow = |(a, b): &(&str, &str)| Arrow { from: (*a).into(), to: (*b).into(), label: "x".into() };
        Layout::of(keys.into_iter().map(node).collect(), arrows.iter().map(arrow).collect())
    }

    fn names(layout: &Layout) -> Vec<Vec<&str>> {
        let key = |it: &usize| Some(&*layout.nodes.get(*it)?.key);
        layout.layers.iter().map(|it| it.iter().filter_map(key).collect()).collect()
    }

    #[test]
    fn callers_stand_left_of_those_they_call() {
        let found = layout(&[("web", "cart"), ("cart", "db"), ("web", "db"), ("internet", "web")]);
        assert_eq!(names(&found), [["internet"], ["web"], ["cart"], ["db"]]);
    }

    #[test]
    fn an_arrow_has_a_place_in_each_layer_that_it_crosses() {
        let found = layout(&[("a", "b"), ("b", "c"), ("c", "d"), ("a", "d"), ("d", "a")]);
        let passes = |from: usize, to: usize| found.passes[&(from, to)].len();
        assert_eq!((passes(0, 1), passes(0, 3), passes(3, 0)), (0, 2, 0));
        assert_eq!(found.layers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 2, 1]);
    }

    #[test]
    fn circles_end() {
        let found = layout(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]);
        assert_eq!(found.layers.iter().map(Vec::len).sum::<usize>(), 4);
        assert_eq!(found.arrows.len(), 4);
    }
}
