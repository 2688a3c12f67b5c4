//! Something goes wrong.

use crate::cluster::{Cluster, Node};
use slackline_consensus::guard::{OpenError, Place, Step};
use slackline_consensus::{Health, Signature, StartError};
use std::sync::atomic::Ordering;

#[tokio::test(flavor = "multi_thread")]
async fn a_proposer_whose_blocks_are_invalid_is_passed_over() {
    let cluster = Cluster::new(4, 0);
    let nodes = cluster.start_all().await;
    nodes[0].reach(1).await;
    nodes[2].chain.lies.store(true, Ordering::SeqCst);
    let liar = cluster.address(2).0.0;
    let start = *nodes[0].handle.decided().borrow();
    // Until it has tried, and five heights on.
    let mut height = start + 10;
    loop {
        nodes[0].reach(height).await;
        if nodes[0].chain.invalid.load(Ordering::SeqCst) > 0 {
            break;
        }
        height += 1;
    }
    let last = height + 5;
    for node in &nodes {
        node.reach(last).await;
    }
    cluster.check(&nodes.iter().collect::<Vec<_>>(), last);
    // A block of its may have been on its way when it began to lie.
    for height in start + 2..=last {
        assert_ne!(
            nodes[0].chain.read(height).unwrap().0.maker,
            liar,
            "height {height}"
        );
    }
    for node in &nodes {
        assert_eq!(node.handle.health(), Health::Ok);
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_stops_one_and_not_the_others() {
    let cluster = Cluster::new(4, 0);
    let mut nodes = cluster.start_all().await;
    for node in &nodes {
        node.reach(2).await;
    }
    nodes[1].chain.broken.store(true, Ordering::SeqCst);
    let health = nodes[1].stopped().await;
    let Health::Stopped(reason) = &health else {
        panic!("{health:?}");
    };
    assert!(reason.contains("the disk is gone"), "{reason}");
    let at = *nodes[1].handle.decided().borrow();
    for node in [&nodes[0], &nodes[2], &nodes[3]] {
        node.reach(at + 5).await;
    }
    assert_eq!(*nodes[1].handle.decided().borrow(), at);
    // Repaired and started again, it is as good as new.
    nodes[1].stop().await;
    nodes[1] = cluster.start(1).await;
    nodes[1].reach(at + 5).await;
    cluster.check(&nodes.iter().collect::<Vec<_>>(), at + 5);
    for node in &nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_guard_a_validator_does_not_start() {
    let cluster = Cluster::new(4, 0);
    let node = cluster.start(0).await;
    node.stop().await;
    let guard = cluster.path(0).join("consensus/guard");
    assert!(cluster.path(0).join("consensus/wal").exists());
    let good = std::fs::read(&guard).unwrap();
    std::fs::remove_file(&guard).unwrap();
    let error = cluster.try_start(0).await.err().unwrap();
    assert!(
        matches!(error, StartError::Guard(OpenError::Missing { .. })),
        "{error}"
    );
    std::fs::write(&guard, &good[1..]).unwrap();
    let error = cluster.try_start(0).await.err().unwrap();
    assert!(
        matches!(error, StartError::Guard(OpenError::Corrupt(_))),
        "{error}"
    );
    std::fs::write(&guard, &good).unwrap();
    cluster.start(0).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_not_share_a_directory() {
    let cluster = Cluster::new(4, 0);
    let node = cluster.start(0).await;
    let error = cluster.try_start(0).await.err().unwrap();
    assert!(matches!(error, StartError::Engine(_)), "{error}");
    node.stop().await;
    cluster.start(0).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupt_log_of_the_engine_shows_and_nothing_is_signed() {
    let cluster = Cluster::new(4, 0);
    let wal = cluster.path(0).join("consensus/wal");
    let size = || std::fs::metadata(&wal).map_or(0, |file| file.len());
    // Alone it signs votes for no block, and waits. There is no event for what is in the file, so its size is asked for.
    let node = cluster.start(0).await;
    let empty = size();
    while size() < empty + 100 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    node.stop().await;
    let mut bytes = std::fs::read(&wal).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&wal, bytes).unwrap();
    let signed = cluster.guard(0).last();
    assert!(signed.is_some());

    let node = cluster.start(0).await;
    let health = node.stopped().await;
    let Health::SafetyFailure(reason) = &health else {
        panic!("{health:?}");
    };
    assert!(reason.contains("corrupt"), "{reason}");
    let others = [
        cluster.start(1).await,
        cluster.start(2).await,
        cluster.start(3).await,
    ];
    for other in &others {
        other.reach(5).await;
    }
    assert_eq!(cluster.guard(0).last(), signed);
    assert_eq!(*node.handle.decided().borrow(), 0);
    for node in others.iter().chain([&node]) {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_and_is_not_in_the_log_is_forgotten_if_the_log_is_whole() {
    let cluster = Cluster::new(4, 0);
    let wal = cluster.path(0).join("consensus/wal");
    let size = || std::fs::metadata(&wal).map_or(0, |file| file.len());
    // Alone it votes once, and waits.
    let node = cluster.start(0).await;
    while size() < 100 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    node.stop().await;
    let voted = cluster.guard(0).last().unwrap();
    // As a loss of power leaves it, between the guard and the log.
    let unsent = Place {
        step: Step::Precommit,
        ..voted
    };
    let sign = || {
        let mut guard = cluster.guard(0);
        guard.sign(unsent, [1; 32], |_| Signature([0; 64])).unwrap();
    };
    sign();
    cluster.start(0).await.stop().await;
    assert_eq!(cluster.guard(0).last(), Some(voted));
    // What was cut off may be what is missing; later it does not show any more that something was.
    sign();
    let file = std::fs::File::options().write(true).open(&wal).unwrap();
    file.set_len(size() - 1).unwrap();
    for _ in 0..2 {
        cluster.start(0).await.stop().await;
        assert_eq!(cluster.guard(0).last(), Some(unsent));
    }
}

/// Node 3, which follows, stops when the height is over, and does not follow when it is started again.
async fn sits_out(cluster: &Cluster, nodes: &mut [Node], height: u64) {
    assert!(nodes[3].handle.status().await.sits_out);
    let health = nodes[3].stopped().await;
    assert!(
        matches!(&health, Health::Stopped(reason) if reason.contains("start again")),
        "{health:?}"
    );
    assert!(*nodes[3].handle.decided().borrow() >= height);
    nodes[3].stop().await;
    nodes[3] = cluster.start(3).await;
    assert!(!nodes[3].handle.status().await.sits_out);
}

/// Makes the guard of node 3 remember a signature of a life before.
fn signed_before(cluster: &Cluster, height: u64) {
    let place = Place {
        height,
        round: 0,
        step: Step::Precommit,
    };
    let mut guard = cluster.guard(3);
    guard.sign(place, [1; 32], |_| Signature([0; 64])).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_refused_is_followed_by_a_height_that_is_sat_out() {
    let cluster = Cluster::new(4, 0);
    // As a log of the engine that was lost leaves it.
    signed_before(&cluster, 1);
    let node = cluster.start(3).await;
    assert!(!node.handle.status().await.sits_out);
    let health = node.stopped().await;
    assert!(
        matches!(&health, Health::Stopped(reason) if reason.contains("refused")),
        "{health:?}"
    );
    node.stop().await;
    let mut nodes = cluster.start_all().await;
    sits_out(&cluster, &mut nodes, 1).await;
    for node in &nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_of_the_log_that_is_lost_is_followed_by_a_height_that_is_sat_out() {
    let cluster = Cluster::new(4, 0);
    // Alone a validator votes once, and waits. One of them proposes before.
    let mut lost = None;
    for n in 0..4 {
        let node = cluster.start(n).await;
        let wal = cluster.path(n).join("consensus/wal");
        while std::fs::metadata(&wal).map_or(0, |file| file.len()) < 100 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        node.stop().await;
        let proposals = std::fs::read_dir(cluster.path(n).join("consensus/proposals")).unwrap();
        for file in proposals {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|e| e == "block") {
                std::fs::remove_file(path).unwrap();
                lost = Some(n);
            }
        }
    }
    let mut nodes = cluster.start_all().await;
    for (n, node) in nodes.iter().enumerate() {
        assert_eq!(node.handle.status().await.sits_out, lost == Some(n));
    }
    let n = lost.unwrap();
    let health = nodes[n].stopped().await;
    assert!(
        matches!(&health, Health::Stopped(reason) if reason.contains("start again")),
        "{health:?}"
    );
    nodes[n].stop().await;
    nodes[n] = cluster.start(n).await;
    assert!(!nodes[n].handle.status().await.sits_out);
    for node in &nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_sits_out_keeps_its_log() {
    let cluster = Cluster::new(4, 0);
    let wal = cluster.path(0).join("consensus/wal");
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(20));
    // Alone it votes once, and waits.
    let node = cluster.start(0).await;
    while std::fs::metadata(&wal).map_or(0, |file| file.len()) < 100 {
        pause().await;
    }
    node.stop().await;
    let log = std::fs::read(&wal).unwrap();
    let mut guard = cluster.guard(0);
    let voted = guard.last().unwrap();
    guard
        .sign(voted, [1; 32], |_| Signature([0; 64]))
        .unwrap_err();
    let node = cluster.start(0).await;
    // It has a step once the engine has done to its log what it does to those of followers.
    loop {
        let status = node.handle.status().await;
        assert!(status.sits_out);
        if status.step.is_some() {
            break;
        }
        pause().await;
    }
    node.stop().await;
    assert_eq!(std::fs::read(&wal).unwrap(), log);
    cluster.guard(0).forgive().unwrap();
    let node = cluster.start(0).await;
    assert!(!node.handle.status().await.sits_out);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_chain_older_than_its_guard_a_validator_follows_until_it_is_past_that() {
    let cluster = Cluster::new(4, 0);
    // As a restored backup of the database leaves it.
    signed_before(&cluster, 6);
    let mut nodes = cluster.start_all().await;
    sits_out(&cluster, &mut nodes, 6).await;
    for node in &nodes {
        node.stop().await;
    }
}
