//! Nothing goes wrong but that nodes stop and start.

use crate::cluster::{Cluster, LONG, Node};
use slackline_consensus::Health;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn four_validators_decide_the_same_blocks_and_a_follower_gets_them() {
    let cluster = Cluster::new(4, 1);
    let nodes = cluster.start_all().await;
    for node in &nodes {
        node.reach(10).await;
    }
    cluster.check(&nodes.iter().collect::<Vec<_>>(), 10);

    let status = nodes[0].handle.status().await;
    assert!(status.height >= 10 && status.decided >= 10, "{status:?}");
    assert_eq!(status.validator, Some(cluster.address(0).0));
    assert!(status.peers >= 3, "{status:?}");
    assert!(status.step.is_some());
    assert_eq!(nodes[4].handle.status().await.validator, None);
    let metrics = nodes[1].handle.metrics();
    let name = "malachitebft_core_consensus_node_safety_failure";
    let safety = format!("{name}{{moniker=\"{}\"}} 0", cluster.moniker(1));
    assert!(metrics.contains(&safety), "{metrics}");
    for node in &nodes {
        assert_eq!(node.handle.health(), Health::Ok);
        node.stop().await;
        assert!(matches!(node.handle.health(), Health::Stopped(_)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_many_parts_are_decided() {
    let mut cluster = Cluster::new(4, 0);
    cluster.payload = 1_500_000;
    let nodes = cluster.start_all().await;
    for node in &nodes {
        node.reach(3).await;
    }
    cluster.check(&nodes.iter().collect::<Vec<_>>(), 3);
    for node in &nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_alone_decides_at_its_interval() {
    let mut cluster = Cluster::new(1, 0);
    cluster.interval_ms = 100;
    let node = cluster.start(0).await;
    node.reach(1).await;
    let start = tokio::time::Instant::now();
    node.reach(6).await;
    // Not faster: a lower bound holds on slow machines too.
    assert!(
        start.elapsed() >= Duration::from_millis(350),
        "{:?}",
        start.elapsed()
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_stopped_catches_up_and_takes_part() {
    let cluster = Cluster::new(4, 0);
    let mut nodes = cluster.start_all().await;
    for node in &nodes {
        node.reach(3).await;
    }
    nodes[3].stop().await;
    let left = *nodes[3].handle.decided().borrow();
    nodes[0].reach(left + 20).await;
    nodes[3] = cluster.start(3).await;
    assert_eq!(
        *nodes[3].handle.decided().borrow(),
        left,
        "it starts where it was"
    );
    nodes[3].reach(left + 20).await;
    // With another one gone, its vote is needed.
    nodes[2].stop().await;
    let now = *nodes[0].handle.decided().borrow();
    for node in [&nodes[0], &nodes[1], &nodes[3]] {
        node.reach(now + 5).await;
    }
    cluster.check(&[&nodes[0], &nodes[1], &nodes[3]], now + 5);
    for node in [&nodes[0], &nodes[1], &nodes[3]] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_stopped_at_once_go_on_where_they_were() {
    let cluster = Cluster::new(4, 0);
    let mut nodes = cluster.start_all().await;
    let mut height = 0;
    for _ in 0..3 {
        for node in &nodes {
            node.reach(height + 3).await;
        }
        let stop = |node: &Node| {
            let handle = &node.handle;
            let (mut decided, within) = (handle.decided(), LONG);
            let last = *decided.borrow_and_update();
            (last, within)
        };
        height = nodes.iter().map(|node| stop(node).0).max().unwrap();
        let [a, b, c, d] = &nodes[..] else {
            unreachable!()
        };
        tokio::join!(a.stop(), b.stop(), c.stop(), d.stop());
        nodes = cluster.start_all().await;
    }
    for node in &nodes {
        node.reach(height + 3).await;
    }
    cluster.check(&nodes.iter().collect::<Vec<_>>(), height + 3);
    for node in &nodes {
        node.stop().await;
    }
}
